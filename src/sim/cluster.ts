import { AssertionError } from '../base/assert.ts'
import type { Clock } from '../base/clock.ts'
import { replicaName, type ReplicaId } from '../base/ids.ts'
import type { Logger, LogFields } from '../base/logger.ts'
import { newestVersion } from '../base/version.ts'
import { NewerVersionError } from '../chat/versions.ts'
import { seededRandom, type Random } from '../base/random.ts'
import { createEngine, type Engine, type EngineTuning } from '../log/engine.ts'
import type { CommittedEntry } from '../log/port.ts'
import { HaltError } from '../raft/halt.ts'
import type { Configuration, FaultModel } from '../raft/types.ts'
import { versionOfFrame, type Frame } from '../peer/frames.ts'
import { DamagedError } from '../storage/types.ts'
import { createSimClock, type ClockCondition } from './clock.ts'
import { createSimDisk, type DiskCondition, type SimDisk } from './disk.ts'
import { skewed } from './faults.ts'
import type { Invariants, Voters } from './invariants.ts'
import { createSimNetwork, type SimNetwork } from './network.ts'
import type { Owner, Scheduler } from './scheduler.ts'
import type { Trace } from './trace.ts'

/** A machine with a disk and a clock, on which one replica's process runs, ends and starts again. */
export interface Machine {
  readonly id: ReplicaId
  readonly disk: SimDisk
  readonly clockCondition: ClockCondition
  /** How the disk is without a fault. */
  readonly soundDisk: Readonly<DiskCondition>
  readonly store: AppStore
  /** The configuration it starts with: that of the new cluster, or none when it joins one. */
  readonly initial: Configuration
  incarnation: number
  /** Of what its next process knows of messages and commands. */
  newestVersion: number
  /** The newest version that any process of it has known: others may count on that until they hear otherwise. */
  knewVersion: number
  process: SimProcess | null
  /** Why it does not start any more: its disk was lost or is damaged, it was removed, or it has gone on without the others. */
  retired: 'broken' | 'removed' | 'diverged' | null
  /** How many errors its process has logged. */
  alarms: number
  /** Crash at the so-manieth step of a file operation from now, or right after it has begun. */
  crashIn: {
    operations: number
    readonly power: boolean
    readonly downMs: number
    /** All machines crash with it, and come back after so long each. */
    readonly all: readonly number[] | null
  } | null
}

export interface SimProcess extends Owner {
  readonly machine: Machine
  readonly app: App | null
  readonly engine: Engine | null
}

/** What runs over the log in one process. */
export interface App {
  readonly appliedIndex: number
  start(engine: Engine): Promise<void>
  /** A digest of the state at `appliedIndex`. */
  digest(): string
}

/** What an app keeps on its machine. */
export interface AppStore {
  /** The process was killed; `power`: what was not flushed is forgotten. */
  died(power: boolean): void
  /** Everything is lost. */
  wipe(): void
  full(full: boolean): void
}

export interface AppContext {
  readonly self: ReplicaId
  readonly incarnation: number
  readonly newestVersion: number
  readonly process: Owner
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly onFatal: (error: Error) => void
  readonly hooks: AppHooks
}

export interface AppHooks {
  /** Right before entries are applied. */
  applied(entries: readonly CommittedEntry[], previous: number): void
  /** The state is the one at `index` now. */
  restored(index: number): void
}

export interface ClusterOptions {
  readonly scheduler: Scheduler
  readonly random: Random
  readonly trace: Trace
  readonly invariants: Invariants
  readonly replicas: number
  readonly faultModel: FaultModel
  /** What the fault model `fail-stop` rests on is broken: replicas may halt. Null: it holds, and none may. */
  readonly broken: { readonly trustTimeouts: boolean } | null
  readonly tuning: Partial<EngineTuning>
  /** The newest version that the replicas know which the cluster begins with. */
  readonly firstVersion: number
  /** Until faults end the replicas mostly draw the same time-outs, so that several campaign in the same term. */
  readonly alike: boolean
  readonly newStore: (id: ReplicaId) => AppStore
  readonly openApp: (store: AppStore, context: AppContext) => App
}

