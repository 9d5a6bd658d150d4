import { seededRandom, type Random } from '../base/random.ts'
import { newestVersion } from '../base/version.ts'
import type { EngineTuning } from '../log/engine.ts'
import type { FaultModel } from '../raft/types.ts'
import { createCluster, fork, type ClusterCounts } from './cluster.ts'
import {
  describeFault,
  drawFaults,
  failStopBreakers,
  failStopFaults,
  faultKinds,
  skewed,
  type Fault,
  type FaultKind,
} from './faults.ts'
import { createInjector } from './inject.ts'
import { createInvariants, type Violation } from './invariants.ts'
import { lifeWorkload } from './life-workload.ts'
import { ledgerWorkload } from './ledger-workload.ts'
import type { NetworkCounts } from './network.ts'
import { createParted } from './parted.ts'
import { createScheduler, outsidePromises } from './scheduler.ts'
import { createTrace, type TracedEvent } from './trace.ts'
import type { Workload, WorkloadParts } from './workload.ts'
import { chatWorkload } from './chat-workload.ts'

export const workloadNames = ['ledger', 'chat', 'life'] as const
export type WorkloadName = (typeof workloadNames)[number]

export interface SimOptions {
  readonly seed: number
  readonly workload: WorkloadName
  /** Drawn when null. */
  readonly replicas: number | null
  readonly faultModel: FaultModel
  /**
   * More goes wrong than the fault model survives. `majority`: at some time most machines are lost, or bits flip on most disks; then it must stop safely, and answer nothing wrong.
   * `fail-stop`: the network is cut and processes that live are taken for dead; then sides may go on without each other, and must notice it when they meet.
   */
  readonly beyond: boolean
  /** Only faults of these kinds; null = all that the model survives. */
  readonly kinds: readonly FaultKind[] | null
  /** Only the faults with these numbers; null = all of the plan. */
  readonly only: ReadonlySet<number> | null
  /** How long faults come, in virtual time; drawn when null. */
  readonly durationMs: number | null
  /** Stop after so many events; null = when the run is over. */
  readonly maxEvents: number | null
  /** How many of the newest events to keep for reading. */
  readonly keepEvents: number
}

export interface SimResult {
  readonly seed: number
  readonly violation: Violation | null
  /** The same for two runs of one seed. */
  readonly digest: string
  readonly events: number
  readonly simulatedMs: number
  readonly replicas: number
  readonly plan: readonly Fault[]
  readonly faults: ReadonlyMap<FaultKind, number>
  readonly cluster: ClusterCounts
  readonly network: NetworkCounts
  readonly operations: number
  readonly answered: number
  readonly unknown: number
  readonly trace: readonly TracedEvent[]
}

/** So long what was on its way when most machines were lost may still arrive. */
const lastWordsMs = 10_000
/** After the faults have ended everything must be well again within so much virtual time. */
const healMs = 60_000
const inspectMs = 200
/** More than any simulated run has use for: a log or a disk that grows beyond it is not bounded. */
const mostDiskBytes = 16 * 1024 * 1024

const workloads: Readonly<Record<WorkloadName, (parts: WorkloadParts) => Workload>> = {
  ledger: ledgerWorkload,
  chat: chatWorkload,
  life: lifeWorkload,
}

/** Small sizes, so that in a minute of virtual time everything happens that takes a production cluster months. */
function drawTuning(random: Random, workload: WorkloadName): Partial<EngineTuning> {
  const draw = (limit: number): number => random.below(limit)
  return {
    wal: { segmentBytes: 4096 * (1 + draw(4)), cacheBytes: 512 * (1 + draw(64)) },
    compaction: {
      afterBytes: 1000 + draw(20_000),
      afterEntries: 10 + draw(300),
      keepBytes: draw(2) * draw(10_000),
      mostBytes: 50_000 + draw(200_000),
      markBytes: 200 + draw(3000),
    },
    // A state of the chat has at least 150 kB: in pieces of 100 bytes it would take minutes over a slow link.
    chunkBytes: (workload === 'ledger' ? 100 : 4000) + draw(20_000),
    core: {
      maxAppendBytes: skewed(random, 1, 20_000),
      maxInflightMessages: skewed(random, 1, 16),
      maxInflightBytes: 1000 + draw(100_000),
      maxUncommittedBytes: 2000 + draw(200_000),
    },
  }
}

