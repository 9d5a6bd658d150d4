import type { Clock } from '../base/clock.ts'

const sameSignalMs = 1000

interface End {
  readonly code: number
  readonly isGraceful: boolean
}

/** How the replica comes to its end. */
export class Ending {
  private resolve: (end: End) => void = () => undefined
  private hurry: () => void = () => undefined
  private readonly clock: Pick<Clock, 'monotonicMs'>
  private askedMs: number | null = null
  readonly reached = new Promise<End>((resolve) => {
    this.resolve = resolve
  })
  /** Somebody does not want to wait for a graceful end: nothing is lost without it. */
  readonly hurried = new Promise<void>((resolve) => {
    this.hurry = resolve
  })

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.clock = clock
  }

  now(code: number): void {
    this.resolve({ code, isGraceful: false })
  }

  /** Gracefully at first, and at once when asked again. One signal may come several times at once: from a supervisor, and from what sends it to all processes. */
  asked(): void {
    const nowMs = this.clock.monotonicMs()
    this.askedMs ??= nowMs
    if (nowMs - this.askedMs > sameSignalMs) this.hurry()
    this.gracefully()
  }

  gracefully(code = 0): void {
    this.resolve({ code, isGraceful: true })
  }
}