export interface ClusterCounts {
  crashes: number
  powerCuts: number
  starts: number
  elections: number
  snapshots: number
  compactions: number
  membershipChanges: number
  refusedStarts: number
  /** Replicas of an earlier version that stopped, since the log holds what they do not know. */
  refusedVersions: number
  /** Processes that halted since others had taken them for dead, and replicas that halted since they had gone on without others. */
  takenForDead: number
  diverged: number
}

/** A cluster under virtual time, and the hands that break and mend it. */
export interface Cluster {
  readonly machines: ReadonlyMap<ReplicaId, Machine>
  readonly network: SimNetwork
  readonly counts: ClusterCounts
  start(id: ReplicaId): void
  /** Ends the process of a machine; it starts again after `downMs`. */
  crash(id: ReplicaId, power: boolean, downMs: number): void
  /** All machines lose power; each comes back by itself. */
  blackout(downMs: readonly number[]): void
  /** A machine that has never been used; it joins when it has been added to the configuration. */
  newMachine(): Machine
  retire(id: ReplicaId, why: 'broken' | 'removed' | 'diverged'): void
  /** Who leads in the newest term, as far as a live process believes it. */
  leader(): Machine | null
  /** Machines whose process is up. */
  running(): readonly Machine[]
  membershipChanged(): void
  /** From now on each replica draws time-outs of its own. */
  drawApart(): void
  /** Looks at all processes: what they believe, and now and then (or always: `everything`) what they hold, may contradict. */
  inspect(everything: boolean): void
}