/** Runs one cluster through the faults of a seed, and checks it. The same options give the same run on every machine. */
export async function simulate(options: SimOptions): Promise<SimResult> {
  const random = seededRandom(options.seed)
  const planRandom = fork(random)
  const clusterRandom = fork(random)
  const clientRandom = fork(random)
  const faultRandom = fork(random)
  const replicas = options.replicas ?? [1, 2, 3, 3, 3, 4, 5, 5, 5, 5, 6, 7][planRandom.below(12)] ?? 3
  const durationMs = options.durationMs ?? skewed(planRandom, 6000, 60_000)
  const isBroken = options.beyond && options.faultModel === 'fail-stop'
  const broken = isBroken ? { trustTimeouts: planRandom.below(2) === 0 } : null
  const plan = drawFaults(planRandom, { replicas, durationMs, ...mayHappen(options, broken) })
  const tuning = drawTuning(planRandom, options.workload)

  const scheduler = createScheduler(() => {})
  const trace = createTrace(() => scheduler.nowMs, options.keepEvents)
  const invariants = createInvariants(broken === null ? 'one' : 'each')
  const workload = workloads[options.workload]({ random: fork(clusterRandom), invariants })
  const cluster = createCluster({
    scheduler,
    random: clusterRandom,
    trace,
    invariants,
    replicas,
    faultModel: options.faultModel,
    broken,
    tuning,
    // The fail-stop model came with version 2.
    firstVersion:
      options.faultModel === 'majority' ? (workload.firstVersion ?? newestVersion) : newestVersion,
    alike: planRandom.below(3) === 0,
    newStore: (id) => workload.newStore(id),
    openApp: (store, context) => workload.openApp(store, context),
  })
  for (const id of cluster.machines.keys()) cluster.start(id)
  const injector = createInjector({
    cluster,
    scheduler,
    random: faultRandom,
    trace,
    clients: () => clients,
    onLeader: (listener) => invariants.onLeader(listener),
    mayLoseDisks: options.faultModel === 'majority',
    removesRunning: options.faultModel === 'majority',
  })
  const clients = workload.begin({ cluster, scheduler, random: clientRandom, trace, invariants })
  if (broken !== null && clients.checkEach === null)
    throw new Error(
      `nothing is known of what the ${options.workload} may show when sides go on without each other`,
    )
  for (const fault of plan)
    if (options.only === null || options.only.has(fault.number))
      scheduler.at(fault.atMs, null, () => injector.inject(fault))

  const parted = createParted(cluster, invariants, scheduler)
  const inspect = (): void => {
    cluster.inspect(false)
    if (broken !== null) parted.look()
    for (const machine of cluster.machines.values())
      if (machine.disk.usedBytes > mostDiskBytes)
        invariants.fail('bounded log', `the disk of r${machine.id} holds ${machine.disk.usedBytes} bytes`)
    scheduler.at(scheduler.nowMs + inspectMs, null, inspect)
  }
  inspect()

  const ended = (): boolean =>
    invariants.violation !== null || (options.maxEvents !== null && scheduler.events >= options.maxEvents)

  /** Lets time pass up to `untilMs`, or until `done`. */
  const run = async (untilMs: number, done: () => boolean): Promise<void> => {
    for (;;) {
      const more = await outsidePromises(() => {
        const beganMs = scheduler.nowMs
        for (let i = 0; i < 20_000; i += 1) {
          if (ended()) return false
          if (!scheduler.step(untilMs)) return false
          if ((i & 63) === 0 && done()) return false
        }
        if (scheduler.nowMs === beganMs)
          invariants.fail('progress', 'events follow each other without an end')
        return true
      })
      if (!more) return
    }
  }

  await run(durationMs, () => false)
  await outsidePromises(() => {
    injector.heal()
    clients.stop()
  })
  const healedMs = scheduler.nowMs
  if (broken !== null) await meetAgain()
  else if (injector.ruin === null) await comeBack()
  else await stopSafely()
  for (const machine of cluster.machines.values()) cluster.retire(machine.id, 'removed')
  workload.close()

  /** All is well again, and nothing was lost. */
  async function comeBack(): Promise<void> {
    await run(healedMs + healMs, () => clients.idle && injector.settled && converged() === null)
    if (ended()) return
    const missing = converged()
    if (!clients.idle)
      invariants.fail('progress', `calls are still open ${healMs / 1000} s after the faults ended`)
    else if (!injector.settled)
      invariants.fail('progress', `a membership change is not done ${healMs / 1000} s after the faults ended`)
    else if (missing !== null)
      invariants.fail('progress', `${missing}, ${healMs / 1000} s after the faults ended`)
    await checkClients()
  }

  async function checkClients(): Promise<void> {
    let finished = false
    await outsidePromises(() => {
      void clients.finish().then(() => (finished = true))
    })
    await run(scheduler.nowMs + healMs, () => finished)
    if (ended()) return
    if (!finished) invariants.fail('progress', 'the last reads are not answered')
    cluster.inspect(true)
    clients.check()
  }

  /** Whoever has gone on without the others has halted, the rest agree, and what was acknowledged is still where it was. */
  async function meetAgain(): Promise<void> {
    await run(healedMs + healMs, () => clients.idle && parted.unsettled() === null)
    if (ended()) return
    const missing = clients.idle ? parted.unsettled() : 'calls are still open'
    if (missing !== null)
      return invariants.fail('progress', `${missing}, ${healMs / 1000} s after the faults ended`)
    // Where nobody had to halt for it, nobody has gone on without the others, and all that clients saw happened in one order.
    if (cluster.counts.diverged === 0) await checkClients()
    else if (cluster.leader() !== null) cluster.inspect(true)
    for (const { id } of cluster.running()) cluster.crash(id, false, Infinity)
    clients.checkEach?.()
  }

  /** Nothing new is committed or answered without a quorum, every replica says that there is none, and no caller is left hanging. */
  async function stopSafely(): Promise<void> {
    const isLost = injector.ruin?.how === 'lost'
    await run(Math.max(healedMs, (injector.ruin?.atMs ?? 0) + lastWordsMs), () => false)
    const { newestCommit } = invariants
    const [answered, calls] = [clients.answered, clients.limitedCalls]
    await run(scheduler.nowMs + healMs / 2, () => false)
    if (ended()) return
    if (clients.limitedCalls > 0)
      invariants.fail('told in words', `${clients.limitedCalls} calls hang although their deadlines are over`)
    if (isLost && invariants.newestCommit > newestCommit)
      invariants.fail(
        'stops safely',
        `without a quorum the commit index went from ${newestCommit} to ${invariants.newestCommit}`,
      )
    // Local reads that had begun may be answered.
    if (isLost && clients.answered > answered + calls)
      invariants.fail('stops safely', `${clients.answered - answered} calls were answered without a quorum`)
    for (const { process } of cluster.running()) {
      const status = process?.engine?.status()
      if (status?.available !== true) continue
      const voters = status.members.filter(({ voter }) => voter)
      const alive = voters.filter(({ id }) => (cluster.machines.get(id)?.process ?? null) !== null)
      if (alive.length * 2 <= voters.length)
        invariants.fail('told in words', `${process?.name} says that there is a quorum, and there is none`)
    }
    cluster.inspect(true)
    clients.check()
  }

  /** What is missing until all replicas are alike; null when nothing is. */
  function converged(): string | null {
    const leader = cluster.leader()
    const status = leader?.process?.engine?.status()
    if (status === undefined) return 'nobody leads'
    // Such as when the leader that is found is one of an earlier term, and does not know it yet.
    if (status.commitIndex !== status.lastIndex) return 'something is not committed'
    for (const { id } of status.members) {
      const process = cluster.machines.get(id)?.process ?? null
      if (process === null || process.app === null || process.engine === null) return `r${id} is not running`
      if (process.app.appliedIndex !== status.commitIndex)
        return `r${id} has applied up to ${process.app.appliedIndex} of ${status.commitIndex}`
      if (process.engine.status().commitIndex !== status.commitIndex)
        return `r${id} does not know what is committed`
    }
    return null
  }

  return {
    seed: options.seed,
    violation: invariants.violation,
    digest: trace.digest(),
    events: scheduler.events,
    simulatedMs: scheduler.nowMs,
    replicas,
    plan,
    faults: injector.counts,
    cluster: cluster.counts,
    network: cluster.network.counts,
    operations: clients.operations,
    answered: clients.answered,
    unknown: clients.unknown,
    trace: trace.kept(),
  }
}

