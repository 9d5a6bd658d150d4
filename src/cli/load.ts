/** What came of keeping a number of requests open for a while. */
export interface LoadResult {
  readonly outstanding: number
  readonly seconds: number
  readonly completed: number
  /** With those that were still open at the end and then failed. */
  readonly failed: number
  readonly perSecond: number
  readonly latencyMs: Latency
}

export interface Latency {
  readonly mean: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

export interface Load {
  readonly outstanding: number
  /** Not counted: connections, caches and the compiler get going. */
  readonly warmUpMs: number
  readonly measureMs: number
  /** Wraps the time that is measured, so that other things can be measured over the same. */
  readonly during?: (measuring: () => Promise<void>) => Promise<void>
  /** Default {@link wait}; one that comes back early ends the load early. */
  readonly pause?: (delayMs: number) => Promise<void>
  /** Makes a request. `done` is called once, never before this returns; with false when it failed. */
  readonly send: (slot: number, done: (good: boolean) => void) => void
}

/** Keeps `outstanding` requests open: each that is answered is followed by another (a closed loop). */
export async function drive({
  outstanding,
  warmUpMs,
  measureMs,
  send,
  during,
  pause = wait,
}: Load): Promise<LoadResult> {
  const latencies: number[] = []
  let completed = 0
  let failed = 0
  let isMeasuring = false
  let isOver = false
  let open = 0
  let allDone: (() => void) | null = null

  function next(slot: number): void {
    open += 1
    const beganMs = performance.now()
    send(slot, (good) => {
      open -= 1
      if (isMeasuring) {
        if (good) {
          completed += 1
          latencies.push(performance.now() - beganMs)
        } else failed += 1
      } else if (isOver && !good) failed += 1
      if (!isOver) next(slot)
      else if (open === 0) allDone?.()
    })
  }
  for (let slot = 0; slot < outstanding; slot += 1) next(slot)
  await pause(warmUpMs)
  let seconds = 0
  const measuring = async (): Promise<void> => {
    isMeasuring = true
    const beganMs = performance.now()
    await pause(measureMs)
    isMeasuring = false
    seconds = (performance.now() - beganMs) / 1000
  }
  await (during === undefined ? measuring() : during(measuring))
  isOver = true
  if (open > 0)
    await new Promise<void>((resolve) => {
      allDone = resolve
    })
  return {
    outstanding,
    seconds,
    completed,
    failed,
    perSecond: seconds === 0 ? 0 : completed / seconds,
    latencyMs: summarise(latencies),
  }
}

export function summarise(values: readonly number[]): Latency {
  const sorted = Float64Array.from(values).sort()
  const at = (part: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0
  const sum = sorted.reduce((total, value) => total + value, 0)
  return { mean: sorted.length === 0 ? 0 : sum / sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) }
}

export function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
