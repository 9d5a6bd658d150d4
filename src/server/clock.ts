import type { Clock } from '../base/clock.ts'

/** The machine's time. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs)
    return () => clearTimeout(timer)
  },
  soon(callback) {
    setImmediate(callback)
  },
}
