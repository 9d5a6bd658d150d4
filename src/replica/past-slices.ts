import type { StoredEvent } from '../chat/queries.ts'

/** Some events after a position, of whole positions; all up to `upTo` are among them. */
export interface EventSlice {
  readonly events: readonly StoredEvent[]
  readonly upTo: number
}

const mostSlices = 16

/**
 * Slices of past events that were read lately. When a replica dies, thousands of clients come to each of the others, with cursors that lie close together: they go through the same past, and it is read
 * once for all. They need not even begin at the same cursor: who reads on from the end of a slice that another one has read finds the ones behind it here.
 */
export class PastSlices {
  /** Oldest first. */
  private slices: { readonly after: number; readonly slice: EventSlice }[] = []

  /** What is here of the events after `position`; null when nothing is. */
  after(position: number): EventSlice | null {
    for (const { after, slice } of this.slices)
      if (after <= position && position < slice.upTo)
        return { events: slice.events.filter((event) => event.position > position), upTo: slice.upTo }
    return null
  }

  /** Keeps what was read of the events after `position`. */
  keep(position: number, slice: EventSlice): EventSlice {
    this.slices.push({ after: position, slice })
    if (this.slices.length > mostSlices) this.slices.shift()
    return slice
  }

  clear(): void {
    this.slices = []
  }
}
