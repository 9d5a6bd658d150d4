import { assert } from '../base/assert.ts'
import type { ReplicaId } from '../base/ids.ts'
import { seededRandom, type Random } from '../base/random.ts'
import { highestIdOf } from './configurations.ts'
import { configurationOf, describe, Host, noConfiguration, type Snapshot } from './harness.ts'
import type {
  ConfigurationChange,
  CoreOptions,
  FaultModel,
  Incarnation,
  Index,
  Message,
  Term,
} from './types.ts'

/*
 * Whole clusters under random schedules: messages lost, doubled and reordered, partitions, crashes that lose what was not flushed, false suspicions, membership changes,
 * hand-overs, snapshots and compaction; then everything heals. Raft's four safety properties and the linearizability of reads are checked all along, progress at the end.
 * In the `fail-stop` model there are no partitions, and who is said to be dead is dead.
 */

const largestId = 8
const tight: Partial<CoreOptions> = {
  electionTicks: 6,
  heartbeatTicks: 2,
  maxAppendBytes: 24,
  maxInflightBytes: 60,
  maxInflightMessages: 3,
  maxUncommittedBytes: 120,
}

/** How often each event comes. Every seed halves, doubles or drops some of them, so that calm schedules come as well as wild ones. */
const usualWeights = {
  deliver: 400,
  /** As if a leader had handed over, whoever it was: elections without pre-vote, against live leaders. */
  campaign: 15,
  tick: 300,
  flush: 150,
  propose: 60,
  read: 20,
  crash: 10,
  partition: 4,
  suspect: 6,
  reachable: 6,
  change: 15,
  transfer: 4,
  compact: 8,
  full: 3,
  snapshot: 30,
}
const failStopWeights: typeof usualWeights & { readonly notice: number } = {
  ...usualWeights,
  campaign: 2,
  crash: 8,
  partition: 0,
  suspect: 0,
  notice: 90,
}
type Event = keyof typeof failStopWeights

/** A message on a connection between two processes. */
interface Sent {
  readonly message: Message
  readonly from: Incarnation
  readonly to: Incarnation
}

export class RandomCluster {
  private readonly random: Random
  private readonly weights: readonly (readonly [Event, number])[]
  private readonly lossPercent: number
  private readonly disorderPercent: number
  private readonly size: number
  private readonly hosts = new Map<ReplicaId, Host>()
  private readonly down = new Set<ReplicaId>()
  private readonly faultModel: FaultModel
  private network: Sent[] = []
  /** `1 2`: which process of 2 talked to 1 last. */
  private readonly greeted = new Map<string, Incarnation>()
  private readonly snapshots = new Map<string, Snapshot>()
  /** What was committed first at each index, by whoever knew of it first. */
  private readonly committed: string[] = []
  private readonly leaders = new Map<Term, ReplicaId>()
  private readonly reads = new Map<number, Index>()
  /** Which side of a partition each replica is on. */
  private sides = new Map<ReplicaId, number>()
  private proposed = 0
  readonly counts = { elections: 0, commits: 0, reads: 0, changes: 0, snapshots: 0, restarts: 0 }

  constructor(seed: number, faultModel: FaultModel = 'majority') {
    this.random = seededRandom(seed)
    this.faultModel = faultModel
    const weights = faultModel === 'majority' ? usualWeights : failStopWeights
    this.weights = (Object.entries(weights) as [Event, number][]).map(([event, weight]) => {
      const factors = weight < 100 ? [0, 1, 1, 2, 4] : [0.3, 1, 1]
      return [event, Math.ceil(weight * (factors[this.random.below(factors.length)] ?? 1))]
    })
    this.lossPercent = (faultModel === 'majority' ? [0, 1, 5, 15] : [0, 0, 0, 1])[this.random.below(4)] ?? 0
    this.disorderPercent = [0, 5, 40][this.random.below(3)] ?? 0
    const size = 1 + this.random.below(5)
    this.size = size
    const voters = Array.from({ length: size }, (_, i) => i + 1)
    const options = this.chance(70) ? tight : { electionTicks: 6, heartbeatTicks: 2 }
    for (let id = 1; id <= largestId; id += 1)
      this.hosts.set(
        id,
        new Host(id, id <= size ? configurationOf(voters, [], faultModel) : noConfiguration, {
          options,
          seed: seed * 10 + id,
        }),
      )
  }

