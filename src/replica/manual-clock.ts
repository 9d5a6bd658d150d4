import type { Clock } from '../base/clock.ts'

/** A clock for tests: time passes when the test says so. */
export class ManualClock implements Clock {
  /** Timers fire so much before their time, as those of a busy process do. */
  earlyMs = 0
  /** The wall clock was put forward by so much. */
  wallAheadMs = 0
  private nowMs = 1000
  private order = 0
  private due: { readonly atMs: number; readonly order: number; readonly callback: () => void }[] = []

  monotonicMs(): number {
    return this.nowMs
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.nowMs + this.wallAheadMs
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = {
      atMs: this.nowMs + Math.max(0, delayMs - this.earlyMs),
      order: (this.order += 1),
      callback,
    }
    this.due.push(timer)
    return () => {
      this.due = this.due.filter((other) => other !== timer)
    }
  }

  soon(callback: () => void): void {
    this.after(0, callback)
  }

  /** Everything that is due, and what becomes due by that, now and within `forMs`. */
  run(forMs = 0): void {
    const endMs = this.nowMs + forMs
    for (;;) {
      const next = this.due
        .filter((timer) => timer.atMs <= endMs)
        .sort((a, b) => a.atMs - b.atMs || a.order - b.order)[0]
      if (next === undefined) break
      this.due = this.due.filter((timer) => timer !== next)
      this.nowMs = Math.max(this.nowMs, next.atMs)
      next.callback()
    }
    this.nowMs = endMs
  }
}