export function createCluster(options: ClusterOptions): Cluster {
  const { scheduler, random, trace, invariants } = options
  const machines = new Map<ReplicaId, Machine>()
  const counts: ClusterCounts = {
    crashes: 0,
    powerCuts: 0,
    starts: 0,
    elections: 0,
    snapshots: 0,
    compactions: 0,
    membershipChanges: 0,
    refusedStarts: 0,
    refusedVersions: 0,
    takenForDead: 0,
    diverged: 0,
  }
  // Slow links and disks leave more time for something to happen in between.
  const delayMs = skewed(random, 100, 20_000) / 1000
  /** Those that had to halt since they had gone on without others. */
  const parted = new Set<ReplicaId>()
  let digestedIndex = 0
  let { alike } = options
  const network = createSimNetwork({
    scheduler,
    random: fork(random),
    trace,
    defaults: () => ({
      blocked: false,
      delayMs: delayMs * (0.5 + random.below(100) / 100),
      jitterMs: delayMs * (random.below(100) / 100),
      lossPpm: 0,
      duplicatePpm: 0,
      reorderPpm: 0,
      bytesPerMs: 100_000,
    }),
    oldestVersion: options.firstVersion,
    trustTimeouts: options.broken?.trustTimeouts === true,
    onSend: (frame, from, to) => {
      mustBeRead(frame, from, to)
      if (frame.kind === 'message') invariants.sent(frame.message, () => votersOf(from))
    },
  })
  const soundDisk: DiskCondition = {
    capacityBytes: 64 * 1024 * 1024,
    writeMs: skewed(random, 20, 1000) / 1000,
    flushMs: skewed(random, 100, 20_000) / 1000,
    hanging: false,
    failWrites: false,
    failFlushes: false,
  }
  const members = Array.from({ length: options.replicas }, (_, i) => ({
    id: i + 1,
    voter: true,
    address: addressOf(i + 1),
  }))
  for (const { id } of members)
    addMachine(id, { faultModel: options.faultModel, members }, options.firstVersion)

  function votersOf(replica: ReplicaId): Voters {
    const members = machines.get(replica)?.process?.engine?.status().members ?? []
    const ids = members.filter(({ voter }) => voter).map(({ id }) => id)
    return { ids, quorum: options.faultModel === 'majority' ? Math.floor(ids.length / 2) + 1 : ids.length }
  }

  /** What is in the log must not be more than a member can read. */
  function mustBeRead(frame: Frame, from: ReplicaId, to: ReplicaId): void {
    const receiver = machines.get(to)
    // One that was of the newest version when it was met may have been started as an earlier one again, after what it cannot read was proposed: the peer links refuse it, or it stops at its own state.
    if (receiver === undefined || receiver.knewVersion >= newestVersion || frame.kind !== 'message') return
    if (frame.message.kind !== 'append' && frame.message.kind !== 'snapshot') return
    const version = versionOfFrame(frame)
    const isMember = machines
      .get(from)
      ?.process?.engine?.status()
      .members.some(({ id }) => id === to)
    if (version > receiver.newestVersion && isMember === true)
      invariants.fail(
        'nothing is proposed too early',
        `r${from} has something of version ${version} in its log, and r${to} knows version ${receiver.newestVersion}`,
      )
  }

  function addMachine(id: ReplicaId, initial: Configuration, version: number): Machine {
    const machine: Machine = {
      id,
      disk: createSimDisk({
        scheduler,
        random: fork(random),
        condition: { ...soundDisk },
        onOperation: (name, path) => {
          const { process, crashIn } = machine
          if (process === null) return
          trace.add('disk', id, path.length, () => `${name} ${path}`)
          if (crashIn === null) return
          crashIn.operations -= 1
          if (crashIn.operations > 0) return
          machine.crashIn = null
          const end = (): void => {
            if (machine.process !== process) return
            if (crashIn.all === null) crash(id, crashIn.power, crashIn.downMs)
            else blackout(crashIn.all)
          }
          // At once, or while the operation is under way and the process goes on with other things.
          if (random.below(2) === 0) end()
          else scheduler.at(scheduler.nowMs + (random.below(1000) / 1000) * soundDisk.writeMs, null, end)
        },
      }),
      clockCondition: {
        wallOffsetMs: random.below(2000) - 1000,
        rate: 1 + (random.below(401) - 200) / 10_000,
      },
      soundDisk,
      store: options.newStore(id),
      initial,
      incarnation: 0,
      newestVersion: version,
      knewVersion: version,
      process: null,
      retired: null,
      alarms: 0,
      crashIn: null,
    }
    machines.set(id, machine)
    return machine
  }

  function start(id: ReplicaId): void {
    const machine = machines.get(id)
    if (machine === undefined || machine.process !== null || machine.retired !== null) return
    if (parted.has(id))
      invariants.fail('stays halted', `r${id} has gone on without the others and starts again`)
    machine.incarnation += 1
    machine.alarms = 0
    machine.knewVersion = Math.max(machine.knewVersion, machine.newestVersion)
    counts.starts += 1
    const name = `${replicaName(id)} (run ${machine.incarnation})`
    const process: Owner & { machine: Machine; app: App | null; engine: Engine | null } = {
      name,
      alive: true,
      stalledUntilMs: 0,
      machine,
      app: null,
      engine: null,
    }
    machine.process = process
    trace.add('start', id, machine.incarnation, () => name)
    scheduler.at(scheduler.nowMs, process, () => {
      const clock = createSimClock(scheduler, process, machine.clockCondition)
      const logger = tracingLogger(trace, counts, machine)
      const onFatal = (error: Error): void => stopped(process, error)
      try {
        const engine = createEngine({
          self: id,
          incarnation: machine.incarnation,
          configuration: machine.initial,
          disk: machine.disk.mount(process),
          clock,
          random: timeouts(fork(random)),
          transport: network.attach(id, process, clock, machine, (by, why, reason) => {
            // What parley serve does with the refusal that its links bring; replicas that were removed are stopped by their operator here.
            if (why !== 'removed') shutOut(process, logger, why, `${replicaName(by)} refuses: ${reason}`)
          }),
          logger,
          onFatal,
          tuning: options.tuning,
        })
        process.engine = engine
        if (options.broken === null) watchReads(process, engine)
        const app = options.openApp(machine.store, {
          self: id,
          incarnation: machine.incarnation,
          newestVersion: machine.newestVersion,
          process,
          clock,
          random: fork(random),
          logger,
          onFatal,
          hooks: {
            applied(entries, previous) {
              if (!process.alive) throw new Error('this process has ended')
              let before = previous
              for (const { index, data } of entries) {
                invariants.applied({ replica: id, process: name }, index, data, before)
                before = index
              }
              trace.add('apply', id, before, () => `up to ${before}`)
            },
            restored(index) {
              if (index > 0) trace.add('restored', id, index, () => `state at ${index}`)
              invariants.restored(name, index)
            },
          },
        })
        process.app = app
        app.start(engine).catch((error: unknown) => stopped(process, error))
      } catch (error) {
        stopped(process, error)
      }
    })
  }

  /**
   * Whoever asks for a barrier gets one behind everything that was applied anywhere before. Where sides may have gone on without each other, the leader of one may tell a replica of
   * another less than that one has applied, which answers with its own state nevertheless; what such reads show is checked with the history of the clients, if no side did.
   */
  function watchReads(process: SimProcess, engine: Engine): void {
    const readBarrier = engine.readBarrier.bind(engine)
    engine.readBarrier = (timeoutMs, done) => {
      const before = invariants.newestApplied
      readBarrier(timeoutMs, (index) => {
        if (index !== null && index < before)
          invariants.fail(
            'reads see what was done before',
            `${process.name} reads at ${index}, and ${before} had been applied when the read began`,
          )
        done(index)
      })
    }
  }

  function timeouts(own: Random): Random {
    return {
      below: (limit) => (alike && limit < 1000 && own.below(4) > 0 ? limit >> 1 : own.below(limit)),
    }
  }

  /** The process says that it cannot go on. */
  function stopped(process: SimProcess, error: unknown): void {
    if (!process.alive) return
    const { machine } = process
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
    trace.add('stopped', machine.id, text.length, () => text)
    if (options.broken !== null && error instanceof HaltError) {
      halted(machine, error)
      return
    }
    const isDiskError = error instanceof Error && hasCode(error)
    if (error instanceof DamagedError) {
      counts.refusedStarts += 1
      const { damaged } = machine.disk
      if (!damaged)
        invariants.fail('honest disk', `${process.name} finds damage where there is none: ${text}`)
      retire(machine.id, 'broken')
      return
    }
    if (isOfLaterVersion(error) && machine.newestVersion < newestVersion) {
      // As it should, when it has been of that version: its operator starts the newer version again.
      counts.refusedVersions += 1
      const isMember = leader()
        ?.process?.engine?.status()
        .members.some(({ id }) => id === machine.id)
      if (machine.knewVersion < newestVersion && isMember === true)
        invariants.fail(
          'nothing is proposed too early',
          `the cluster uses what no process of r${machine.id} has ever known: ${text}`,
        )
      machine.newestVersion = newestVersion
    } else if (!isDiskError) {
      const stack = error instanceof Error ? (error.stack ?? '') : ''
      invariants.fail(
        error instanceof AssertionError ? 'assertion' : 'no exception',
        `${process.name} stops: ${text}\n${stack}`,
      )
    }
    crash(machine.id, false, 500 + random.below(2000))
  }

  /** What parley serve and whoever supervises it do. */
  function halted(machine: Machine, error: HaltError): void {
    if (machine.alarms === 0)
      invariants.fail('alarm', `r${machine.id} halts without an error in its log: ${error.message}`)
    if (error.reason === 'diverged') parted.add(machine.id)
    if (error.mayStartAgain) {
      counts.takenForDead += 1
      crash(machine.id, false, 500 + random.below(2000))
    } else {
      counts.diverged += 1
      retire(machine.id, 'diverged')
    }
  }

  function shutOut(process: SimProcess, logger: Logger, why: 'regressed' | 'diverged', reason: string): void {
    if (why === 'regressed')
      return invariants.fail('honest disk', `${process.name} has lost nothing, and is told: ${reason}`)
    logger.error({}, reason)
    stopped(process, new HaltError('diverged', reason))
  }

  function crash(id: ReplicaId, power: boolean, downMs: number): void {
    const machine = machines.get(id)
    if (machine === undefined) return
    const { process } = machine
    if (process !== null) {
      counts.crashes += 1
      process.alive = false
      machine.process = null
      machine.disk.processDied()
      network.processDied(id, !power)
      machine.store.died(power)
      trace.add('crash', id, power ? 1 : 0, () => (power ? 'power cut' : 'killed'))
    }
    machine.crashIn = null
    if (power) {
      counts.powerCuts += 1
      machine.disk.powerCut()
      if (process === null) machine.store.died(true)
    }
    if (downMs < Infinity) scheduler.at(scheduler.nowMs + downMs, null, () => start(id))
  }

  function blackout(downMs: readonly number[]): void {
    for (const id of machines.keys()) crash(id, true, downMs[id % downMs.length] ?? 100)
  }

  function retire(id: ReplicaId, why: 'broken' | 'removed' | 'diverged'): void {
    const machine = machines.get(id)
    if (machine === undefined) return
    machine.retired = why
    crash(id, false, Infinity)
  }

  function leader(): Machine | null {
    let best: Machine | null = null
    let bestTerm = 0
    for (const machine of machines.values()) {
      const status = machine.process?.engine?.status()
      if (status === undefined || status.role !== 'leader' || status.term <= bestTerm) continue
      best = machine
      bestTerm = status.term
    }
    return best
  }

  return {
    machines,
    network,
    get counts() {
      return { ...counts, elections: invariants.terms }
    },
    start,
    crash,
    blackout,
    retire,
    leader,
    newMachine: () =>
      addMachine(
        Math.max(...machines.keys()) + 1,
        { faultModel: options.faultModel, members: [] },
        newestVersion,
      ),
    drawApart() {
      alike = false
    },
    membershipChanged() {
      counts.membershipChanges += 1
    },
    running: () => [...machines.values()].filter((machine) => machine.process !== null),
    inspect(everything) {
      const atIndex = new Map<number, SimProcess[]>()
      for (const { id, process } of machines.values()) {
        if (process === null || process.engine === null) continue
        const status = process.engine.status()
        if (status.role === 'leader') invariants.leads(id, status.term)
        invariants.commit(process.name, status.commitIndex)
        if (process.app === null || process.stalledUntilMs > scheduler.nowMs) continue
        if (everything && status.commitIndex === status.lastIndex && status.members.length > 0)
          invariants.same(
            'same replica set',
            `the replica set at ${status.commitIndex}`,
            status.members.map((member) => `${member.id} ${member.voter} ${member.address}`).join(', '),
            process.name,
          )
        // What sides have that went on without each other is compared once they have met.
        if (options.broken !== null && !everything) continue
        const { appliedIndex } = process.app
        atIndex.set(appliedIndex, [...(atIndex.get(appliedIndex) ?? []), process])
      }
      for (const [index, processes] of atIndex) {
        if (processes.length < 2 || (!everything && index < digestedIndex + digestEntries)) continue
        digestedIndex = index
        for (const { name, app } of processes)
          if (app !== null) invariants.same('same state', `the state at ${index}`, app.digest(), name)
      }
    },
  }
}

