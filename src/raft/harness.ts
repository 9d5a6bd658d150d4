import { assert } from '../base/assert.ts'
import type { ReplicaId } from '../base/ids.ts'
import { seededRandom } from '../base/random.ts'
import { RaftCore } from './core.ts'
import type {
  Configuration,
  CoreOptions,
  Entry,
  FaultModel,
  HardState,
  Index,
  Input,
  LogReader,
  Message,
  Ready,
  SnapshotPoint,
  Term,
} from './types.ts'

/*
 * A host for the core as the tests need it: log, disk and state machine in memory, everything that takes time under the test's control.
 */

export const defaultOptions: Omit<CoreOptions, 'self' | 'incarnation'> = {
  heartbeatTicks: 3,
  electionTicks: 15,
  maxAppendBytes: 1024 * 1024,
  maxInflightBytes: 16 * 1024 * 1024,
  maxInflightMessages: 64,
  maxUncommittedBytes: 64 * 1024 * 1024,
}

export function configurationOf(
  voters: readonly ReplicaId[],
  learners: readonly ReplicaId[] = [],
  faultModel: FaultModel = 'majority',
): Configuration {
  const members = [
    ...voters.map((id) => ({ id, voter: true, address: `a${id}` })),
    ...learners.map((id) => ({ id, voter: false, address: `a${id}` })),
  ]
  return { faultModel, members: members.sort((a, b) => a.id - b.id) }
}

export const noConfiguration: Configuration = { faultModel: 'majority', members: [] }

/** A log in memory. */
export class MemoryLog implements LogReader {
  start: SnapshotPoint
  private kept: Entry[]

  constructor(start: SnapshotPoint, entries: readonly Entry[] = []) {
    this.start = start
    this.kept = [...entries]
  }

  get lastIndex(): Index {
    return this.start.index + this.kept.length
  }

  get all(): readonly Entry[] {
    return this.kept
  }

  termAt(index: Index): Term | null {
    if (index === this.start.index) return this.start.term
    return this.kept[index - this.start.index - 1]?.term ?? null
  }

  entryAt(index: Index): Entry | undefined {
    return this.kept[index - this.start.index - 1]
  }

  entries(from: Index, to: Index, maxBytes: number): readonly Entry[] {
    const found: Entry[] = []
    let bytes = 0
    for (const entry of this.kept.slice(from - this.start.index - 1, to - this.start.index)) {
      bytes += entry.kind === 'data' ? entry.data.length : 0
      if (found.length > 0 && bytes > maxBytes) break
      found.push(entry)
    }
    return found
  }

  write(entries: readonly Entry[]): void {
    const first = entries[0]
    if (first === undefined) return
    assert(first.index > this.start.index && first.index <= this.lastIndex + 1, 'a gap is written')
    this.kept.length = first.index - this.start.index - 1
    this.kept.push(...entries)
  }

  compact(point: SnapshotPoint): void {
    if (point.index <= this.start.index) return
    assert(this.termAt(point.index) === point.term, 'compacted at what the log does not hold')
    this.kept = this.kept.slice(point.index - this.start.index)
    this.start = point
  }

  reset(point: SnapshotPoint): void {
    this.start = point
    this.kept = []
  }

  copy(): MemoryLog {
    return new MemoryLog(this.start, this.kept)
  }
}

/** What the state machine has made of the log: one text per index, from 1. */
export type History = readonly string[]

export interface Snapshot {
  readonly point: SnapshotPoint
  readonly history: History
}

type Write =
  | {
      readonly kind: 'append'
      readonly hardState: HardState | null
      readonly entries: readonly Entry[]
      readonly after: readonly Message[]
    }
  | { readonly kind: 'reset'; readonly snapshot: Snapshot }

/** What survives a crash. */
interface Durable {
  hardState: HardState
  log: MemoryLog
}

/** One replica: its core, and a host that does what Ready says. Writes wait until `flush`. */
export class Host {
  readonly id: ReplicaId
  readonly durable: Durable
  core: RaftCore
  log: MemoryLog
  history: string[] = []
  /** The configuration at each index where one was applied. */
  configurations: { readonly index: Index; readonly configuration: Configuration }[]
  writes: Write[] = []
  /** Messages that may leave. */
  outbox: Message[] = []
  readies: Ready[] = []
  offers: { readonly from: ReplicaId; readonly point: SnapshotPoint }[] = []
  wanted: ReplicaId[] = []
  private readonly options: Omit<CoreOptions, 'incarnation'>
  private readonly initial: Configuration
  incarnation = 1
  private seed: number

  constructor(id: ReplicaId, initial: Configuration, { options = {}, seed = id, ...rest }: HostOptions = {}) {
    this.id = id
    this.initial = initial
    this.options = { ...defaultOptions, ...options, self: id }
    this.seed = seed
    const start = { index: 0, term: 0, configuration: noConfiguration }
    this.durable = {
      hardState: rest.hardState ?? { term: 0, vote: 0 },
      log: new MemoryLog(start, rest.entries),
    }
    this.configurations = [{ index: 0, configuration: initial }]
    this.log = this.durable.log.copy()
    this.core = this.newCore()
  }

