import type { Clock } from '../base/clock.ts'
import type { Logger } from '../base/logger.ts'

/** Clocks may differ by so much before anything is made of it. */
const toleranceMs = 10_000

/**
 * The time that a replica puts on its batches: what its own wall clock shows, but not much more than most of the other replicas' clocks show. The cluster's clock follows the stamp that is furthest ahead
 * and never goes back, so one clock that runs days ahead would otherwise end everybody's session.
 */
export class OwnTime {
  private readonly clock: Clock
  private readonly logger: Logger
  private readonly others: () => readonly (number | null)[]
  private looksOff = 0
  /** What people should do about this replica's clock; empty when it agrees with the others. */
  problem = ''

  /** @param others what the clocks of the other replicas show now; null where that is not known. */
  constructor(clock: Clock, logger: Logger, others: () => readonly (number | null)[]) {
    this.clock = clock
    this.logger = logger
    this.others = others
  }

  /** Milliseconds since 1970; 0, which moves nothing, while there are others and no clock of theirs is known. */
  get nowMs(): number {
    const ownMs = Math.max(0, Math.floor(this.clock.wallMs()))
    const others = this.others()
    if (others.length === 0) return ownMs
    const known = sorted(others)
    // The higher of the two in the middle: together with this clock more than half of those that are known have got there.
    const middleMs = known[known.length >> 1]
    return middleMs === undefined ? 0 : Math.floor(Math.min(ownMs, middleMs + toleranceMs))
  }

  /** Compares the clocks; to be called now and then. */
  look(): void {
    const offMs = this.offMs()
    // Twice in a row: after a machine was asleep the clocks of the others are known anew only after a moment.
    this.looksOff = offMs === 0 ? 0 : this.looksOff + 1
    if (this.looksOff > 1 && this.problem === '') {
      this.problem = `its clock is ${duration(Math.abs(offMs))} ${offMs > 0 ? 'ahead of' : 'behind'} most others: set it (NTP)`
      this.logger.warn({ offMs }, this.problem)
    } else if (this.looksOff === 0 && this.problem !== '') {
      this.problem = ''
      this.logger.info({}, 'the clock agrees with the others again')
    }
  }

  /** By how much this clock is ahead of most others, or behind (negative). */
  private offMs(): number {
    const known = sorted(this.others())
    const ownMs = this.clock.wallMs()
    const aheadMs = ownMs - (known[known.length >> 1] ?? ownMs)
    const behindMs = (known[(known.length - 1) >> 1] ?? ownMs) - ownMs
    if (aheadMs > toleranceMs) return Math.round(aheadMs)
    return behindMs > toleranceMs ? -Math.round(behindMs) : 0
  }
}

function sorted(clocks: readonly (number | null)[]): readonly number[] {
  return clocks.filter((atMs) => atMs !== null).sort((a, b) => a - b)
}

/** `25 minutes`: the largest unit of which there are two or more. */
function duration(ms: number): string {
  const seconds = Math.round(ms / 1000)
  if (seconds < 120) return `${seconds} seconds`
  if (seconds < 7200) return `${Math.round(seconds / 60)} minutes`
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} hours` : `${Math.round(seconds / 86_400)} days`
}
