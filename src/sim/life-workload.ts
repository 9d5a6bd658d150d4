import { newestVersion } from '../base/version.ts'
import type { Random } from '../base/random.ts'
import { ChatDoors, chatWorkload, SimPeople, type ChatWorkload } from './chat-workload.ts'
import { fork } from './cluster.ts'
import { skewed } from './faults.ts'
import { Keeper } from './keeper.ts'
import { restoreElsewhere } from './second-life.ts'
import type { Clients, Workload, WorkloadContext, WorkloadParts } from './workload.ts'

/**
 * What a cluster goes through over the years: it begins with replicas of an earlier version, which are upgraded one after the other, messages of a room expire, and at the end a
 * new cluster goes on from a backup of it. All that while people talk, and everything else goes wrong.
 */
export function lifeWorkload(parts: WorkloadParts): Workload {
  const chat = chatWorkload(parts)
  return {
    ...chat,
    firstVersion: newestVersion - 1,
    begin: (context) => new Life(context, chat.appOf),
  }
}

/** More than a retention of the keeper's room. */
const longMs = 90_000

class Life implements Clients {
  private readonly context: WorkloadContext
  private readonly appOf: ChatWorkload['appOf']
  private readonly random: Random
  private readonly people: SimPeople
  private readonly keeper: Keeper
  readonly checkEach = null
  private stopped = false

  constructor(context: WorkloadContext, appOf: ChatWorkload['appOf']) {
    this.context = context
    this.appOf = appOf
    this.people = new SimPeople(context, new ChatDoors(context, appOf))
    this.random = fork(context.random)
    this.keeper = new Keeper(this.people.world)
    this.upgrade()
    for (let times = this.random.below(4); times > 0; times -= 1)
      this.later(this.random.below(40_000), () => this.passTime(skewed(this.random, 5000, longMs)))
  }

  get operations(): number {
    return this.people.operations + this.keeper.operations
  }

  get answered(): number {
    return this.people.answered + this.keeper.answered
  }

  get unknown(): number {
    return this.people.unknown + this.keeper.unknown
  }

  get idle(): boolean {
    return this.people.idle && this.keeper.idle
  }

  get limitedCalls(): number {
    return this.people.limitedCalls + this.keeper.open
  }

  stop(): void {
    this.stopped = true
    this.people.stop()
    this.keeper.stop()
    for (const id of this.context.cluster.machines.keys()) this.start(id, newestVersion)
  }

  async finish(): Promise<void> {
    // First not as long as messages are kept, then longer.
    this.passTime(45_000)
    await this.keeper.wait()
    this.passTime(longMs)
    await this.keeper.finish()
    await this.people.finish()
    // Now nobody sends anything.
    this.passTime(longMs)
    await this.keeper.outlive(() => this.clusterMs())
    const kept = await restoreElsewhere(this.context, this.appOf, this.keeper, fork(this.random))
    this.context.trace.add('restored', 0, kept, () => `a new cluster has gone on from a backup`)
    this.keeper.shut()
  }

  freeze(replica: number, durationMs: number): void {
    this.people.freeze(replica, durationMs)
  }

  reset(replica: number): void {
    this.people.reset(replica)
  }

  check(): void {
    this.people.check()
  }

  /** One replica after another, and some of them back again for a while: those must stop once the cluster uses what they do not know. */
  private upgrade(): void {
    const { machines } = this.context.cluster
    const [first] = machines.values()
    // Begun with the newest version, there is nothing to upgrade.
    if (first?.newestVersion === newestVersion) return
    const everyMs = skewed(this.random, 200, 4000)
    let atMs = skewed(this.random, 500, 8000)
    let lastMs = 0
    for (const id of machines.keys()) {
      this.later(atMs, () => this.start(id, newestVersion))
      lastMs = atMs
      atMs += this.random.below(2 * everyMs)
    }
    for (let times = this.random.below(4); times > 0; times -= 1) {
      const id = 1 + this.random.below(machines.size)
      // Long after, or about when the last one is upgraded: then the cluster may begin to use the version while this one is down, whom all have met with it.
      const backMs =
        this.random.below(2) === 0
          ? atMs + this.random.below(10_000)
          : Math.max(0, lastMs - 500) + this.random.below(2000)
      this.later(backMs, () => this.start(id, newestVersion - 1))
    }
  }

  /** The process of a replica ends, and starts again as one of `version`. */
  private start(id: number, version: number): void {
    const { cluster, trace } = this.context
    const machine = cluster.machines.get(id)
    if (machine === undefined || machine.retired !== null || machine.newestVersion === version) return
    machine.newestVersion = version
    trace.add('version', id, version, () => `version ${version}`)
    // One that is down comes back by itself.
    if (machine.process !== null) cluster.crash(id, this.random.below(3) === 0, 20 + this.random.below(800))
  }

  /** What time it is for the replica that leads; null when nobody does. */
  private clusterMs(): number | null {
    const leader = this.context.cluster.leader()
    return leader === null ? null : (this.appOf(leader)?.replica.nowMs ?? null)
  }

  /** All clocks go on at once. */
  private passTime(byMs: number): void {
    for (const { clockCondition } of this.context.cluster.machines.values())
      clockCondition.wallOffsetMs += byMs
  }

  private later(delayMs: number, action: () => void): void {
    const { scheduler } = this.context
    scheduler.at(scheduler.nowMs + delayMs, null, () => {
      if (!this.stopped) action()
    })
  }
}
