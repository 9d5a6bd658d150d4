import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { seededRandom } from '../../src/base/random.ts'
import type { FaultModel } from '../../src/raft/types.ts'
import { People } from '../../src/sim/people.ts'
import { startCluster, type TestCluster } from '../support/cluster.ts'
import { statusAt } from '../support/fail-stop.ts'
import type { Network } from '../support/netns.ts'
import { checkSameState } from '../support/state.ts'
import { carryOut, restore, sleep, SmallDisk, type Ground } from './faults.ts'
import {
  crashKinds,
  describeRound,
  hitKinds,
  mostHit,
  networkKinds,
  planRound,
  type PlanOptions,
} from './plan.ts'
import { checkKept, createRealWorld, type Kept } from './world.ts'

export interface TortureOptions {
  readonly minutes: number
  /** Of the first round; each round has the next one. */
  readonly seed: number
  readonly replicas: number
  readonly faultModel: FaultModel
  /** Where data, logs and the record of the run go. */
  readonly folder: string
  /** Null: only what can be done to processes is done. */
  readonly network: Network | null
  /** Replicas and clients speak TLS, with certificates of the cluster's authority. */
  readonly tls: boolean
  /** The replica set changes, too. */
  readonly changesMembers: boolean
  readonly people: number
  /** Mean time between two acts of a person. */
  readonly pauseMs: number
  readonly roundMs: number
  readonly say: (line: string) => void
  /** Ends the run early. */
  readonly signal: AbortSignal
}

export interface TortureResult {
  /** Null when all was as it must be. */
  readonly violation: TortureViolation | null
  readonly summary: string
}

export interface TortureViolation {
  readonly rule: string
  readonly message: string
  /** Of the round that it happened in. */
  readonly seed: number
  readonly plan: readonly string[]
}

/** While no more fail than may, somebody must be told at least this often that a message is sent. */
const longestSilenceMs = 20_000
/** Shorter ones are not worth a line in the record. */
const notableSilenceMs = 1000
/** So long may it take until nothing is under way, once all faults are over. */
const settleMs = 120_000
/** After so many rounds all replicas are killed at once, and their states compared. */
const roundsBetweenComparisons = 4

/** Puts a cluster of real processes to the test, round after round, until the time is over or a rule is broken. */
export async function torture(options: TortureOptions): Promise<TortureResult> {
  mkdirSync(options.folder, { recursive: true })
  const run = new Run(options)
  try {
    await run.run()
  } catch (error) {
    run.fail('no exception', error instanceof Error ? (error.stack ?? error.message) : String(error))
  } finally {
    await run.close()
  }
  return { violation: run.violation, summary: run.summary() }
}

class Run {
  violation: TortureViolation | null = null
  private readonly options: TortureOptions
  private readonly startedMs = performance.now()
  private readonly ended = new AbortController()
  private readonly counts = new Map<string, number>()
  private readonly smallDisks = new Map<number, SmallDisk>()
  private readonly seats = new Map<number, number>()
  private readonly kept: Kept[] = []
  private readonly signal: AbortSignal
  private cluster: TestCluster | null = null
  private people: People | null = null
  private seed: number
  private plan: readonly string[] = []
  private rounds = 0
  /** Of the rounds that are over. */
  private answered = 0
  private acknowledged = 0
  private unknown = 0
  private roundIsOver = true
  private undecided = 0
  private longestSilenceMs = 0
  private copies = 0
  private mostMemoryMib = 0
  private progress: NodeJS.Timeout | null = null

  constructor(options: TortureOptions) {
    this.options = options
    this.seed = options.seed
    this.signal = AbortSignal.any([options.signal, this.ended.signal])
  }

  async run(): Promise<void> {
    const { options } = this
    const { replicas, network } = options
    const isFailStop = options.faultModel === 'fail-stop'
    const mayFail = isFailStop ? replicas - 1 : Math.floor((replicas - 1) / 2)
    const data = join(options.folder, 'data')
    if (network !== null && !isFailStop)
      for (let id = 1; id <= mayFail; id += 1) this.smallDisks.set(id, new SmallDisk(join(data, `r${id}`)))
    this.cluster = await startCluster({
      replicas,
      faultModel: options.faultModel,
      folder: data,
      environment: { PARLEY_LOG_MIB: '1' },
      tls: options.tls,
      ...(network === null ? {} : { hosts: network.hosts.slice(1) }),
      onCollapse: (id, how, lines) =>
        this.fail(
          'no collapse',
          `the process of r${id} ended by itself: ${how}\n${lines.slice(-20).join('\n')}`,
        ),
    })
    for (const { id } of this.cluster.replicas) this.seats.set(id, id)
    this.progress = setInterval(() => this.options.say(this.line()), 5000)
    const plan: PlanOptions = {
      replicas,
      mayFail,
      kinds: isFailStop
        ? crashKinds
        : hitKinds.filter((kind) => network !== null || (!networkKinds.has(kind) && kind !== 'fullDisk')),
      smallDisks: [...this.smallDisks.keys()],
      hasNetwork: network !== null && !isFailStop,
      changesMembers: options.changesMembers && !isFailStop,
      durationMs: options.roundMs,
    }
    const endMs = this.startedMs + options.minutes * 60_000
    while (performance.now() < endMs && !this.signal.aborted) {
      await this.round(this.cluster, plan)
      if (this.violation !== null || this.signal.aborted) return
      this.rounds += 1
      this.seed += 1
      if (this.rounds % roundsBetweenComparisons === 0) await this.compare(this.cluster)
    }
    if (this.signal.aborted) return
    await checkKept(this.kept, this.cluster.addresses, (rule, message) => this.fail(rule, message))
    await this.compare(this.cluster)
  }

