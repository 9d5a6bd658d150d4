import { rmSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'

import type { ChatQueries, MessageChange } from '../chat/queries.ts'
import type { Sql } from '../chat/sql.ts'
import type { Message } from '../gen/parley/v1/model.ts'
import type { SearchMessagesRequest, SearchMessagesResponse } from '../gen/parley/v1/service.ts'
import { isOutOfSpace } from '../storage/errors.ts'

/** Raised whenever the index is laid out in another way: older ones are rebuilt. */
const version = 1
const defaultPageSize = 50
const maxPageSize = 500
/** Most hits that one search looks at: the rest, if any, is on the next page. */
const maxLooks = 20_000

const schema = `
  CREATE TABLE progress (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), version INTEGER NOT NULL, position INTEGER NOT NULL);
  INSERT INTO progress VALUES (1, ${version}, 0);
  CREATE VIRTUAL TABLE words USING fts5(text, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2');
`

/**
 * Full-text index of the messages of one replica. Derived from `state.db`, which it only reads; it goes on from the position that it had reached, and is made anew when its
 * file is missing or damaged.
 */
export class SearchIndex {
  private readonly index: DatabaseSync
  private readonly state: DatabaseSync
  private readonly queries: ChatQueries
  private reached: number

  constructor(indexPath: string, statePath: string, openQueries: (db: Sql) => ChatQueries) {
    this.state = new DatabaseSync(statePath, { readOnly: true })
    this.queries = openQueries(this.state)
    const { db, position } = openIndex(indexPath)
    this.index = db
    this.reached = position
    // An index of another state's future would hide messages for ever.
    if (position > this.statePosition()) this.startOver()
  }

  /** Everything up to here is in the index. */
  get position(): number {
    return this.reached
  }

  /** Takes in about `limit` changes. Returns whether there is more. */
  advance(limit: number): boolean {
    this.state.exec('BEGIN')
    try {
      const newest = this.statePosition()
      if (newest <= this.reached) return false
      // What was removed in the meantime cannot be told any more.
      if (this.reached > 0 && this.reached < this.queries.removalsForgottenUpTo()) this.startOver()
      const changes = this.queries.messagesChangedAfter(this.reached, limit)
      // Fewer than asked for: those were all.
      const upTo = changes.length < limit ? newest : (changes.at(-1)?.position ?? newest)
      this.takeIn(changes, upTo)
      return upTo < newest
    } finally {
      this.state.exec('COMMIT')
    }
  }

  search(account: number, request: SearchMessagesRequest): SearchMessagesResponse {
    const match = matchExpression(request.query)
    const only = this.onlyConversation(account, request)
    if (match === null || only === null) return { messages: [], nextPageToken: '' }
    const pageSize = Math.min(request.pageSize === 0 ? defaultPageSize : request.pageSize, maxPageSize)
    const hits = this.index
      .prepare('SELECT rowid AS place FROM words WHERE words MATCH ? AND rowid < ? ORDER BY rowid DESC')
      .iterate(match, placeFrom(request.pageToken))
    const messages: Message[] = []
    let looks = 0
    let places: number[] = []
    const take = (): void => {
      // One that was deleted since the index last followed had the words.
      for (const message of this.queries.messagesAt(account, places))
        if (!message.deleted && (only === 0 || message.conversation === only)) messages.push(message)
      places = []
    }
    for (const hit of hits) {
      const place = Number(hit['place'])
      looks += 1
      places.push(place)
      if (places.length >= pageSize - messages.length || looks >= maxLooks) take()
      if (messages.length >= pageSize || looks >= maxLooks) return { messages, nextPageToken: String(place) }
    }
    take()
    return { messages, nextPageToken: '' }
  }

  close(): void {
    this.index.close()
    this.state.close()
  }

  private takeIn(changes: readonly MessageChange[], upTo: number): void {
    this.index.exec('BEGIN')
    const remove = this.index.prepare('DELETE FROM words WHERE rowid = ?')
    const insert = this.index.prepare('INSERT INTO words (rowid, text) VALUES (?, ?)')
    const move = this.index.prepare('UPDATE progress SET position = ?')
    // FTS5 makes rows of its own, whose numbers are beyond what a JavaScript number holds, and `run` reports the last one that was made, whoever made it.
    for (const statement of [remove, insert, move]) statement.setReadBigInts(true)
    for (const { place, text } of changes) {
      remove.run(place)
      if (text !== '') insert.run(place, text)
    }
    move.run(upTo)
    this.index.exec('COMMIT')
    this.reached = upTo
  }

  private startOver(): void {
    this.index.exec(`BEGIN; DROP TABLE words; DROP TABLE progress; ${schema} COMMIT`)
    this.reached = 0
  }

  private statePosition(): number {
    return Number(this.state.prepare('SELECT position FROM chat_state').get()?.['position'] ?? 0)
  }

  /** The conversation to search in; 0 for all that the account is in, null for one that it is not in. */
  private onlyConversation(account: number, request: SearchMessagesRequest): number | null {
    if (request.conversation === undefined) return 0
    const conversation = this.queries.conversation(account, request.conversation)
    return conversation?.member === true ? conversation.id : null
  }
}

/** Page tokens are the place of the last hit that was looked at. */
function placeFrom(pageToken: string): number {
  return /^[0-9]{1,16}$/.test(pageToken) ? Number(pageToken) : Number.MAX_SAFE_INTEGER
}

/** Removes the files of an index, which is then made anew when it is opened next. */
export function removeIndex(path: string): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true })
}

/** Whether SQLite found a database file damaged. */
export function isDamage(error: unknown): boolean {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return false
  const code = error.errcode & 0xff
  return code === sqliteCorrupt || code === sqliteNotADatabase
}

const sqliteCorrupt = 11
const sqliteNotADatabase = 26

function openIndex(path: string): { readonly db: DatabaseSync; readonly position: number } {
  try {
    return open(path)
  } catch (error) {
    // A good one can be opened when there is room again, and made anew even less.
    if (isOutOfSpace(error)) throw error
    // Missing tables, another version, or damage: the index can always be made anew.
    removeIndex(path)
    return open(path)
  }
}

function open(path: string): { readonly db: DatabaseSync; readonly position: number } {
  const db = new DatabaseSync(path)
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
    if (db.prepare(`SELECT 1 FROM sqlite_master WHERE name = 'progress'`).get() === undefined) {
      db.exec(`BEGIN; ${schema} COMMIT`)
    }
    const row = db.prepare('SELECT version, position FROM progress').get()
    if (row?.['version'] !== version) throw new Error('another version')
    return { db, position: Number(row['position']) }
  } catch (error) {
    db.close()
    throw error
  }
}

/**
 * The query of FTS5 that asks for all words and "quoted phrases" of what people typed. Everything is quoted, so that nothing in it is an operator. Null when nothing is asked.
 */
export function matchExpression(query: string): string | null {
  // FTS5 takes a NUL for the end of the query; in a message it stands between words.
  const text = query.replaceAll('\0', ' ')
  const parts = [...text.matchAll(/"([^"]*)"?|([^\s"]+)/g)].map((match) => match[1] ?? match[2] ?? '')
  // A part without a letter or digit has no words in it: asking for it would find nothing.
  const wanted = parts.filter((part) => /[\p{L}\p{N}\p{Co}]/u.test(part))
  return wanted.length === 0 ? null : wanted.map((part) => `"${part}"`).join(' AND ')
}