/** What may go wrong at all, as the fault model, and what is wanted of it, go. */
function mayHappen(
  { faultModel, beyond, kinds }: SimOptions,
  broken: { readonly trustTimeouts: boolean } | null,
): Pick<Parameters<typeof drawFaults>[1], 'kinds' | 'atLeastOneOf' | 'ruin'> {
  const wanted = (all: readonly FaultKind[]): readonly FaultKind[] =>
    all.filter((kind) => kinds === null || kinds.includes(kind))
  if (faultModel === 'majority') return { kinds: wanted(faultKinds), atLeastOneOf: [], ruin: beyond }
  if (broken === null) return { kinds: wanted(failStopFaults), atLeastOneOf: [], ruin: false }
  const breakers = broken.trustTimeouts ? failStopBreakers : failStopBreakers.slice(0, 2)
  // A replica that is taken out by its operator takes with it what it alone has; and seeds that are kept as tests were drawn without `forsake`.
  const survivable = failStopFaults.filter((kind) => kind !== 'membership' && kind !== 'forsake')
  return { kinds: wanted([...failStopBreakers, ...survivable]), atLeastOneOf: wanted(breakers), ruin: false }
}

/** The plan in words, as far as it was used. */
export function describePlan(plan: readonly Fault[], only: ReadonlySet<number> | null): readonly string[] {
  return plan.filter((fault) => only === null || only.has(fault.number)).map(describeFault)
}
