import type { Random } from '../base/random.ts'
import type { Engine } from '../log/engine.ts'
import { decodeSnapshotPoint } from '../log/engine-state.ts'
import { openLog } from '../storage/wal.ts'
import { createSimClock } from './clock.ts'
import { skewed } from './faults.ts'
import type { App, AppContext, AppStore, Cluster, Machine } from './cluster.ts'
import { fork } from './cluster.ts'
import { createHistory, type History, type OpenCall } from './history.ts'
import type { Invariants } from './invariants.ts'
import {
  decodeCommand,
  emptyLedger,
  Ledger,
  ledgerModel,
  readLedger,
  type LedgerImages,
  type LedgerInput,
  type LedgerOutput,
  type LedgerResult,
} from './ledger.ts'
import { LedgerMemory } from './ledger-memory.ts'
import type { SequentialModel } from './linearizability.ts'
import type { Owner, Scheduler } from './scheduler.ts'
import type { Trace } from './trace.ts'
import type { Clients, Workload, WorkloadContext, WorkloadParts } from './workload.ts'

/** Clients that append numbers to lists and read them. */
export function ledgerWorkload({ invariants }: WorkloadParts): Workload {
  return {
    newStore: () => new LedgerStore(),
    openApp: (store, context) => openLedger(storeOf(store), context, invariants),
    begin: (context) => new LedgerClients(context),
    close() {},
  }
}

class LedgerStore implements AppStore {
  images: LedgerImages = emptyLedger()
  memory = new LedgerMemory()
  isFull = false

  died(power: boolean): void {
    const { durable, incoming, installed } = this.images
    const kept = power ? durable : this.images.newest()
    this.images = { newest: () => kept, durable, incoming, installed: power ? null : installed }
  }

  wipe(): void {
    this.images = emptyLedger()
    this.memory = new LedgerMemory()
  }

  full(full: boolean): void {
    this.isFull = full
  }
}

class LedgerApp implements App {
  readonly ledger: Ledger

  constructor(ledger: Ledger) {
    this.ledger = ledger
  }

  get appliedIndex(): number {
    return this.ledger.appliedIndex
  }

  start(engine: Engine): Promise<void> {
    return this.ledger.start(engine)
  }

  digest(): string {
    return this.ledger.digest()
  }
}

function openLedger(store: LedgerStore, context: AppContext, invariants: Invariants): LedgerApp {
  const see = (): void => {
    if (opened.ledger !== null) store.memory.see(context.self, opened.ledger.lists, invariants)
  }
  const opened: { ledger: Ledger | null } = { ledger: null }
  const ledger = new Ledger(store.images, context.clock, {
    applied(entries, previous) {
      see()
      context.hooks.applied(entries, previous)
    },
    restored(index) {
      see()
      context.hooks.restored(index)
    },
  })
  opened.ledger = ledger
  see()
  ledger.full = () => store.isFull
  return new LedgerApp(ledger)
}

function storeOf(store: AppStore): LedgerStore {
  if (!(store instanceof LedgerStore)) throw new Error('not a ledger')
  return store
}

/** What the files of a machine hold: its state, and what its log has after it. */
function filesOf(machine: Machine, scheduler: Scheduler): ReadonlyMap<number, readonly number[]> {
  const { lists, appliedIndex, engineState } = readLedger(storeOf(machine.store).images)
  const owner: Owner = { name: `the files of r${machine.id}`, alive: true, stalledUntilMs: 0 }
  const { log } = openLog(
    machine.disk.mount(owner),
    {
      segmentBytes: 4096,
      cacheBytes: 4096,
      clock: createSimClock(scheduler, owner, machine.clockCondition),
      onFailed(error) {
        throw error
      },
      onFullChanged() {},
    },
    decodeSnapshotPoint(appliedIndex, engineState, machine.initial),
  )
  for (let index = appliedIndex + 1; index <= log.lastIndex;)
    for (const entry of log.entries(index, log.lastIndex, 100_000)) {
      index = entry.index + 1
      if (entry.kind !== 'data') continue
      const { key, value } = decodeCommand(entry.data)
      const list = lists.get(key) ?? []
      // What was proposed twice takes effect once.
      if (!list.includes(value)) lists.set(key, [...list, value])
    }
  owner.alive = false
  machine.disk.processDied()
  return lists
}

function ledgerOf(machine: Machine): Ledger | null {
  const app = machine.process?.app
  return app instanceof LedgerApp ? app.ledger : null
}

const attemptMs = 1500
const mostAttempts = 8
const clientDelayMs = 0.5

class LedgerClients implements Clients {
  private readonly cluster: Cluster
  private readonly scheduler: Scheduler
  private readonly trace: Trace
  private readonly invariants: Invariants
  private readonly history: History<LedgerInput, LedgerOutput>
  private readonly keys: number
  private readonly random: Random
  private values = 0
  private stopping = false
  private moments = 0
  private busy = 0
  /** Which replica said that a value is at which place. */
  private readonly acknowledged: {
    readonly by: Machine
    readonly key: number
    readonly value: number
    readonly place: LedgerOutput
  }[] = []
  answered = 0
  unknown = 0

  constructor(context: WorkloadContext) {
    this.cluster = context.cluster
    this.scheduler = context.scheduler
    this.trace = context.trace
    this.invariants = context.invariants
    this.random = context.random
    this.history = createHistory(() => {
      this.moments += 1
      return this.moments
    })
    this.keys = 1 + this.random.below(4)
    const clients = skewed(this.random, 1, 16)
    const pauseMs = skewed(this.random, 3 * clients, 400 + clients)
    for (let client = 1; client <= clients; client += 1) this.loop(client, 1, fork(this.random), pauseMs, 0)
  }

