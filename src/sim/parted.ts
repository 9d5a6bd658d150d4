import type { ReplicaId } from '../base/ids.ts'
import type { Cluster, SimProcess } from './cluster.ts'
import type { Invariants } from './invariants.ts'
import type { Scheduler } from './scheduler.ts'

/**
 * What must hold when the assumption of the fault model `fail-stop` is broken, so that sides may go on without each other: they notice it when they meet. What each replica has
 * applied stays by itself, which `Invariants` and the workload see to.
 */
export interface Parted {
  /** Looks at who hears whom now. */
  look(): void
  /** What is missing until those that still run agree; null when nothing is. */
  unsettled(): string | null
}

/** So long may two go on that hear each other and have parted. */
const noticeMs = 10_000

export function createParted(cluster: Cluster, invariants: Invariants, scheduler: Scheduler): Parted {
  /** Since when the processes of a pair have heard each other although they had parted. */
  const since = new Map<string, number>()

  function running(): readonly SimProcess[] {
    return cluster.running().flatMap(({ process }) => process ?? [])
  }

  function pairs(): readonly (readonly [SimProcess, SimProcess])[] {
    const processes = running()
    return processes.flatMap((a, i) => processes.slice(i + 1).map((b) => [a, b] as const))
  }

  /** Nobody who has no leader promises anything. */
  function isLed({ engine, stalledUntilMs }: SimProcess): boolean {
    return stalledUntilMs <= scheduler.nowMs && engine?.status().available === true
  }

  function isHalted(id: ReplicaId): boolean {
    const retired = cluster.machines.get(id)?.retired ?? null
    return retired !== null
  }

  return {
    look() {
      for (const [a, b] of pairs()) {
        const key = `${a.name} and ${b.name}`
        const meet = cluster.network.hear(a.machine.id, b.machine.id) && (isLed(a) || isLed(b))
        const index = meet ? invariants.parting(a.machine.id, b.machine.id) : null
        if (index === null) since.delete(key)
        else if (scheduler.nowMs - (since.get(key) ?? scheduler.nowMs) >= noticeMs)
          invariants.fail(
            'parting is noticed',
            `${key} have heard each other for ${noticeMs / 1000} s, have applied different entries at ${index}, and go on`,
          )
        else if (!since.has(key)) since.set(key, scheduler.nowMs)
      }
    },
    unsettled() {
      for (const { id, process, retired } of cluster.machines.values())
        if (process === null && retired === null) return `r${id} is not running`
      for (const [a, b] of pairs()) {
        const index = invariants.parting(a.machine.id, b.machine.id)
        if (index !== null)
          return `${a.name} and ${b.name} run, and have applied different entries at ${index}`
      }
      const led = cluster.leader()?.process?.engine?.status()
      for (const { name, app, engine } of running()) {
        const status = engine?.status()
        if (app === null || status === undefined) return `${name} has not started`
        if (led?.available === true) {
          if (status.leader !== led.self) return `${name} does not follow r${led.self}`
          if (led.members.some(({ id, voter }) => id === status.self && !voter))
            return `${name} has not been taken in again`
          if (app.appliedIndex !== led.commitIndex || led.commitIndex !== led.lastIndex)
            return `${name} has applied up to ${app.appliedIndex} of ${led.commitIndex}`
        } else if (status.available) return `${name} says that it is led, and nobody leads`
        else if (status.waitingFor.length === 0 || !status.waitingFor.every(isHalted))
          return `${name} is not led, and says that it waits for ${status.waitingFor.join() || 'nobody'}`
      }
      return null
    },
  }
}