/** States are compared after so many entries: a digest reads all of a state. */
const digestEntries = 100

/** Where the links of a replica and its clients find it. */
export function addressOf(id: ReplicaId): string {
  return `sim:${id} sim:${id} -`
}

/** A generator of its own, so that what one part draws does not change what another one gets. */
export function fork(random: Random): Random {
  return seededRandom(random.below(0x1_0000_0000))
}

function isOfLaterVersion(error: unknown): boolean {
  return error instanceof NewerVersionError || (error instanceof Error && isOfLaterVersion(error.cause))
}

function hasCode(error: Error): boolean {
  return (
    ('code' in error && typeof error.code === 'string') ||
    (error.cause instanceof Error && hasCode(error.cause))
  )
}

function tracingLogger(trace: Trace, counts: ClusterCounts, machine: Machine): Logger {
  const lane = machine.id
  const note =
    (level: string) =>
    (fields: LogFields, message: string): void => {
      if (message === 'a copy of the state is complete') counts.snapshots += 1
      if (message === 'the log was shortened') counts.compactions += 1
      if (level === 'error') machine.alarms += 1
      trace.add('log', lane, message.length, () => `${level}: ${message} ${JSON.stringify(fields)}`)
    }
  return { debug: note('debug'), info: note('info'), warn: note('warn'), error: note('error') }
}