  fail(rule: string, message: string): void {
    if (this.violation !== null || this.options.signal.aborted) return
    this.violation = { rule, message, seed: this.seed, plan: this.plan }
    this.note(`VIOLATED: ${rule}: ${message}`)
    this.ended.abort()
  }

  async close(): Promise<void> {
    if (this.progress !== null) clearInterval(this.progress)
    this.people?.close()
    if (this.violation !== null && this.people !== null)
      writeFileSync(join(this.options.folder, 'history.ndjson'), [...this.people.record(), ''].join('\n'))
    if (this.violation !== null)
      writeFileSync(join(this.options.folder, 'replicas.txt'), (this.cluster?.lines ?? []).join('\n'))
    await this.cluster?.close()
  }

  summary(): string {
    const hits = [...this.counts].map(([kind, count]) => `${kind} ${count}`).join(', ')
    return [
      `${this.clock()} min, ${this.rounds} rounds, ${this.answered} calls answered, ${this.acknowledged} messages acknowledged, ${this.unknown} outcomes unknown`,
      `longest time without an acknowledgement while no more failed than may: ${(this.longestSilenceMs / 1000).toFixed(1)} s`,
      `histories too hard to decide: ${this.undecided}`,
      `copies of the state sent: ${this.copies}; most memory of a replica: ${this.mostMemoryMib} MiB`,
      `hits: ${hits || 'none'}`,
    ].join('\n')
  }

