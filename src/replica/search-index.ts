import { rmSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'

import type { ChatQueries } from '../chat/queries.ts'
import type { Sql } from '../chat/sql.ts'
import type { Message } from '../gen/parley/v1/model.ts'
import type { SearchMessagesRequest, SearchMessagesResponse } from '../gen/parley/v1/service.ts'

/** Raised whenever the index is laid out in another way: older ones are rebuilt. */
const version = 1
const defaultPageSize = 50
const maxPageSize = 500
/** Most hits that one search looks at: the rest, if any, is on the next page. */
const maxLooks = 20_000

/** A place orders messages: 65536 times the position of the send, plus a number within it. */
const placesPerPosition = 65_536

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

  /** Takes in at most about `limit` messages. Returns whether there is more. */
  advance(limit: number): boolean {
    this.state.exec('BEGIN')
    try {
      const end = this.statePosition()
      if (end <= this.reached) return false
      const fresh = this.state
        .prepare('SELECT place, text FROM message WHERE place >= ? ORDER BY place LIMIT ?')
        .all((this.reached + 1) * placesPerPosition, limit)
      const last = fresh.at(-1)
      // A position is taken in as a whole, or a resumed scan would miss the rest of it.
      const upTo =
        fresh.length < limit || last === undefined
          ? end
          : Math.floor(Number(last['place']) / placesPerPosition) - 1
      if (upTo <= this.reached) return this.advanceOnePosition()
      this.takeIn(upTo, fresh)
      return upTo < end
    } finally {
      this.state.exec('COMMIT')
    }
  }

  search(account: number, request: SearchMessagesRequest): SearchMessagesResponse {
    const match = matchExpression(request.query)
    const conversations = this.conversations(account, request)
    if (match === null || conversations.size === 0) return { messages: [], nextPageToken: '' }
    const pageSize = Math.min(request.pageSize === 0 ? defaultPageSize : request.pageSize, maxPageSize)
    const before = /^[0-9]{1,16}$/.test(request.pageToken)
      ? Number(request.pageToken)
      : Number.MAX_SAFE_INTEGER
    const find = this.state.prepare('SELECT conversation, seq FROM message WHERE place = ? AND deleted = 0')
    const hits = this.index
      .prepare('SELECT rowid AS place FROM words WHERE words MATCH ? AND rowid < ? ORDER BY rowid DESC')
      .iterate(match, before)
    const messages: Message[] = []
    let looks = 0
    for (const hit of hits) {
      const place = Number(hit['place'])
      looks += 1
      const row = find.get(place)
      if (row !== undefined && conversations.has(Number(row['conversation']))) {
        const message = this.message(account, Number(row['conversation']), Number(row['seq']))
        if (message !== null) messages.push(message)
      }
      if (messages.length >= pageSize || looks >= maxLooks) return { messages, nextPageToken: String(place) }
    }
    return { messages, nextPageToken: '' }
  }

  close(): void {
    this.index.close()
    this.state.close()
  }

  private advanceOnePosition(): boolean {
    const position = this.reached + 1
    const rows = this.state
      .prepare('SELECT place, text FROM message WHERE place >= ? AND place < ? ORDER BY place')
      .all(position * placesPerPosition, (position + 1) * placesPerPosition)
    this.takeIn(position, rows)
    return true
  }

  private takeIn(upTo: number, fresh: readonly Readonly<Record<string, unknown>>[]): void {
    const changed = this.state
      .prepare(
        'SELECT place, text, deleted FROM message WHERE changed_position > ? AND changed_position <= ? AND place < ?',
      )
      .all(this.reached, upTo, (this.reached + 1) * placesPerPosition)
    this.index.exec('BEGIN')
    const remove = this.index.prepare('DELETE FROM words WHERE rowid = ?')
    const insert = this.index.prepare('INSERT INTO words (rowid, text) VALUES (?, ?)')
    for (const { place, text, deleted } of changed) {
      remove.run(Number(place))
      if (deleted === 0) insert.run(Number(place), String(text))
    }
    for (const { place, text } of fresh) {
      if (Number(place) >= (upTo + 1) * placesPerPosition) break
      if (text !== '') insert.run(Number(place), String(text))
    }
    this.index.prepare('UPDATE progress SET position = ?').run(upTo)
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

  private conversations(account: number, request: SearchMessagesRequest): ReadonlySet<number> {
    if (request.conversation === undefined)
      return new Set([everyone, ...this.queries.conversationIds(account)])
    const only = this.queries.conversation(account, request.conversation)
    return new Set(only === null || !only.member ? [] : [only.id])
  }

  /** As the account sees it; null when it may not, or has deleted it for itself. */
  private message(account: number, conversation: number, seq: number): Message | null {
    const page = this.queries.messages(account, conversation, {
      afterSeq: seq - 1,
      beforeSeq: 0,
      pageSize: 1,
    })
    const message = page?.messages[0]
    return message?.seq === seq ? message : null
  }
}

/** The conversation of all accounts. */
const everyone = 1

function openIndex(path: string): { readonly db: DatabaseSync; readonly position: number } {
  try {
    return open(path)
  } catch {
    // Missing tables, another version, or damage: the index can always be made anew.
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true })
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
  const parts = [...query.matchAll(/"([^"]*)"?|([^\s"]+)/g)].map((match) => match[1] ?? match[2] ?? '')
  // A part without a letter or digit has no words in it: asking for it would find nothing.
  const wanted = parts.filter((part) => /[\p{L}\p{N}\p{Co}]/u.test(part))
  return wanted.length === 0 ? null : wanted.map((part) => `"${part}"`).join(' AND ')
}
