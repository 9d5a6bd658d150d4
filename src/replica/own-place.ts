import type { Cancel, Clock } from '../base/clock.ts'
import type { Logger } from '../base/logger.ts'
import type { LogStatus } from '../log/port.ts'
import { formatAddresses, type ReplicaAddresses } from './addresses.ts'
import type { ReplicaSetAnswer, ReplicaSetChange } from './replica-set.ts'

export interface OwnPlaceOptions {
  readonly clock: Clock
  readonly logger: Logger
  /** Where this replica listens, as the others should know it. */
  readonly addresses: ReplicaAddresses
  /** It wants a vote as soon as it has caught up. */
  readonly wantsVote: boolean
  readonly status: () => LogStatus
  readonly change: (change: ReplicaSetChange, timeoutMs: number) => Promise<ReplicaSetAnswer>
}

/** While something is to be asked for, it is asked for so often: a learner notices soon after it has caught up. */
const againMs = 200
const timeoutMs = 5000

/** Sees to it that this replica's own entry in the replica set is right: its addresses, which may change at a restart, and its vote, once it has caught up. */
export class OwnPlace {
  private readonly options: OwnPlaceOptions
  private cancel: Cancel | null = null
  private underWay = false
  private closed = false
  private lastRefusal = ''

  constructor(options: OwnPlaceOptions) {
    this.options = options
  }

  /** Something about the replica set may have changed. */
  look(): void {
    if (this.closed || this.underWay || this.cancel !== null) return
    const wanted = this.wanted()
    if (wanted === null) return
    this.underWay = true
    // A promise that rejects is a bug, and ends the process as any other.
    void this.options.change(wanted, timeoutMs).then((answer) => {
      this.underWay = false
      if (this.closed) return
      this.note(wanted, answer)
      this.cancel = this.options.clock.after(againMs, () => {
        this.cancel = null
        this.look()
      })
    })
  }

  close(): void {
    this.closed = true
    this.cancel?.()
  }

  private wanted(): ReplicaSetChange | null {
    const { addresses, wantsVote, status } = this.options
    const { self, available, members } = status()
    const own = members.find(({ id }) => id === self)
    if (own === undefined || !available) return null
    if (own.address !== formatAddresses(addresses)) return { kind: 'move', replica: self, addresses }
    return wantsVote && !own.voter ? { kind: 'promote', replica: self } : null
  }

  private note({ kind }: ReplicaSetChange, answer: ReplicaSetAnswer): void {
    const { logger } = this.options
    if (answer.ok) {
      logger.info({ change: kind }, 'the entry of this replica in the replica set was changed')
      return
    }
    // A learner that catches up hears the same for a while.
    if (answer.message === this.lastRefusal) return
    this.lastRefusal = answer.message
    logger.info({ change: kind, reason: answer.reason }, answer.message)
  }
}