  run(steps: number): void {
    for (let i = 0; i < steps; i += 1) {
      this.disturb()
      if (i % 50 === 0) this.checkLogs()
    }
    this.checkLogs()
  }

  /** Everything is mended: there must be a leader, and what is proposed then must be applied everywhere. */
  heal(): void {
    this.sides.clear()
    this.down.clear()
    for (const a of this.hosts.values()) {
      a.step({ kind: 'full', full: false })
      for (const b of this.hosts.values()) {
        if (a === b) continue
        this.notice(a, b)
        a.step({ kind: 'reachable', replica: b.id })
      }
    }
    for (let i = 0; i < 300; i += 1) this.calmTick()
    const leader = this.leader()
    assert(leader !== undefined, 'there is a leader when all is well')
    const members = leader.core.status().configuration.members.map(({ id }) => this.host(id))
    const proposals = members.map((host) => {
      this.proposed += 1
      host.propose(`m${this.proposed}`)
      return `"m${this.proposed}"`
    })
    for (const host of members) this.read(host)
    for (let i = 0; i < 300; i += 1) this.calmTick()
    for (const host of members)
      for (const proposal of proposals)
        assert(
          host.history.some((entry) => entry.endsWith(proposal)),
          `${proposal} was applied at ${host.id}`,
        )
    this.checkLogs()
    same(this.reads.size, 0, 'every read was answered')
    for (const { id, voter, incarnation } of leader.core.status().configuration.members)
      if (incarnation !== undefined) same(voter, true, `${id} was taken in again`)
  }

  private disturb(): void {
    const host = this.host(1 + this.random.below(this.chance(80) ? this.size : largestId))
    if (this.down.has(host.id)) {
      if (this.chance(10)) this.down.delete(host.id)
      return
    }
    const other = 1 + this.random.below(largestId)
    switch (this.draw()) {
      case 'deliver':
        for (let i = 0; i < 3; i += 1) this.deliverOne()
        break
      case 'tick':
        this.tick(host)
        break
      case 'flush':
        this.act(host, () => host.flush(1 + this.random.below(3)))
        break
      case 'propose':
        this.propose(host)
        break
      case 'read':
        for (const each of this.hosts.values())
          if (each === host || each.core.status().role === 'leader') this.read(each)
        break
      case 'crash':
        this.crash(host)
        break
      case 'partition':
        this.partition()
        break
      case 'suspect':
        host.step({ kind: 'suspect', replica: other })
        break
      case 'reachable':
        host.step({ kind: 'reachable', replica: other })
        break
      case 'notice':
        this.notice(host, this.host(1 + this.random.below(this.size)))
        break
      case 'change':
        this.change()
        break
      case 'campaign':
        this.campaign(host.id)
        if (this.chance(50)) this.campaign(1 + this.random.below(this.size))
        break
      case 'transfer':
        host.step({ kind: 'transfer', to: other })
        break
      case 'compact': {
        const { start } = host.durable.log
        const room = host.appliedIndex - start.index
        if (room > 0) this.act(host, () => host.compact(start.index + 1 + this.random.below(room)))
        break
      }
      case 'full':
        host.step({ kind: 'full', full: this.chance(20) })
        break
      case 'snapshot':
        this.handSnapshots(host)
    }
    // Several inputs may come before the core is asked what to do.
    if (this.chance(70)) for (const each of this.hosts.values()) this.act(each, () => {})
  }

  private draw(): Event {
    let dice = this.random.below(this.weights.reduce((sum, [, weight]) => sum + weight, 0))
    for (const [event, weight] of this.weights) {
      if (dice < weight) return event
      dice -= weight
    }
    return 'tick'
  }

  /** What the core calls a quiet tick leaves it with nothing to do. */
  private tick(host: Host): void {
    const isWatched = this.chance(50) && !this.down.has(host.id)
    if (isWatched) this.act(host, () => {})
    const quiet = isWatched ? host.core.quietTicks() : 0
    host.tick()
    if (quiet === 0) return
    same(host.core.takeReady(), null, 'a quiet tick leaves nothing to do')
    assert(host.core.quietTicks() >= quiet - 1, 'ticks are as quiet as they were said to be')
  }

