import { encode } from '../base/encode.ts'
import { uuidV7TimeMs } from '../base/ids.ts'
import { Outcome } from '../gen/parley/v1/command.ts'
import { Message } from '../gen/parley/v1/model.ts'
import { InsertQueue } from './insert-queue.ts'
import type { MessageRow } from './messages.ts'
import { RecentIds } from './recent-ids.ts'
import { isKept, type Result } from './rejections.ts'
import type { SqlRow } from './sql.ts'
import { blob, integer, type Statements } from './statements.ts'

const dayMs = 24 * 60 * 60 * 1000
/** Ids from further back are refused: their outcomes may no longer be known. */
export const idWindowBackMs = 7 * dayMs
export const idWindowAheadMs = dayMs
/** Outcomes are kept a day longer than ids are taken, so that none is missed. */
const keptMs = 8 * dayMs
/** How many outcomes are dropped at most for each command that is applied: more than come in, so that there is never much to do at once. */
const prunedPerCommand = 4

/** What a command with the same id came to before. */
export interface StoredOutcome {
  readonly account: number
  readonly fingerprint: number
  readonly outcome:
    | { readonly kind: 'sent'; readonly place: number; readonly delivered: boolean }
    /** Without texts. */
    | { readonly kind: 'other'; readonly result: Result }
}

/** The outcomes of the last days, by id. */
export class Outcomes {
  private readonly sql: Statements
  private readonly inserts: InsertQueue
  private readonly recent = new RecentIds()
  /** No outcome has an id with an earlier time; null = not known. */
  private oldestMs: number | null = null

  constructor(sql: Statements) {
    this.sql = sql
    this.inserts = new InsertQueue(sql, 'outcome', ['id', 'account', 'fingerprint', 'sent', 'delivered'])
    this.clear()
  }

  find(id: Uint8Array): StoredOutcome | null {
    const row = this.sql
      .of('SELECT account, fingerprint, sent, delivered, body FROM outcome WHERE id = ?')
      .get(id)
    if (row === undefined) return null
    const account = integer(row['account'])
    const fingerprint = integer(row['fingerprint'])
    if (row['sent'] !== null) {
      const delivered = integer(row['delivered']) === 1
      return { account, fingerprint, outcome: { kind: 'sent', place: integer(row['sent']), delivered } }
    }
    const result = Outcome.decode(blob(row['body'])).outcome
    if (result === undefined) throw new Error('a stored outcome is empty')
    return { account, fingerprint, outcome: { kind: 'other', result } }
  }

  /**
   * Notes a message that is sent next, at `place`. False when the id was used before: then nothing is changed. It is in the table after {@link flush}, if not before.
   *
   * @param timeMs the time inside `id`.
   */
  claim(
    id: Uint8Array,
    timeMs: number,
    account: number,
    fingerprint: number,
    place: number,
    delivered: boolean,
  ): boolean {
    if (this.recent.mayHave(id, timeMs)) {
      this.flush()
      if (this.sql.of('SELECT 1 FROM outcome WHERE id = ?').get(id) !== undefined) return false
    }
    this.inserts.add(id, account, fingerprint, place, delivered ? 1 : 0)
    this.note(id, timeMs)
    return true
  }

  keep(id: Uint8Array, timeMs: number, account: number, fingerprint: number, result: Result): void {
    if (!isKept(result)) return
    this.sql
      .of('INSERT INTO outcome (id, account, fingerprint, body) VALUES (?, ?, ?, ?)')
      .run(id, account, fingerprint, encode(Outcome, { outcome: withoutTexts(result) }))
    this.note(id, timeMs)
  }

  /** The message is removed: its outcome must do without it. */
  detach(message: MessageRow): void {
    const { id, place, conversation, seq, atMs } = message
    const row = this.sql.of('SELECT delivered FROM outcome WHERE id = ? AND sent = ?').get(id, place)
    if (row === undefined) return
    const value = { conversation, seq, atMs, delivered: integer(row['delivered']) === 1 }
    this.sql
      .of('UPDATE outcome SET sent = NULL, delivered = NULL, body = ? WHERE id = ?')
      .run(encode(Outcome, { outcome: { $case: 'sendMessage', value } }), id)
  }

  /** Drops some of the outcomes that are older than any id that is still taken. */
  prune(nowMs: number, commands: number): void {
    const cutoffMs = nowMs - keptMs
    this.oldestMs ??= this.findOldestMs()
    if (this.oldestMs >= cutoffMs || cutoffMs <= 0) return
    this.flush()
    this.sql
      .of('DELETE FROM outcome WHERE id IN (SELECT id FROM outcome WHERE id < ? ORDER BY id LIMIT ?)')
      .run(firstIdOf(cutoffMs), commands * prunedPerCommand)
    this.oldestMs = this.findOldestMs()
  }

  /** Writes the outcomes that wait. Before it, nothing may be looked for in the table. */
  flush(): void {
    this.inserts.flush()
  }

  /** Forgets what is in memory: the table may be another one. */
  clear(): void {
    this.inserts.clear()
    this.oldestMs = null
    const newest = this.sql.of('SELECT id FROM outcome ORDER BY id DESC LIMIT 1').get()
    this.recent.clear(newest === undefined ? 0 : timeOf(newest))
  }

  private note(id: Uint8Array, timeMs: number): void {
    this.recent.add(id, timeMs)
    if (this.oldestMs !== null && timeMs < this.oldestMs) this.oldestMs = timeMs
  }

  private findOldestMs(): number {
    this.flush()
    const oldest = this.sql.of('SELECT id FROM outcome ORDER BY id LIMIT 1').get()
    return oldest === undefined ? Infinity : timeOf(oldest)
  }
}

function timeOf(row: SqlRow): number {
  return uuidV7TimeMs(blob(row['id'])) ?? 0
}

/** Sorts before all ids of this time and later. */
function firstIdOf(timeMs: number): Uint8Array {
  const id = new Uint8Array(16)
  const view = new DataView(id.buffer)
  view.setUint16(0, Math.floor(timeMs / 2 ** 32))
  view.setUint32(2, timeMs >>> 0)
  return id
}

/**
 * A deleted message must not live on in an outcome, and an outcome must stay small: texts are put back from the tables, as they are then, when a command is repeated.
 */
function withoutTexts(result: Result): Result {
  switch (result.$case) {
    case 'openInbox':
      return {
        $case: 'openInbox',
        value: {
          ...result.value,
          messages: result.value.messages.map(({ conversation, seq }) =>
            Message.fromPartial({ conversation, seq }),
          ),
        },
      }
    case 'editMessage':
      return result.value.message === undefined
        ? result
        : { $case: 'editMessage', value: { message: { ...result.value.message, text: '' } } }
    case 'saveDraft': {
      const { draft, conflictCopy } = result.value
      return {
        $case: 'saveDraft',
        value: {
          draft: draft === undefined ? undefined : { ...draft, text: '' },
          conflictCopy: conflictCopy === undefined ? undefined : { ...conflictCopy, text: '' },
        },
      }
    }
    default:
      return result
  }
}