  get appliedIndex(): Index {
    return this.history.length
  }

  step(input: Input): this {
    this.core.step(input)
    return this
  }

  tick(count = 1): this {
    for (let i = 0; i < count; i += 1) this.core.step({ kind: 'tick' })
    return this
  }

  propose(...texts: readonly string[]): this {
    const data = texts.map((text) => new TextEncoder().encode(text))
    return this.step({ kind: 'propose', data })
  }

  receive(message: Message): this {
    return this.step({ kind: 'message', message })
  }

  /** Takes what the core has to say and does it, as far as it needs no disk. */
  ready(): Ready | null {
    const ready = this.core.takeReady()
    if (ready === null) return null
    this.readies.push(ready)
    this.log.write(ready.entries)
    if (ready.hardState !== null || ready.entries.length > 0)
      this.writes.push({
        kind: 'append',
        hardState: ready.hardState,
        entries: ready.entries,
        after: ready.sendAfterWrite,
      })
    else if (this.writes.length === 0) this.outbox.push(...ready.sendAfterWrite)
    else this.writes.push({ kind: 'append', hardState: null, entries: [], after: ready.sendAfterWrite })
    this.outbox.push(...ready.send)
    if (ready.snapshotOffered !== null) this.offers.push(ready.snapshotOffered)
    this.wanted.push(...ready.snapshotsWanted)
    this.apply(ready.commitIndex)
    return ready
  }

  /** Brings the first `count` writes that wait to the disk. */
  flush(count = this.writes.length): this {
    for (const write of this.writes.splice(0, count)) {
      if (write.kind === 'reset') {
        this.durable.log.reset(write.snapshot.point)
        continue
      }
      this.durable.log.write(write.entries)
      if (write.hardState !== null) this.durable.hardState = write.hardState
      const last = write.entries.at(-1)
      this.core.step({
        kind: 'persisted',
        index: last?.index ?? 0,
        term: last?.term ?? 0,
        hardState: write.hardState,
      })
      this.outbox.push(...write.after)
    }
    return this
  }

  /** Does everything until the core has nothing to say; returns what leaves. */
  settle(): readonly Message[] {
    while (this.ready() !== null || this.writes.length > 0) this.flush()
    return this.outbox.splice(0)
  }

  takeSnapshot(): Snapshot {
    const index = this.appliedIndex
    const term = this.log.termAt(index)
    assert(term !== null, 'the log lacks what was applied', { index })
    return { point: { index, term, configuration: this.configurationAt(index) }, history: [...this.history] }
  }

  /** Takes a snapshot over when it is still of use. */
  install(snapshot: Snapshot): boolean {
    const { point } = snapshot
    this.offers = this.offers.filter((offer) => offer.point !== point)
    if (!this.core.needsSnapshot(point)) return false
    this.log.reset(point)
    this.history = [...snapshot.history]
    this.configurations = [{ index: point.index, configuration: point.configuration }]
    this.writes.push({ kind: 'reset', snapshot })
    this.core.step({ kind: 'snapshotInstalled', point })
    return true
  }

  /** Drops the log up to `index`, which has been applied. */
  compact(index: Index): void {
    // What is not on disk yet must stay.
    this.flush()
    const term = this.log.termAt(index)
    if (term === null || index > this.appliedIndex) return
    const point = { index, term, configuration: this.configurationAt(index) }
    this.log.compact(point)
    this.durable.log.compact(point)
  }

  /** Ends the process: what was not flushed is lost, except the first `survivors` writes. The state goes back to what it was at `appliedIndex`. */
  restart({
    survivors = 0,
    appliedIndex = this.appliedIndex,
  }: { readonly survivors?: number; readonly appliedIndex?: Index } = {}): this {
    for (const [position, write] of this.writes.entries()) {
      // The state with a snapshot is on disk before it is taken over, so the log follows it at start.
      if (write.kind === 'reset') this.durable.log.reset(write.snapshot.point)
      else if (position < survivors) {
        this.durable.log.write(write.entries)
        if (write.hardState !== null) this.durable.hardState = write.hardState
      } else if (!this.writes.slice(position).some(({ kind }) => kind === 'reset')) break
    }
    this.writes = []
    this.outbox = []
    this.offers = []
    this.wanted = []
    const { start } = this.durable.log
    this.history.length = Math.max(appliedIndex, start.index)
    this.configurations = this.configurations.filter(({ index }) => index <= this.appliedIndex)
    this.log = this.durable.log.copy()
    this.incarnation += 1
    this.core = this.newCore()
    return this
  }

  configurationAt(index: Index): Configuration {
    return this.configurations.findLast((at) => at.index <= index)?.configuration ?? this.initial
  }

