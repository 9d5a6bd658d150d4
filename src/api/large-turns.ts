import type { Clock } from '../base/clock.ts'
import type { Request } from '../gen/parley/v1/frames.ts'

/** So many requests whose answers may be large are begun in one turn of the event loop, over all connections. */
const perTurn = 16

/**
 * Shares out the turns of the event loop among those who ask for much. Each such request is quick, but thousands of them may come in one frame, and whoever holds up the event loop with them for
 * seconds takes the replica from its cluster. Those who found no room wait their turn; who was served is last.
 */
export class LargeTurns<T> {
  private readonly clock: Clock
  private readonly goOn: (one: T) => void
  private left = perTurn
  private isPlanned = false
  private waiting = new Set<T>()

  /** @param goOn is called for who waited, and may take again. */
  constructor(clock: Clock, goOn: (one: T) => void) {
    this.clock = clock
    this.goOn = goOn
  }

  /** Whether one more may begin now; else `one` is told to go on when there is room. */
  take(one: T): boolean {
    this.plan()
    if (this.left === 0) {
      this.waiting.add(one)
      return false
    }
    this.left -= 1
    return true
  }

  forget(one: T): void {
    this.waiting.delete(one)
  }

  private plan(): void {
    if (this.isPlanned) return
    this.isPlanned = true
    this.clock.soon(() => {
      this.isPlanned = false
      this.left = perTurn
      const before = this.waiting
      this.waiting = new Set()
      for (const one of before) {
        if (this.left === 0) break
        before.delete(one)
        this.goOn(one)
      }
      // Whoever was not served comes before those who were.
      this.waiting = new Set([...before, ...this.waiting])
      if (this.waiting.size > 0) this.plan()
    })
  }
}

/** Whether the answer may be so large that only a few are made at a time: all but the mutations that answer with one thing. */
export function mayBeLarge(op: Request['op']): boolean {
  switch (op?.$case) {
    case 'listAccounts':
    case 'listSessions':
    case 'listConversations':
    case 'listRooms':
    case 'listMembers':
    case 'listMessages':
    case 'searchMessages':
    case 'openInbox':
    case 'getInbox':
    case 'listDrafts':
    case 'saveDraft':
    case 'sendDrafts':
    case 'getStatus':
    case 'readBackup':
    case 'export':
      return true
    default:
      return false
  }
}