  private async round(cluster: TestCluster, options: PlanOptions): Promise<void> {
    const random = seededRandom(this.seed)
    const round = planRound(random, { ...options, smallDisks: seatsOf(this.seats, this.smallDisks) })
    this.plan = describeRound(round)
    this.note(`round ${this.rounds + 1}, seed ${this.seed}\n${this.plan.join('\n')}`)
    const world = createRealWorld({
      addresses: cluster.addresses,
      random,
      fail: (rule, message) => this.fail(rule, message),
      note: (text) => this.note(text),
    })
    const people = new People(world, {
      people: this.options.people,
      pauseMs: this.options.pauseMs,
      prefix: `s${this.seed}`,
      rooms: ['lobby', 'hall'],
      poison: null,
    })
    this.people?.close()
    this.people = people
    this.roundIsOver = false
    const ground: Ground = {
      cluster,
      network: this.options.network,
      smallDisks: this.smallDisks,
      seats: this.seats,
      random,
      signal: this.signal,
      untilSound: (hit) => this.untilSound(cluster, hit, options.mayFail - hit.size),
      note: (what) => this.note(what),
      count: (kind) => this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1),
      fail: (rule, message) => this.fail(rule, message),
    }
    // All talk before anything goes wrong, and again when all is over.
    const enough = 4 * this.options.people
    await this.until('enough messages are acknowledged', () => people.acknowledged >= enough)
    const watch = mostHit(round) <= options.mayFail ? this.watch(people) : null
    try {
      await carryOut(round, ground)
    } finally {
      await restore(ground)
      if (watch !== null) clearInterval(watch)
    }
    const before = people.acknowledged
    await this.until('enough messages are acknowledged', () => people.acknowledged >= before + enough)
    people.stop()
    await this.until('nothing is under way', () => people.idle)
    if (!this.signal.aborted) await people.finish()
    if (!this.signal.aborted) this.undecided += people.check().length
    this.roundIsOver = true
    this.answered += people.answered
    this.acknowledged += people.acknowledged
    this.unknown += people.unknown
    this.kept.push(...world.kept)
  }

  /** In the fail-stop model a replica that has started again counts only once the others have let it in again. */
  private async untilSound(cluster: TestCluster, hit: ReadonlySet<number>, mayFail: number): Promise<void> {
    if (this.options.faultModel !== 'fail-stop') return
    const sound = cluster.replicas.filter(({ id }) => !hit.has(id))
    const endMs = performance.now() + settleMs
    while (!this.signal.aborted) {
      const said = await Promise.all(sound.map(({ http }) => statusAt(http)))
      if (said.every((status) => status !== null && status.quorum && status.mayFail >= mayFail)) return
      if (performance.now() > endMs)
        return this.fail(
          'progress',
          `${settleMs / 1000} s later not ${mayFail} more replicas may fail: ${JSON.stringify(said)}`,
        )
      await sleep(20, this.signal)
    }
  }

  /** Sees to it that messages are acknowledged all the time. */
  private watch(people: People): NodeJS.Timeout {
    let acknowledged = 0
    let sinceMs = performance.now()
    let lookedMs = sinceMs
    return setInterval(() => {
      const nowMs = performance.now()
      // Time in which this process did not run tells nothing of the replicas.
      if (nowMs - lookedMs > 500) sinceMs += nowMs - lookedMs
      lookedMs = nowMs
      if (people.acknowledged === acknowledged) {
        // Until the people have signed up nobody sends.
        if (acknowledged === 0) return
        this.longestSilenceMs = Math.max(this.longestSilenceMs, nowMs - sinceMs)
        if (nowMs - sinceMs > longestSilenceMs)
          this.fail('available', `nobody was told for ${longestSilenceMs / 1000} s that a message is sent`)
        return
      }
      if (nowMs - sinceMs > notableSilenceMs)
        this.note(`for ${((nowMs - sinceMs) / 1000).toFixed(1)} s nobody was told that a message is sent`)
      acknowledged = people.acknowledged
      sinceMs = nowMs
    }, 20)
  }

  /** Errors of the program itself, which a replica has noted in its log and lived through. */
  private checkLogs(cluster: TestCluster): void {
    this.copies = 0
    for (const { id } of cluster.replicas) {
      const log = readFileSync(join(cluster.dataOf(id), 'parley.log'), 'utf8')
      this.copies += log.split('"this replica is sent a copy of the state"').length - 1
      const line = /^.*(?:Type|Range|Reference|Syntax|Assertion)Error.*$/m.exec(log)?.[0]
      if (line !== undefined) this.fail('no exception', `r${id} noted: ${line}`)
    }
  }

  /** Kills all replicas and compares their states; then they start again. */
  private async compare(cluster: TestCluster): Promise<void> {
    this.note('all are killed, and their states compared')
    for (const pid of cluster.running.values())
      this.mostMemoryMib = Math.max(this.mostMemoryMib, peakMemoryMib(pid))
    this.people?.close()
    try {
      const same = await checkSameState(cluster)
      this.note(`${same} replicas had applied the same`)
    } catch (error) {
      return this.fail('same state', error instanceof Error ? error.message : String(error))
    }
    this.checkLogs(cluster)
    cluster.start(...cluster.replicas.map(({ id }) => id))
    await cluster.untilServing()
  }

  private async until(what: string, condition: () => boolean): Promise<void> {
    const endMs = performance.now() + settleMs
    while (!condition() && !this.signal.aborted) {
      if (performance.now() > endMs)
        return this.fail(
          'progress',
          `${settleMs / 1000} s after all faults were over: waited in vain until ${what}`,
        )
      await sleep(10, this.signal)
    }
  }

  private note(text: string): void {
    appendFileSync(join(this.options.folder, 'record.txt'), `${this.clock()} ${text}\n`)
  }

  private line(): string {
    const { cluster } = this
    const people = this.roundIsOver ? null : this.people
    const serving = (cluster?.replicas ?? []).filter(({ id }) => cluster?.serves(id) === true).length
    return [
      `${this.clock()} round ${this.rounds + 1} (seed ${this.seed}): ${serving} of ${this.options.replicas} serve`,
      `${this.acknowledged + (people?.acknowledged ?? 0)} messages acknowledged`,
      `${this.unknown + (people?.unknown ?? 0)} outcomes unknown`,
      `${[...this.counts.values()].reduce((sum, count) => sum + count, 0)} hits`,
    ].join(', ')
  }

  /** Minutes and seconds since the start. */
  private clock(): string {
    const seconds = (performance.now() - this.startedMs) / 1000
    return `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, '0')}`
  }
}

/** The seats of replicas whose disk can be made full. */
function seatsOf(seats: ReadonlyMap<number, number>, disks: ReadonlyMap<number, SmallDisk>): number[] {
  return [...seats].filter(([, replica]) => disks.has(replica)).map(([seat]) => seat)
}

/** The most that a process has held in memory so far; 0 where the system does not tell. */
function peakMemoryMib(pid: number): number {
  const path = `/proc/${pid}/status`
  const peak = existsSync(path) ? /^VmHWM:\s*([0-9]+) kB$/m.exec(readFileSync(path, 'utf8'))?.[1] : undefined
  return Math.round(Number(peak ?? 0) / 1024)
}
