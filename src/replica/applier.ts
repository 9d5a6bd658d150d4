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
  /** The disk has no room; nothing was applied. */
  | { readonly kind: 'noSpace' }
  /** The database, or the state machine outside of any command, failed: this replica cannot go on. Nothing was applied. */
  | { readonly kind: 'failed'; readonly error: unknown }

/** Applies entries to the state machine: all of them in one transaction, or none. */
export function applyEntries(
  entries: readonly CommittedEntry[],
  engineState: Uint8Array,
  machine: ChatMachine,
  store: ApplyStore,
  logger: Logger,
): ApplyResult {
  const last = entries.at(-1)
  assert(last !== undefined, 'there is something to apply')
  const batches = decode(entries, logger)
  for (const careful of [false, true]) {
    try {
      store.begin()
      const results = batches.map((batch) => ({ batch, applied: machine.applyBatch(batch, careful) }))
      machine.flush()
      store.commit(last.index, engineState)
      return { kind: 'applied', batches: results }
    } catch (error) {
      const failure = undo(machine, store)
      if (failure !== null) return { kind: 'failed', error: failure }
      if (isOutOfSpace(error)) return { kind: 'noSpace' }
      if (careful || isDatabaseError(error)) return { kind: 'failed', error }
      logger.error(
        { error: error instanceof Error ? error.stack : String(error), index: last.index },
        'a command failed while it was applied; applying again, each command on its own',
      )
    }
  }
  return { kind: 'failed', error: new Error('unreachable') }
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

function undo(machine: ChatMachine, store: ApplyStore): unknown {
  try {
    store.rollback()
    machine.reload()
    return null
  } catch (error) {
    return error
  }
}