  get operations(): number {
    return this.history.size
  }

  stop(): void {
    this.stopping = true
  }

  get idle(): boolean {
    return this.stopping && this.busy === 0
  }

  get limitedCalls(): number {
    return this.busy
  }

  freeze(): void {}

  reset(): void {}

  /** Every list is read once more, through each replica that runs. */
  async finish(): Promise<void> {
    const reads: Promise<void>[] = []
    for (const machine of this.cluster.running())
      for (let key = 0; key < this.keys; key += 1)
        reads.push(
          new Promise((resolve) => {
            const call = this.history.call('final', `list ${key}`, { kind: 'read' })
            this.attempt({ kind: 'read' }, key, 99, 0, machine.id, 1, call, fork(this.random), () =>
              resolve(),
            )
          }),
        )
    await Promise.all(reads)
    const [machine] = this.cluster.running()
    const ledger = machine === undefined ? null : ledgerOf(machine)
    if (ledger === null) return
    this.history.resolve((part, input) =>
      input.kind === 'read' ? null : ledger.placeOf(Number(part.slice('list '.length)), input.value),
    )
  }

  check(): void {
    const { violation } = this.history.check(
      () => ledgerModel as SequentialModel<unknown, LedgerInput, LedgerOutput>,
    )
    if (violation !== null) this.invariants.fail('linearizability', violation)
  }

  readonly checkEach = (): void => {
    const files = new Map<Machine, ReadonlyMap<number, readonly number[]>>()
    for (const machine of this.cluster.machines.values()) {
      const lists = filesOf(machine, this.scheduler)
      files.set(machine, lists)
      storeOf(machine.store).memory.see(machine.id, lists, this.invariants)
      const missing = storeOf(machine.store).memory.missing(lists)
      if (missing !== null)
        this.invariants.fail('nothing that was applied is replaced', `r${machine.id} has lost ${missing}`)
    }
    for (const { by, key, value, place } of this.acknowledged)
      if ((files.get(by)?.get(key)?.indexOf(value) ?? -1) + 1 !== place)
        this.invariants.fail(
          'acknowledged writes are kept',
          `r${by.id} has acknowledged ${value} at place ${place} of list ${key}, and its files do not hold it there`,
        )
  }

  private loop(client: number, number: number, random: Random, pauseMs: number, replica: number): void {
    this.scheduler.at(this.scheduler.nowMs + random.below(2 * pauseMs), null, () => {
      if (this.stopping) return
      const key = random.below(this.keys)
      this.values += 1
      const input: LedgerInput =
        random.below(3) === 0 ? { kind: 'read' } : { kind: 'append', value: this.values }
      const call = this.history.call(`c${client}`, `list ${key}`, input)
      this.busy += 1
      this.attempt(input, key, client, number, replica, 1, call, random, (used) => {
        this.busy -= 1
        this.loop(client, number + 1, random, pauseMs, used)
      })
    })
  }

  /** Tries at one replica, then at another, with the same number. */
  private attempt(
    input: LedgerInput,
    key: number,
    client: number,
    number: number,
    replica: number,
    tries: number,
    call: OpenCall<LedgerOutput>,
    random: Random,
    done: (replica: number) => void,
    maybe = false,
  ): void {
    const running = this.cluster.running()
    const machine =
      this.cluster.machines.get(replica)?.process !== null && tries === 1 && random.below(20) > 0
        ? this.cluster.machines.get(replica)
        : running[random.below(Math.max(1, running.length))]
    const ledger = machine === undefined ? null : ledgerOf(machine)
    let settled = false
    const settle = (result: LedgerResult): void => {
      if (settled) return
      settled = true
      this.scheduler.at(this.scheduler.nowMs + clientDelayMs, null, () => {
        this.trace.add(
          'client',
          -client,
          number,
          () => `${JSON.stringify(input)} on list ${key}: ${JSON.stringify(result)}`,
        )
        if (result.kind === 'answered') {
          this.answered += 1
          call.answered(result.output)
          if (input.kind === 'append' && machine !== undefined)
            this.acknowledged.push({ by: machine, key, value: input.value, place: result.output })
          done(machine?.id ?? 0)
        } else if (tries >= mostAttempts || (this.stopping && tries > 2)) {
          const lost = maybe || result.kind === 'unknown'
          if (!lost || input.kind === 'read') call.refused()
          else this.unknown += 1
          done(0)
        } else {
          const again = maybe || result.kind === 'unknown'
          this.scheduler.at(this.scheduler.nowMs + random.below(100 * tries), null, () =>
            this.attempt(input, key, client, number, 0, tries + 1, call, random, done, again),
          )
        }
      })
    }
    if (machine?.process === null || machine === undefined || ledger === null)
      return settle({ kind: 'refused' })
    const { process } = machine
    this.scheduler.at(this.scheduler.nowMs + attemptMs + 100, null, () => settle({ kind: 'unknown' }))
    this.scheduler.at(this.scheduler.nowMs + clientDelayMs, process, () => {
      const answer = (result: LedgerResult): void => {
        if (process.alive) settle(result)
      }
      if (input.kind === 'read') ledger.read(key, attemptMs, answer)
      else ledger.append({ client, number, key, value: input.value }, attemptMs, answer)
    })
  }
}