  private newCore(): RaftCore {
    return new RaftCore(
      { ...this.options, incarnation: this.incarnation },
      this.log,
      {
        hardState: this.durable.hardState,
        configuration: this.initial,
        appliedIndex: this.appliedIndex,
      },
      seededRandom(this.seed * 1000 + this.incarnation - 1),
    )
  }

  private apply(commitIndex: Index): void {
    while (this.appliedIndex < commitIndex) {
      const entry = this.log.entryAt(this.appliedIndex + 1)
      assert(entry !== undefined, 'the log lacks what is committed', { index: this.appliedIndex + 1 })
      this.history.push(describe(entry))
      if (entry.kind === 'configuration')
        this.configurations.push({ index: entry.index, configuration: entry.configuration })
      this.core.step({ kind: 'applied', index: this.appliedIndex })
    }
  }
}

export interface HostOptions {
  readonly options?: Partial<CoreOptions>
  readonly seed?: number
  readonly hardState?: HardState
  readonly entries?: readonly Entry[]
}

/** Hosts and what is on its way between them. */
export class Cluster {
  readonly hosts = new Map<ReplicaId, Host>()
  network: Message[] = []
  /** `1>2`: nothing gets from 1 to 2. */
  readonly cuts = new Set<string>()
  /** Is told what each core says, before anything of it leaves. */
  onReady: (host: Host, ready: Ready) => void = () => {}

  host(id: ReplicaId): Host {
    const host = this.hosts.get(id)
    assert(host !== undefined, 'no such replica', { id })
    return host
  }

  /** A replica with the configuration that it was created with, or one that nobody knows yet. */
  add(id: ReplicaId, configuration: Configuration = noConfiguration, options: HostOptions = {}): Host {
    const host = new Host(id, configuration, options)
    this.hosts.set(id, host)
    return host
  }

  /** Does what the core of `id` says; what waits for its disk waits. */
  ready(id: ReplicaId): boolean {
    const host = this.host(id)
    const ready = host.ready()
    if (ready !== null) this.onReady(host, ready)
    this.collect(id)
    return ready !== null
  }

  flush(id: ReplicaId): void {
    this.host(id).flush()
    this.collect(id)
  }

  /** Delivers what is on its way and `wanted`, once. */
  deliver(wanted: (message: Message) => boolean = () => true): boolean {
    const taken = this.network.filter(wanted)
    this.network = this.network.filter((message) => !wanted(message))
    for (const message of taken)
      if (!this.cuts.has(`${message.from}>${message.to}`)) this.hosts.get(message.to)?.receive(message)
    return taken.length > 0
  }

  /** Lets everything happen among `ids` until they are quiet. What concerns others stays on its way. */
  settle(ids: readonly ReplicaId[] = [...this.hosts.keys()]): this {
    for (let round = 0; round < 200; round += 1) {
      let quiet = true
      for (const id of ids)
        while (this.ready(id) || this.host(id).writes.length > 0) {
          quiet = false
          this.flush(id)
        }
      if (!this.deliver(({ from, to }) => ids.includes(from) && ids.includes(to)) && quiet) return this
    }
    throw new Error('the cluster does not settle')
  }

  /** So many ticks for each of `ids`, which settle after each. */
  tick(count: number, ids: readonly ReplicaId[] = [...this.hosts.keys()]): this {
    for (let i = 0; i < count; i += 1) {
      for (const id of ids) this.host(id).tick()
      this.settle(ids)
    }
    return this
  }

  /** Makes `id` the leader of `ids`. */
  elect(id: ReplicaId, ids: readonly ReplicaId[] = [...this.hosts.keys()]): this {
    const { term } = this.host(id).core.status()
    this.host(id).receive({ kind: 'timeoutNow', from: largestReplicaId, to: id, term })
    this.settle(ids)
    assert(this.host(id).core.status().role === 'leader', 'not elected', { id })
    return this
  }

  private collect(id: ReplicaId): void {
    this.network.push(...this.host(id).outbox.splice(0))
  }
}

/** Nobody's. */
const largestReplicaId = 2 ** 31 - 1

export function clusterOf(
  voters: readonly ReplicaId[],
  { learners = [], ...host }: HostOptions & { readonly learners?: readonly ReplicaId[] } = {},
): Cluster {
  const cluster = new Cluster()
  const configuration = configurationOf(voters, learners)
  for (const id of [...voters, ...learners]) cluster.add(id, configuration, host)
  return cluster
}

/** `3/2 "text"` for an entry at index 3 of term 2. */
export function describe(entry: Entry): string {
  const place = `${entry.index}/${entry.term}`
  switch (entry.kind) {
    case 'noop':
      return `${place} noop`
    case 'configuration':
      return `${place} ${describeConfiguration(entry.configuration)}`
    case 'data':
      return `${place} "${new TextDecoder().decode(entry.data)}"`
  }
}

/** `{1 2 3 +4}`: voters 1, 2, 3 and learner 4. */
export function describeConfiguration(configuration: Configuration): string {
  return `{${configuration.members.map(({ id, voter }) => (voter ? `${id}` : `+${id}`)).join(' ')}}`
}
