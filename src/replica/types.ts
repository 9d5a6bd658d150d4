import type { ChatQueries } from '../chat/queries.ts'
import type { Command, Outcome } from '../gen/parley/v1/command.ts'
import type {
  GetStatusResponse,
  SearchMessagesRequest,
  SearchMessagesResponse,
} from '../gen/parley/v1/service.ts'
import type { ReplicaSetAnswer, ReplicaSetChange } from './replica-set.ts'

/** One replica as the ways in (`api/`) see it. */
export interface Replica {
  /**
   * Proposes a command and calls back once: with its outcome when this replica has applied it, or with the reason why that did not happen.
   * `outcomeUnknown`: the deadline passed while it was under way. Many calls in one turn of the event loop cost one log entry.
   */
  execute(command: Command, timeoutMs: number, done: (result: Executed) => void): void

  /** Calls back when this replica may answer a read: linearizable, or local once `minPosition` has been applied. */
  whenReadable(read: ReadOptions, done: (failure: Unavailable | null) => void): void

  /** Queries over the applied state; only inside the callback of `whenReadable`, synchronously. Each takes under 5 ms. */
  readonly queries: ChatQueries

  /** Full-text search, off the replication thread. */
  search(account: number, request: SearchMessagesRequest): Promise<SearchMessagesResponse>

  /**
   * Streams events after `cursor` to `receiver`, first those that are past, then live ones, in order. The session counts as connected while a subscription of it is open.
   * The result ends the subscription.
   */
  subscribe(
    who: { readonly account: number; readonly session: number },
    cursor: number,
    receiver: Receiver,
  ): Subscription

  /** A consistent copy of the state with everything that has been applied, to be read piece by piece and closed. */
  takeCopy(): Promise<StateCopy>

  /** Notes that the session did something: for idle log-out. Cheap; goes through the log only now and then. */
  touch(session: number): void

  /** Changes the replica set, or who leads. Resolves when that is committed, or refused, at the latest a little after `timeoutMs`. */
  change(change: ReplicaSetChange, timeoutMs: number): Promise<ReplicaSetAnswer>

  status(): GetStatusResponse
  readonly position: number
  /**
   * Milliseconds since 1970 by the cluster's clock, which follows the replica that is furthest ahead. Ids must carry this time: by the clock of a replica that is days behind
   * they would all be refused.
   */
  readonly nowMs: number
  /** Calls back whenever quorum, leader, draining, hindered or addresses change; the result stops it. */
  onStateChange(listener: () => void): () => void
  readonly state: ReplicaState
}

export interface StateCopy {
  /** Holds its SHA-256: what is read names the same bytes as long as this is the same. */
  readonly id: string
  /** Of the newest entry of the log that is in it. */
  readonly index: number
  readonly sizeBytes: number
  /** Fewer bytes than asked for at the end. */
  read(offset: number, maxBytes: number): Promise<Uint8Array>
  close(): Promise<void>
}

export interface ReplicaState {
  readonly self: number
  readonly clusterId: Uint8Array
  readonly leader: number
  readonly quorum: boolean
  /** Replicas without which nothing goes on and that do not answer, where it is known that each of them is needed. */
  readonly waitingFor: readonly number[]
  readonly draining: boolean
  /** It takes no writes although there may be a quorum: it has no room on its disk, or has not caught up since it was cut off. */
  readonly hindered: boolean
  /** HTTP addresses of the replicas that have a vote. */
  readonly addresses: readonly string[]
}

export type Unavailable =
  | 'noQuorum'
  | 'noSpace'
  | 'draining'
  | 'catchingUp'
  | 'overloaded'
  /** Nothing that was proposed comes back although a quorum answers: its disks are full, or hang. */
  | 'stalled'
  | 'deadline'
  /** A command that some replica may not know yet. */
  | 'upgradePending'

export type Executed =
  | { readonly kind: 'applied'; readonly outcome: Outcome; readonly position: number }
  | { readonly kind: 'refused'; readonly why: Unavailable }
  | { readonly kind: 'outcomeUnknown'; readonly why: Unavailable }

export type ReadOptions =
  | { readonly local: false; readonly timeoutMs: number }
  | { readonly local: true; readonly minPosition: number; readonly timeoutMs: number }

export interface Subscription {
  close(): void
  /** The receiver can take more, after `events` returned false. */
  resume(): void
}

export interface Receiver {
  /**
   * Encoded events, in order: several at once when several are there. The arrays are shared between receivers and must not be changed.
   * All events of one position come in one call. Returns false when these were taken but the receiver's buffer is full now: it gets no more until `resume`, and what it missed comes then from the event table; a receiver that is too slow for
   * that gets `Resync`. So a slow receiver costs no memory.
   */
  events(encoded: readonly Uint8Array[]): boolean
  /** The session ended; nothing follows. */
  ended(): void
}
