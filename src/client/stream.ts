import type { Event } from '../gen/parley/v1/service.ts'

/**
 * Follows an event stream across connections: says from where to resume, and drops what comes again.
 *
 * Several events may share a position, and a connection may break between them, so the position of the last event is no safe cursor. The stream is resumed
 * from the last position that is known to be complete; the events of the next one that were seen already come again, in the same order, and are skipped by count.
 */
export class EventStream {
  private complete: number
  private openPosition = 0
  private seenAtOpen = 0
  private comesAgain = 0

  /** @param cursor everything up to this position is known; 0: begin from now on, and then the first event says where that is. */
  constructor(cursor: number) {
    this.complete = cursor
  }

  /** The cursor for a new connection's stream. */
  resume(): number {
    this.comesAgain = this.seenAtOpen
    return this.complete
  }

  /** The events of `events` that are new, in order. */
  accept(events: readonly Event[]): Event[] {
    return events.filter((event) => this.isNew(event))
  }

  private isNew(event: Event): boolean {
    const kind = event.event?.$case
    if (kind === 'resync') {
      this.closeAt(event.position)
      return true
    }
    if (event.position <= this.complete) return false
    if (event.position < this.openPosition) {
      // A replica that lags behind the one before says how far it has got: what is open comes again when it catches up.
      if (kind === 'progress') this.complete = event.position
      return false
    }
    if (kind === 'progress') {
      this.closeAt(event.position)
      return true
    }
    if (event.position > this.openPosition) {
      this.closeAt(Math.max(this.complete, this.openPosition))
      this.openPosition = event.position
    } else if (this.comesAgain > 0) {
      this.comesAgain -= 1
      return false
    }
    this.seenAtOpen += 1
    return true
  }

  private closeAt(position: number): void {
    this.complete = position
    this.openPosition = 0
    this.seenAtOpen = 0
    this.comesAgain = 0
  }
}
