import type { StoredEvent } from '../chat/queries.ts'

/** The newest events, in memory: a client that reconnects soon catches up from here without a query. */
export class RecentEvents {
  private readonly maxEvents: number
  private readonly maxBytes: number
  private events: StoredEvent[] = []
  private sizes: number[] = []
  /** Index in `events` of the oldest one kept. */
  private head = 0
  private bytes = 0
  /** All events after this position are here. */
  private start: number

  constructor(position: number, limits: { readonly maxEvents: number; readonly maxBytes: number }) {
    this.start = position
    this.maxEvents = limits.maxEvents
    this.maxBytes = limits.maxBytes
  }

  /** @param roughBytes what the event takes; an event is not encoded just to find out. */
  add(event: StoredEvent, roughBytes: number): void {
    this.events.push(event)
    this.sizes.push(roughBytes)
    this.bytes += roughBytes
    while (this.events.length - this.head > this.maxEvents || this.bytes > this.maxBytes) {
      this.start = this.events[this.head]?.position ?? this.start
      this.bytes -= this.sizes[this.head] ?? 0
      this.head += 1
    }
    if (this.head > this.maxEvents) {
      this.events = this.events.slice(this.head)
      this.sizes = this.sizes.slice(this.head)
      this.head = 0
    }
  }

  /** Forgets everything: the state jumped to `position`. */
  reset(position: number): void {
    this.events = []
    this.sizes = []
    this.head = 0
    this.bytes = 0
    this.start = position
  }

  /**
   * Events after `position`, oldest first: about `limit`, or `maxBytes` of them, and never only some of those of one position. All up to `upTo` are among them. Null when some are no longer here.
   *
   * @param newest the position up to which events were added.
   */
  after(
    position: number,
    { limit, maxBytes }: { readonly limit: number; readonly maxBytes: number },
    newest: number,
  ): { readonly events: readonly StoredEvent[]; readonly upTo: number } | null {
    if (position < this.start) return null
    let low = this.head
    let high = this.events.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.events[middle]?.position ?? Infinity) <= position) low = middle + 1
      else high = middle
    }
    const most = Math.min(low + limit, this.events.length)
    let end = low
    for (let bytes = 0; end < most && bytes < maxBytes; end += 1) bytes += this.sizes[end] ?? 0
    const last = this.events[end - 1]?.position
    while (end < this.events.length && this.events[end]?.position === last) end += 1
    const upTo = end === this.events.length ? newest : (last ?? newest)
    return { events: this.events.slice(low, end), upTo }
  }
}