  private calmTick(): void {
    for (const host of this.hosts.values()) this.tick(host)
    for (let i = 0; i < 40; i += 1) {
      for (const host of this.hosts.values()) {
        this.act(host, () => host.flush())
        this.handSnapshots(host)
        this.act(host, () => {})
      }
      if (this.network.length === 0) break
      for (const sent of this.network.splice(0)) this.deliver(sent)
    }
  }

  private act(host: Host, action: () => void): void {
    if (this.down.has(host.id)) return
    action()
    let ready = host.ready()
    for (; ready !== null; ready = host.ready()) {
      for (const { id, index } of ready.reads) this.answered(id, index)
      for (const { refused } of ready.changes) if (refused === null) this.counts.changes += 1
      same(ready.regressed.length, 0, 'no disk was replaced')
      same(ready.diverged.length, 0, 'nobody went on alone')
      this.check(host)
    }
    for (const message of host.outbox.splice(0))
      this.network.push({ message, from: host.incarnation, to: this.host(message.to).incarnation })
  }

  private deliverOne(): void {
    if (this.network.length === 0) return
    const position = this.chance(this.disorderPercent) ? this.random.below(this.network.length) : 0
    const sent = this.network[position]
    assert(sent !== undefined, 'a message is there')
    if (!this.chance(this.lossPercent)) this.network.splice(position, 1)
    if (!this.chance(this.lossPercent)) this.deliver(sent)
  }

  private deliver(sent: Sent): void {
    const { from, to } = sent.message
    if (this.down.has(to) || (this.sides.get(from) ?? 0) !== (this.sides.get(to) ?? 0)) return
    const host = this.host(to)
    if (this.faultModel === 'fail-stop' && !this.isConnected(host, sent)) return
    host.receive(sent.message)
  }

  /** A connection ends with either process, and a new process greets before anything of it comes. */
  private isConnected(host: Host, { message, from, to }: Sent): boolean {
    if (to !== host.incarnation) return false
    const greeted = this.greeted.get(`${host.id} ${message.from}`) ?? 0
    if (from > greeted) this.greet(host, message.from, from)
    return from >= greeted
  }

  private greet(host: Host, replica: ReplicaId, incarnation: Incarnation): void {
    this.greeted.set(`${host.id} ${replica}`, incarnation)
    host.step({ kind: 'incarnation', replica, incarnation, lives: true })
  }

  /** What `host` can find out about `other` by dialling it. */
  private notice(host: Host, other: Host): void {
    if (this.faultModel === 'majority' || host === other) return
    const { incarnation } = other
    if (!this.down.has(other.id)) this.greet(host, other.id, incarnation)
    else host.step({ kind: 'incarnation', replica: other.id, incarnation: incarnation - 1, lives: false })
  }

  private propose(host: Host): void {
    this.proposed += 1
    host.propose(`m${this.proposed}`)
  }

  private read(host: Host): void {
    if (this.down.has(host.id)) return
    const id = this.counts.reads + host.id * 1_000_000
    this.counts.reads += 1
    this.reads.set(id, this.committed.length)
    host.step({ kind: 'readIndex', id })
  }

  private answered(id: number, index: Index | null): void {
    const least = this.reads.get(id)
    this.reads.delete(id)
    assert(
      index === null || (least !== undefined && index >= least),
      `a read that began at commit ${least} got ${index}`,
    )
  }

  private crash(host: Host): void {
    this.counts.restarts += 1
    if (this.chance(50)) this.down.add(host.id)
    for (const id of this.hosts.keys()) this.greeted.delete(`${host.id} ${id}`)
    const { start } = host.durable.log
    const lost = this.random.below(Math.max(1, host.appliedIndex - start.index + 1))
    // The state lives in an own file and may be further than the flushed log only if it was never told to be.
    host.restart({
      survivors: this.random.below(host.writes.length + 1),
      appliedIndex: host.appliedIndex - lost,
    })
    for (const id of this.reads.keys()) if (Math.floor(id / 1_000_000) === host.id) this.reads.delete(id)
  }

  private campaign(id: ReplicaId): void {
    const host = this.host(id)
    const { term } = host.core.status()
    if (!this.down.has(id)) host.receive({ kind: 'timeoutNow', from: largestId + 1, to: id, term })
  }

  private partition(): void {
    this.sides = new Map()
    if (this.chance(50)) return
    for (const id of this.hosts.keys()) this.sides.set(id, this.random.below(2))
  }

