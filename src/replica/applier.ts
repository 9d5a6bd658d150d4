import { assert } from '../base/assert.ts'
import type { Logger } from '../base/logger.ts'
import type { ChatQueries } from '../chat/queries.ts'
import type { Applied, ChatMachine } from '../chat/types.ts'
import { CommandBatch } from '../gen/parley/v1/command.ts'
import type { CommittedEntry } from '../log/port.ts'
import { isDatabaseError, isOutOfSpace } from '../storage/errors.ts'

/** The chat over one database connection. */
export interface OpenChat {
  readonly machine: ChatMachine
  readonly queries: ChatQueries
}

/** The transactions of `state.db`, as applying needs them. */
export interface ApplyStore {
  /** Whether an attempt to commit is worth its while after one for which there was no room. */
  readonly hasRoom: boolean
  begin(): void
  /** Stores both in the transaction and commits it. */
  commit(appliedIndex: number, engineState: Uint8Array): void
  rollback(): void
}

/** What an entry came to: its batch and, unless the state machine skipped it, the outcomes of its commands. */
export interface AppliedBatch {
  readonly batch: CommandBatch
  readonly applied: readonly Applied[] | null
}

export type ApplyResult =
  | { readonly kind: 'applied'; readonly batches: readonly AppliedBatch[] }
  /** The disk has no room; nothing was applied, and nothing will be before a commit succeeds. */
  | { readonly kind: 'noSpace' }
  /** The database, or the state machine outside of any command, failed: this replica cannot go on. Nothing was applied. */
  | { readonly kind: 'failed'; readonly error: unknown }

/** What became of an attempt to commit. */
export type CommitResult =
  | { readonly kind: 'committed' }
  /** Everything is applied as before, and still not committed. */
  | { readonly kind: 'noSpace' }
  | { readonly kind: 'failed'; readonly error: unknown }

/** So much is applied before it must be committed. It is applied anew whenever there is no room for that. */
const maxUncommittedBytes = 1024 * 1024

/**
 * Applies entries to the state machine: of one call, all or none.
 *
 * The transaction of `state.db` is left open over many calls and committed now and then, since a commit costs as much as applying tens of messages. Everything that reads through
 * the same connection sees what was applied. A crash takes the state back to the last commit, and the log applies the rest again; so does a rollback in here, from the
 * entries that are kept until they are committed.
 */
export class Applier {
  private readonly machine: ChatMachine
  private readonly store: ApplyStore
  private readonly logger: Logger
  private isOpen = false
  /** There was no room: nothing more is applied until something was committed. */
  private isShort = false
  private uncommitted: CommittedEntry[] = []
  private uncommittedBytes = 0
  private engineState: Uint8Array = new Uint8Array(0)

  constructor(machine: ChatMachine, store: ApplyStore, logger: Logger) {
    this.machine = machine
    this.store = store
    this.logger = logger
  }

  /** Something is applied and not committed. */
  get isDirty(): boolean {
    return this.uncommitted.length > 0
  }

  apply(entries: readonly CommittedEntry[], engineState: Uint8Array): ApplyResult {
    assert(entries.length > 0, 'there is something to apply')
    if (this.isShort) return { kind: 'noSpace' }
    if (this.uncommittedBytes >= maxUncommittedBytes) {
      const result = this.commit()
      if (result.kind !== 'committed') return result
    }
    const batches = decode(entries, this.logger)
    try {
      const results = this.run(batches, false)
      this.applied(entries, engineState)
      return { kind: 'applied', batches: results }
    } catch (error) {
      return this.applyAgain(entries, batches, engineState, error)
    }
  }

  /** Makes what was applied survive the end of the process. */
  commit(): CommitResult {
    // Each attempt that fails costs as much as applying anew all that is not committed.
    if (this.isShort && !this.store.hasRoom) return { kind: 'noSpace' }
    this.isShort = false
    const last = this.uncommitted.at(-1)
    if (last === undefined) return { kind: 'committed' }
    try {
      this.store.commit(last.index, this.engineState)
    } catch (error) {
      const failure = this.undo()
      if (failure !== null) return { kind: 'failed', error: failure }
      return isOutOfSpace(error) ? this.short() : { kind: 'failed', error }
    }
    this.isOpen = false
    this.uncommitted = []
    this.uncommittedBytes = 0
    return { kind: 'committed' }
  }

  private applyAgain(
    entries: readonly CommittedEntry[],
    batches: readonly CommandBatch[],
    engineState: Uint8Array,
    error: unknown,
  ): ApplyResult {
    const failure = this.undo()
    if (failure !== null) return { kind: 'failed', error: failure }
    if (isOutOfSpace(error)) return this.short()
    if (isDatabaseError(error)) return { kind: 'failed', error }
    this.logger.error(
      { error: error instanceof Error ? error.stack : String(error), index: entries.at(-1)?.index },
      'a command failed while it was applied; applying again, each command on its own',
    )
    try {
      const results = this.run(batches, true)
      this.applied(entries, engineState)
      return { kind: 'applied', batches: results }
    } catch (secondError) {
      const secondFailure = this.undo()
      if (secondFailure === null && isOutOfSpace(secondError)) return this.short()
      return { kind: 'failed', error: secondFailure ?? secondError }
    }
  }

  private run(batches: readonly CommandBatch[], careful: boolean): readonly AppliedBatch[] {
    if (!this.isOpen) {
      this.store.begin()
      this.isOpen = true
    }
    const results = batches.map((batch) => ({ batch, applied: this.machine.applyBatch(batch, careful) }))
    this.machine.flush()
    return results
  }

  private applied(entries: readonly CommittedEntry[], engineState: Uint8Array): void {
    for (const entry of entries) {
      this.uncommitted.push(entry)
      this.uncommittedBytes += entry.data === null ? 0 : entry.data.length
    }
    this.engineState = engineState
  }

  private short(): { readonly kind: 'noSpace' } {
    this.isShort = true
    return { kind: 'noSpace' }
  }

  /** Takes back what is half done: everything since the last commit, and then applies again what had been applied in whole. Returns what went wrong with that. */
  private undo(): unknown {
    try {
      this.isOpen = false
      this.store.rollback()
      this.machine.reload()
      if (this.uncommitted.length > 0) this.run(decode(this.uncommitted, this.logger), true)
      return null
    } catch (error) {
      return error
    }
  }
}

/** Bytes that are no batch were written by a faulty or newer replica. All replicas skip them alike, so that they stay the same. */
function decode(entries: readonly CommittedEntry[], logger: Logger): readonly CommandBatch[] {
  const batches: CommandBatch[] = []
  for (const { index, data } of entries) {
    if (data === null) continue
    try {
      batches.push(CommandBatch.decode(data))
    } catch (error) {
      logger.error({ error: String(error), index }, 'an entry holds no batch of commands; skipped')
    }
  }
  return batches
}
