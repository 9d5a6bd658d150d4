/** What happened, for people and for comparing two runs. */
export interface Trace {
  /**
   * Notes an event.
   *
   * @param lane the replica or client it happened at; 0 = none.
   * @param value a number that depends on what happened: goes into the digest.
   * @param text made only when somebody reads it.
   */
  add(kind: string, lane: number, value: number, text: () => string, message?: TracedMessage): void
  /** Equal for two runs when everything that was noted is equal, in the same order and at the same times. */
  digest(): string
  readonly size: number
  /** The newest events that were kept, oldest first. */
  kept(): readonly TracedEvent[]
}

export interface TracedEvent {
  readonly timeMs: number
  readonly kind: string
  readonly lane: number
  readonly text: string
  readonly message: TracedMessage | null
}

/** An arrow: the event is at its head. */
export interface TracedMessage {
  readonly from: number
  readonly sentMs: number
}

/** @param keep how many of the newest events to keep. */
export function createTrace(nowMs: () => number, keep: number): Trace {
  const ring: (Omit<TracedEvent, 'text'> & { readonly text: () => string })[] = []
  const kinds = new Map<string, number>()
  const time = new Float64Array(1)
  const timeBits = new Uint32Array(time.buffer)
  let low = 0x811c9dc5
  let high = 0x9747b28c
  let size = 0

  function mix(value: number): void {
    low = Math.imul(low ^ value, 0x01000193)
    high = Math.imul(high ^ value ^ (low >>> 15), 0x85ebca6b)
    high ^= high >>> 13
  }

  return {
    add(kind, lane, value, text, message) {
      let code = kinds.get(kind)
      if (code === undefined) {
        code = 0
        for (let i = 0; i < kind.length; i += 1) code = Math.imul(code, 31) + kind.charCodeAt(i)
        kinds.set(kind, code)
      }
      time[0] = nowMs()
      mix(timeBits[0] ?? 0)
      mix(timeBits[1] ?? 0)
      mix(code)
      mix(lane)
      mix(value)
      if (keep > 0) ring[size % keep] = { timeMs: nowMs(), kind, lane, text, message: message ?? null }
      size += 1
    },
    digest: () =>
      (low >>> 0).toString(16).padStart(8, '0') +
      (high >>> 0).toString(16).padStart(8, '0') +
      size.toString(16).padStart(8, '0'),
    get size() {
      return size
    },
    kept() {
      const start = size > keep ? size % keep : 0
      return [...ring.slice(start), ...ring.slice(0, start)].map((event) => ({
        ...event,
        text: event.text(),
      }))
    },
  }
}

/** One event as a line. */
export function traceLine(event: TracedEvent): string {
  const lane = event.lane === 0 ? '-' : event.lane > 0 ? `r${event.lane}` : `c${-event.lane}`
  return `${event.timeMs.toFixed(3).padStart(12)}  ${lane.padEnd(4)} ${event.kind.padEnd(10)} ${event.text}`
}

/** 32 bits that depend on all of the bytes (FNV-1a). */
export function hashBytes(bytes: Uint8Array): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < bytes.length; i += 1) hash = Math.imul(hash ^ (bytes[i] ?? 0), 0x01000193)
  return hash >>> 0
}
