import type { Message } from '../gen/parley/v1/model.ts'
import { InsertQueue } from './insert-queue.ts'
import type { SqlRow } from './sql.ts'
import { blob, boolean, integer, string, type Statements } from './statements.ts'

export interface MessageRow {
  /** See {@link placeOf}. */
  readonly place: number
  readonly conversation: number
  readonly seq: number
  readonly id: Uint8Array
  readonly sender: number
  readonly text: string
  readonly atMs: number
  readonly editedAtMs: number
  readonly changedPosition: number
  readonly deleted: boolean
}

const placesPerPosition = 65_536

/** Orders messages and events: by the position of their command, then by a number within it. */
export function placeOf(position: number, ordinal: number): number {
  return position * placesPerPosition + ordinal
}

export function positionOfPlace(place: number): number {
  return Math.floor(place / placesPerPosition)
}

export function messageFromRow(row: SqlRow): MessageRow {
  return {
    place: integer(row['place']),
    conversation: integer(row['conversation']),
    seq: integer(row['seq']),
    id: blob(row['id']),
    sender: integer(row['sender']),
    text: string(row['text']),
    atMs: integer(row['at_ms']),
    editedAtMs: integer(row['edited_at_ms']),
    changedPosition: integer(row['changed_position']),
    deleted: boolean(row['deleted']),
  }
}

export function viewMessage(row: MessageRow, senderName: string, read: boolean): Message {
  return {
    conversation: row.conversation,
    seq: row.seq,
    id: row.id,
    sender: row.sender,
    senderName,
    text: row.text,
    atMs: row.atMs,
    editedAtMs: row.editedAtMs,
    deleted: row.deleted,
    read,
    position: positionOfPlace(row.place),
  }
}

export class Messages {
  private readonly sql: Statements
  private readonly inserts: InsertQueue

  constructor(sql: Statements) {
    this.sql = sql
    const columns = ['place', 'conversation', 'seq', 'id', 'sender', 'at_ms', 'text']
    this.inserts = new InsertQueue(sql, 'message', columns)
  }

  /** It is in the table after {@link flush}, if not before. */
  insert(
    place: number,
    conversation: number,
    seq: number,
    id: Uint8Array,
    sender: number,
    text: string,
    atMs: number,
  ): void {
    this.inserts.add(place, conversation, seq, id, sender, atMs, text)
  }

  /** Writes the rows that wait. Before it, nothing may be looked for in the table. */
  flush(): void {
    this.inserts.flush()
  }

  /** Forgets what was not written. */
  clear(): void {
    this.inserts.clear()
  }

  get(conversation: number, seq: number): MessageRow | null {
    const row = this.sql.of('SELECT * FROM message WHERE conversation = ? AND seq = ?').get(conversation, seq)
    return row === undefined ? null : messageFromRow(row)
  }

  at(place: number): MessageRow | null {
    const row = this.sql.of('SELECT * FROM message WHERE place = ?').get(place)
    return row === undefined ? null : messageFromRow(row)
  }

  /** Whether the account has deleted it for itself. */
  isHidden(account: number, conversation: number, seq: number): boolean {
    const row = this.sql
      .of('SELECT 1 FROM hidden WHERE account = ? AND conversation = ? AND seq = ?')
      .get(account, conversation, seq)
    return row !== undefined
  }

  edit(place: number, text: string, atMs: number, position: number): void {
    this.sql
      .of('UPDATE message SET text = ?, edited_at_ms = ?, changed_position = ? WHERE place = ?')
      .run(text, atMs, position, place)
  }

  /** Removes it for good, for its age. */
  remove(place: number): void {
    this.sql.of('DELETE FROM message WHERE place = ?').run(place)
  }

  /** Deletes for all: the text is gone, the number stays. */
  erase(place: number, position: number): void {
    this.sql
      .of(`UPDATE message SET text = '', deleted = 1, changed_position = ? WHERE place = ?`)
      .run(position, place)
  }
}
