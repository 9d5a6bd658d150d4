import type { Clock } from '../base/clock.ts'

/** Slows down those who guess passwords: a few wrong ones are free, after that each makes the next wait longer. */
export interface Attempts {
  /** Milliseconds to wait before the next attempt; 0 = go ahead. */
  waitMs(key: string): number
  failed(key: string): void
  succeeded(key: string): void
}

const freeAttempts = 5
const firstWaitMs = 1_000
const longestWaitMs = 60_000
/** Failures are forgotten after so long without another. */
const memoryMs = 15 * 60_000
const maxKeys = 10_000

interface Failures {
  count: number
  lastMs: number
}

export function createAttempts(clock: Clock): Attempts {
  // In order of their last failure, so that the oldest go first when there are too many.
  const byKey = new Map<string, Failures>()
  return {
    waitMs(key) {
      const failures = byKey.get(key)
      if (failures === undefined || failures.count < freeAttempts) return 0
      const waitMs = Math.min(longestWaitMs, firstWaitMs * 2 ** (failures.count - freeAttempts))
      return Math.max(0, Math.ceil(failures.lastMs + waitMs - clock.monotonicMs()))
    },
    failed(key) {
      const nowMs = clock.monotonicMs()
      const known = byKey.get(key)
      const count = known === undefined || nowMs - known.lastMs > memoryMs ? 1 : known.count + 1
      byKey.delete(key)
      byKey.set(key, { count, lastMs: nowMs })
      if (byKey.size <= maxKeys) return
      for (const oldest of byKey.keys()) {
        byKey.delete(oldest)
        break
      }
    },
    succeeded(key) {
      byKey.delete(key)
    },
  }
}
