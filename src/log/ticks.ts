import type { Cancel, Clock } from '../base/clock.ts'

/** The most ticks that are not waited for one by one. A process that stalls counts up to so many at once when it wakes, which must be far from an election's time-out. */
const mostQuietTicks = 2

/**
 * The beat of the core: a tick every `tickMs`. A process that only waits is woken up less often: ticks with which the core would do nothing but count are counted late, with the next one
 * that is waited for, or before anything else is stepped. Those that a process missed because it stalled are not made up for.
 */
export class Ticks {
  private readonly clock: Clock
  private readonly tickMs: number
  private readonly onDue: () => void
  private cancel: Cancel | null = null
  private tickedAtMs = 0
  /** Ticks after `tickedAtMs` that are not waited for. The timer is set to the one after them. */
  private quiet = 0
  private isDue = false

  /** @param onDue the time for {@link Ticks.take} has come. */
  constructor(clock: Clock, tickMs: number, onDue: () => void) {
    this.clock = clock
    this.tickMs = tickMs
    this.onDue = onDue
  }

  /** @param canWait that many ticks change nothing but counts, for all that is known now. */
  start(canWait: number): void {
    this.tickedAtMs = this.clock.monotonicMs()
    this.plan(canWait)
  }

  /** Waits for the next tick, and no longer for more quiet ones than `canWait`. */
  waitAtMost(canWait: number): void {
    if (!this.isDue && this.quiet > canWait) this.plan(canWait)
  }

  /** How many of the quiet ticks have passed and are to be counted now. */
  takePassed(): number {
    if (this.quiet === 0) return 0
    const passed = Math.min(
      this.quiet,
      Math.floor((this.clock.monotonicMs() - this.tickedAtMs) / this.tickMs),
    )
    this.quiet -= passed
    this.tickedAtMs += passed * this.tickMs
    return passed
  }

  /** How many ticks are to be counted now that one is due. */
  take(): number {
    const ticks = this.quiet + 1
    this.tickedAtMs = this.clock.monotonicMs()
    this.quiet = 0
    this.isDue = false
    return ticks
  }

  /** Sets the timer to the tick after those that can wait. */
  plan(canWait: number): void {
    this.cancel?.()
    this.quiet = Math.min(mostQuietTicks, canWait)
    const dueMs = this.tickedAtMs + (this.quiet + 1) * this.tickMs
    this.cancel = this.clock.after(Math.max(0, dueMs - this.clock.monotonicMs()), () => {
      this.isDue = true
      // After the input that waits. When this process has stalled, what the others sent meanwhile is there now and must be heard before silence is counted.
      this.clock.soon(this.onDue)
    })
  }

  stop(): void {
    this.cancel?.()
  }
}
