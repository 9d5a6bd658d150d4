import type { CommandBatch, Outcome } from '../gen/parley/v1/command.ts'

/** Who gets an event. */
export type Audience =
  /** Every account that is a member of the conversation at this point. */
  | { readonly kind: 'conversation'; readonly conversation: number }
  | { readonly kind: 'account'; readonly account: number }
  | { readonly kind: 'all' }

export interface ChatEvent {
  readonly position: number
  readonly audience: Audience
  /** The encoded `Event`: made once, sent to all who get it. */
  readonly bytes: Uint8Array
}

/** What applying one command came to. */
export interface Applied {
  readonly position: number
  readonly outcome: Outcome
  readonly events: readonly ChatEvent[]
  /** Sessions that ended here: their connections are to be told and unbound. */
  readonly endedSessions: readonly number[]
  /**
   * Accounts that joined or left a conversation here, `#everyone` left out: who gets the events of a conversation from this command's own events on. Empty for most
   * commands.
   */
  readonly memberships: readonly MembershipChange[]
}

export interface MembershipChange {
  readonly account: number
  readonly conversation: number
  readonly member: boolean
}

/**
 * The chat as a deterministic state machine over a SQL database. The caller opens the transaction, applies batches, calls `flush`, stores its own applied index and commits.
 * After a rollback, or when the database was swapped, it calls `reload`.
 */
export interface ChatMachine {
  /** The number of commands applied so far. */
  readonly position: number
  /** Commands up to this version (src/base/version.ts) may be used. */
  readonly version: number
  /** The cluster's clock: the largest time stamp applied so far, in milliseconds since 1970. */
  readonly nowMs: number

  /**
   * Applies one batch at a time. Null when the batch is not the next of its origin and is therefore skipped. An error that comes out of here leaves the transaction to be
   * rolled back: either a command is poisonous; then the caller applies again with `careful`, which wraps each command in a savepoint and turns its throw into the rejection
   * COMMAND_FAILED. Or this replica failed (its disk, its memory): that comes out with `careful` too, and the replica must not go on.
   */
  applyBatch(batch: CommandBatch, careful: boolean): readonly Applied[] | null

  /** Writes what was kept in memory for speed. Before every commit. */
  flush(): void

  reload(): void
}