  private change(): void {
    const leader = this.leader()
    if (leader === undefined) return
    const { configuration } = leader.core.status()
    const { members } = configuration
    const picked = 1 + this.random.below(largestId)
    const member = members.find((one) => one.id === picked)
    // An id is never used again.
    const id = member?.id ?? highestIdOf(configuration) + 1
    if (id > largestId) return
    let change: ConfigurationChange
    if (member === undefined) change = { kind: 'addLearner', id, address: `a${id}` }
    else if (!member.voter) change = { kind: 'promote', id }
    else change = this.chance(50) ? { kind: 'remove', id } : { kind: 'setAddress', id, address: `b${id}` }
    leader.step({ kind: 'change', change, id: 1 })
  }

  private handSnapshots(host: Host): void {
    for (const to of host.wanted.splice(0)) {
      if (this.chance(10)) {
        host.step({ kind: 'snapshotSent', to, index: 0, ok: false })
        continue
      }
      const snapshot = host.takeSnapshot()
      this.snapshots.set(`${host.id} ${to}`, snapshot)
      host.step({ kind: 'snapshotTaken', to, point: snapshot.point })
    }
    for (const offer of host.offers.splice(0)) {
      const snapshot = this.snapshots.get(`${offer.from} ${host.id}`)
      if (snapshot?.point.index !== offer.point.index || snapshot.point.term !== offer.point.term) continue
      const installed = host.install(snapshot)
      if (installed) this.counts.snapshots += 1
      const sender = this.host(offer.from)
      if (!this.down.has(sender.id) && this.chance(80))
        sender.step({ kind: 'snapshotSent', to: host.id, index: offer.point.index, ok: installed })
    }
    // A transfer that went wrong without a trace is given up by its sender some time.
    for (const { id } of host.core.status().progress)
      if (this.chance(2)) host.step({ kind: 'snapshotSent', to: id, index: 0, ok: false })
  }

  private leader(): Host | undefined {
    let newest: Host | undefined
    for (const host of this.hosts.values()) {
      const { role, term } = host.core.status()
      if (role !== 'leader' || this.down.has(host.id)) continue
      if (newest === undefined || term > newest.core.status().term) newest = host
    }
    return newest
  }

  private host(id: ReplicaId): Host {
    const host = this.hosts.get(id)
    assert(host !== undefined, 'a host is there')
    return host
  }

  private check(host: Host): void {
    const status = host.core.status()
    if (status.role === 'leader') {
      const known = this.leaders.get(status.term)
      if (known === undefined) {
        this.counts.elections += 1
        this.leaders.set(status.term, host.id)
        for (const [position, entry] of this.committed.entries()) {
          const own = host.log.entryAt(position + 1)
          if (position + 1 > host.log.start.index)
            same(own && describe(own), entry, 'a leader has all that is committed')
        }
      } else same(known, host.id, `one leader in term ${status.term}`)
    }
    for (let index = host.log.start.index + 1; index <= status.commitIndex; index += 1) {
      const entry = host.log.entryAt(index)
      assert(entry !== undefined, 'what is committed is in the log')
      if (index > this.committed.length) {
        same(index, this.committed.length + 1, 'commits come in order')
        this.committed.push(describe(entry))
        this.counts.commits += 1
      } else same(describe(entry), this.committed[index - 1], 'one entry is committed at each index')
    }
    for (let index = host.history.length; index > Math.max(0, host.history.length - 5); index -= 1)
      same(host.history[index - 1], this.committed[index - 1], 'what is applied is the same everywhere')
  }

  private checkLogs(): void {
    const hosts = [...this.hosts.values()]
    for (const [position, a] of hosts.entries())
      for (const b of hosts.slice(position + 1)) {
        const low = Math.max(a.log.start.index, b.log.start.index)
        let agree = false
        for (let index = Math.min(a.log.lastIndex, b.log.lastIndex); index > low; index -= 1) {
          const [one, other] = [a.log.entryAt(index), b.log.entryAt(index)]
          assert(one !== undefined && other !== undefined, 'both logs hold it')
          if (one.term === other.term) agree = true
          if (agree) same(describe(one), describe(other), 'logs that agree somewhere agree before')
        }
      }
  }

  private chance(percent: number): boolean {
    return this.random.below(100) < percent
  }
}

function same<Value>(actual: Value, expected: Value, rule: string): void {
  assert(actual === expected, rule, { actual, expected })
}
