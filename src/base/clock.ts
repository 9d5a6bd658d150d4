/** Time comes in through this, so that the simulator can stand in for it. */
export interface Clock {
  /** Milliseconds since some fixed moment; never runs backwards. Fractions are allowed. */
  monotonicMs(): number
  /** Milliseconds since 1970 (UTC) as the machine believes; may jump. */
  wallMs(): number
  /** Calls `callback` once after `delayMs`; the result cancels it. */
  after(delayMs: number, callback: () => void): Cancel
  /** Calls `callback` as soon as the input that waits now has been handled. */
  soon(callback: () => void): void
}

export type Cancel = () => void

export function pause(clock: Pick<Clock, 'after'>, ms: number): Promise<void> {
  return new Promise((resolve) => void clock.after(ms, resolve))
}
