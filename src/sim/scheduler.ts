import { setFlagsFromString } from 'node:v8'

/**
 * Whoever events belong to: one run of a replica's process, or of a client's. Events of an owner that is dead never happen; those of one that is stalled happen when the stall
 * is over, in their order.
 */
export interface Owner {
  readonly name: string
  alive: boolean
  stalledUntilMs: number
}

/** A queue of events in virtual time. Events at the same time happen in the order in which they were put in. */
export interface Scheduler {
  readonly nowMs: number
  /** How many events have happened. */
  readonly events: number
  /** Calls `callback` at `timeMs` (or now, when that is past); the result cancels it. */
  at(timeMs: number, owner: Owner | null, callback: () => void): () => void
  /** Makes the next event happen, and all promises that it resolves. False when there is none up to `untilMs`: then that is the time. */
  step(untilMs: number): boolean
}

interface Slot {
  timeMs: number
  readonly order: number
  readonly owner: Owner | null
  callback: (() => void) | null
}

/** @param afterEach is called after each event, with its owner. */
export function createScheduler(afterEach: (owner: Owner | null) => void): Scheduler {
  const heap: Slot[] = []
  let nowMs = 0
  let events = 0
  let orders = 0

  return {
    get nowMs() {
      return nowMs
    },
    get events() {
      return events
    },
    at(timeMs, owner, callback) {
      orders += 1
      const slot: Slot = { timeMs: Math.max(timeMs, nowMs), order: orders, owner, callback }
      push(heap, slot)
      return () => {
        slot.callback = null
      }
    },
    step(untilMs) {
      for (;;) {
        const first = heap[0]
        if (first === undefined || first.timeMs > untilMs) {
          nowMs = Math.max(nowMs, untilMs)
          return false
        }
        pop(heap)
        if (first.callback === null || first.owner?.alive === false) continue
        if (first.owner !== null && first.owner.stalledUntilMs > first.timeMs) {
          first.timeMs = first.owner.stalledUntilMs
          push(heap, first)
          continue
        }
        nowMs = first.timeMs
        events += 1
        first.callback()
        drainPromises()
        afterEach(first.owner)
        return true
      }
    },
  }
}

/**
 * Calls `body` where {@link drainPromises} can work: outside of any promise's reaction.
 *
 * @throws when this engine cannot run promise reactions on demand: without that no event could be told from the next.
 */
export function outsidePromises<T>(body: () => T): Promise<T> {
  return new Promise((resolve, reject) => {
    setImmediate(() => {
      try {
        let drained = false
        void Promise.resolve().then(() => (drained = true))
        drainPromises()
        if (!drained) throw new Error('promise reactions cannot be run on demand here')
        resolve(body())
      } catch (error) {
        reject(error)
      }
    })
  })
}

/** Runs all reactions of promises that are settled, and those that these settle. */
const drainPromises: () => void = (() => {
  setFlagsFromString('--allow-natives-syntax')
  // oxlint-disable-next-line no-new-func
  const drain = new Function('%PerformMicrotaskCheckpoint()')
  setFlagsFromString('--no-allow-natives-syntax')
  return () => {
    drain()
  }
})()

function isBefore(a: Slot, b: Slot): boolean {
  return a.timeMs < b.timeMs || (a.timeMs === b.timeMs && a.order < b.order)
}

function push(heap: Slot[], slot: Slot): void {
  let at = heap.length
  heap.push(slot)
  while (at > 0) {
    const parentAt = (at - 1) >> 1
    const parent = heap[parentAt]
    if (parent === undefined || !isBefore(slot, parent)) break
    heap[at] = parent
    at = parentAt
  }
  heap[at] = slot
}

function pop(heap: Slot[]): void {
  const last = heap.pop()
  if (last === undefined || heap.length === 0) return
  let at = 0
  for (;;) {
    let childAt = 2 * at + 1
    let child = heap[childAt]
    if (child === undefined) break
    const right = heap[childAt + 1]
    if (right !== undefined && isBefore(right, child)) {
      childAt += 1
      child = right
    }
    if (!isBefore(child, last)) break
    heap[at] = child
    at = childAt
  }
  heap[at] = last
}
