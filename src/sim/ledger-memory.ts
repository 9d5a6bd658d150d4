import { replicaName, type ReplicaId } from '../base/ids.ts'
import type { Invariants } from './invariants.ts'

type Lists = ReadonlyMap<number, readonly number[]>

/**
 * The longest lists that a machine has had in its life, over restarts and copies of the state that it took over: a list may be shorter for a while, when a power cut took the end of
 * the state and the log brings it back, but nothing in it is ever replaced.
 */
export class LedgerMemory {
  private readonly lists = new Map<number, number[]>()

  see(replica: ReplicaId, lists: Lists, invariants: Invariants): void {
    for (const [key, now] of lists) {
      let known = this.lists.get(key)
      if (known === undefined) {
        known = []
        this.lists.set(key, known)
      }
      for (const [place, value] of now.entries()) {
        if (place >= known.length) known.push(value)
        else if (known[place] !== value)
          invariants.fail(
            'nothing that was applied is replaced',
            `${replicaName(replica)} has ${value} at place ${place + 1} of list ${key}, where it had ${known[place] ?? 'nothing'}`,
          )
      }
    }
  }

  /** What is not in `lists` any more, or not yet again; null when all is there. */
  missing(lists: Lists): string | null {
    for (const [key, known] of this.lists) {
      const now = lists.get(key) ?? []
      const place = known.findIndex((value, at) => now[at] !== value)
      if (place !== -1) return `${known[place] ?? ''} at place ${place + 1} of list ${key}`
    }
    return null
  }
}
