import type { Clock } from '../base/clock.ts'

/** Slows down those who guess passwords: a few wrong ones are free, after that each makes the next wait longer. */
export interface Attempts {
  /**
   * Lets an attempt in, or tells for how long to wait. One that may be let in or not, depending on what others that are under way come to, hears when these have ended: so many
   * guesses at once get no further than one after another.
   */
  begin(key: string): Promise<Admission>
}

export type Admission =
  | { readonly kind: 'begun'; readonly attempt: Attempt }
  | { readonly kind: 'mustWait'; readonly waitMs: number }

/** An attempt that was let in. Only the first call counts. */
export interface Attempt {
  failed(): void
  /** Those that failed before are forgotten. */
  succeeded(): void
  /** It has ended, and whether the password was right is not known. */
  ended(): void
}

const freeAttempts = 5
const firstWaitMs = 1_000
const longestWaitMs = 60_000
/** Failures are forgotten after so long without another. */
const memoryMs = 15 * 60_000
const maxKeys = 10_000

interface Tries {
  failures: number
  lastFailureMs: number
  underWay: number
  /** What hears when one that is under way has ended. */
  held: (() => void)[]
}

export function createAttempts(clock: Clock): Attempts {
  // In order of the last attempt, so that the oldest go first when there are too many.
  const byKey = new Map<string, Tries>()

  function touch(key: string, tries: Tries): void {
    byKey.delete(key)
    byKey.set(key, tries)
    if (byKey.size <= maxKeys) return
    for (const oldest of byKey.keys()) {
      byKey.delete(oldest)
      break
    }
  }

  function admit(key: string, done: (admission: Admission) => void): void {
    const tries = byKey.get(key) ?? { failures: 0, lastFailureMs: 0, underWay: 0, held: [] }
    if (clock.monotonicMs() - tries.lastFailureMs > memoryMs) tries.failures = 0
    // Those that are under way may all fail.
    if (tries.failures + tries.underWay >= freeAttempts) {
      if (tries.underWay > 0) {
        tries.held.push(() => admit(key, done))
        return
      }
      const waitMs = waitAfter(tries, clock.monotonicMs())
      if (waitMs > 0) return done({ kind: 'mustWait', waitMs })
    }
    tries.underWay += 1
    touch(key, tries)
    done({ kind: 'begun', attempt: makeAttempt(key, tries) })
  }

  function makeAttempt(key: string, tries: Tries): Attempt {
    let isOver = false
    const end = (note: () => void): void => {
      if (isOver) return
      isOver = true
      tries.underWay -= 1
      note()
      if (tries.failures > 0 || tries.underWay > 0) touch(key, tries)
      else byKey.delete(key)
      const { held } = tries
      tries.held = []
      for (const again of held) again()
    }
    return {
      failed: () =>
        end(() => {
          tries.failures += 1
          tries.lastFailureMs = clock.monotonicMs()
        }),
      succeeded: () =>
        end(() => {
          tries.failures = 0
        }),
      ended: () => end(() => undefined),
    }
  }

  return { begin: (key) => new Promise((resolve) => admit(key, resolve)) }
}

function waitAfter({ failures, lastFailureMs }: Tries, nowMs: number): number {
  const waitMs = Math.min(longestWaitMs, firstWaitMs * 2 ** (failures - freeAttempts))
  return Math.max(0, Math.ceil(lastFailureMs + waitMs - nowMs))
}
