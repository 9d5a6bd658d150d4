import type { Clock } from '../base/clock.ts'
import type { Owner, Scheduler } from './scheduler.ts'

/** How a machine's clock is wrong. */
export interface ClockCondition {
  /** Added to what the wall clock shows. */
  wallOffsetMs: number
  /** How fast its time runs; 1 = as it should. */
  readonly rate: number
}

/** 2030-01-01: when virtual time begins. */
export const epochMs = 1893456000000

/** The clock of one process. Its timers end with it, and wait while it is stalled. */
export function createSimClock(scheduler: Scheduler, owner: Owner, condition: ClockCondition): Clock {
  return {
    monotonicMs: () => scheduler.nowMs * condition.rate,
    wallMs: () => Math.floor(epochMs + scheduler.nowMs * condition.rate + condition.wallOffsetMs),
    after: (delayMs, callback) =>
      scheduler.at(scheduler.nowMs + Math.max(0, delayMs) / condition.rate, owner, callback),
    soon(callback) {
      scheduler.at(scheduler.nowMs, owner, callback)
    },
  }
}
