import { fromHex, toHex } from '../base/bytes.ts'
import { Draft, type Target } from '../gen/parley/v1/model.ts'
import { readPolicy } from './policies.ts'
import type { SqlRow, SqlValue } from './sql.ts'
import { blob, boolean, integer, string, type Statements } from './statements.ts'

/** What is exported: all of it, or what belongs to one account. */
export type ExportScope = { readonly kind: 'all' } | { readonly kind: 'account'; readonly account: number }

export interface ExportPage {
  /** Values to be written as JSON, one to a line. */
  readonly items: readonly Readonly<Record<string, unknown>>[]
  /** Where the next page begins; empty: that was all. */
  readonly next: string
}

/** Items of one page, and roughly characters in them: so that a page takes a few milliseconds. */
const maxItems = 250
const maxCharacters = 256 * 1024

/** One kind of line, with the rows that it is made of in the order of their keys. */
interface Section {
  readonly name: string
  /** Columns of the key: a page goes on behind the row at which the page before ended. */
  readonly key: readonly string[]
  /** Without an order; `own` has the account as its parameter. */
  readonly all: string
  readonly own: string
  readonly view: (row: SqlRow, sql: Statements) => Readonly<Record<string, unknown>>
}

const ofMember = 'SELECT conversation FROM member WHERE account = ?'

const sections: readonly Section[] = [
  {
    name: 'account',
    key: ['id'],
    all: 'SELECT * FROM account WHERE 1',
    own: 'SELECT * FROM account WHERE id = ?',
    view: (row) => ({
      id: integer(row['id']),
      name: string(row['name']),
      admin: boolean(row['admin']),
      deleted: row['name_key'] === null,
      createdAt: time(row['created_at_ms']),
    }),
  },
  {
    name: 'session',
    key: ['id'],
    all: 'SELECT * FROM session WHERE 1',
    own: 'SELECT * FROM session WHERE account = ?',
    view: (row) => ({
      id: integer(row['id']),
      account: integer(row['account']),
      device: string(row['device']),
      createdAt: time(row['created_at_ms']),
      lastActiveAt: time(row['last_active_at_ms']),
      expiresAt: time(row['expires_at_ms']),
    }),
  },
  {
    name: 'conversation',
    key: ['id'],
    all: 'SELECT * FROM conversation WHERE 1',
    own: `SELECT * FROM conversation WHERE id IN (${ofMember})`,
    view: (row) => ({
      id: integer(row['id']),
      kind: ['', 'direct', 'room', 'everyone'][integer(row['kind'])],
      ...(integer(row['kind']) === 1
        ? { accounts: [integer(row['low']), integer(row['high'])] }
        : {
            name: string(row['name']),
            topic: string(row['topic']),
            private: boolean(row['private']),
            owner: integer(row['owner']),
          }),
      lastSeq: integer(row['last_seq']),
      expiredUpTo: integer(row['expired_up_to']),
      retentionS: integer(row['retention_s']) < 0 ? null : integer(row['retention_s']),
    }),
  },
  {
    name: 'member',
    key: ['conversation', 'account'],
    all: 'SELECT * FROM member WHERE 1',
    own: 'SELECT * FROM member WHERE account = ?',
    view: (row) => ({
      conversation: integer(row['conversation']),
      account: integer(row['account']),
      readUpTo: integer(row['read_up_to']),
      openedUpTo: integer(row['opened_up_to']),
    }),
  },
  {
    name: 'mark',
    key: ['account', 'conversation', 'seq'],
    all: 'SELECT * FROM mark WHERE 1',
    own: 'SELECT * FROM mark WHERE account = ?',
    view: (row) => ({
      account: integer(row['account']),
      conversation: integer(row['conversation']),
      seq: integer(row['seq']),
      read: boolean(row['read']),
    }),
  },
  {
    name: 'hidden',
    key: ['account', 'conversation', 'seq'],
    all: 'SELECT * FROM hidden WHERE 1',
    own: 'SELECT * FROM hidden WHERE account = ?',
    view: (row) => ({
      account: integer(row['account']),
      conversation: integer(row['conversation']),
      seq: integer(row['seq']),
    }),
  },
  {
    name: 'draft',
    key: ['account', 'id'],
    all: 'SELECT * FROM draft WHERE 1',
    own: 'SELECT * FROM draft WHERE account = ?',
    view: (row) => ({
      account: integer(row['account']),
      id: toHex(blob(row['id'])),
      updatedAt: time(row['updated_at_ms']),
      recipients: Draft.decode(blob(row['recipients'])).recipients.map(viewTarget),
      text: string(row['text']),
    }),
  },
  {
    name: 'message',
    key: ['place'],
    all: 'SELECT * FROM message WHERE 1',
    // Walked conversation by conversation: see `ownMessages`.
    own: '',
    view: (row, sql) => ({
      conversation: integer(row['conversation']),
      seq: integer(row['seq']),
      id: toHex(blob(row['id'])),
      sender: integer(row['sender']),
      senderName: nameOf(sql, integer(row['sender'])),
      at: time(row['at_ms']),
      editedAt: time(row['edited_at_ms']),
      deleted: boolean(row['deleted']),
      text: string(row['text']),
    }),
  },
]

/**
 * A page of what is stored, without secrets, in the order: policy, accounts, sessions, conversations, members, marks, hidden messages, drafts, messages. Pages that are asked for
 * one after the other show each what is stored then.
 *
 * @param token `next` of the page before; empty for the first.
 * @returns null when the token makes no sense.
 */
export function exportPage(sql: Statements, scope: ExportScope, token: string): ExportPage | null {
  const [number, ...after] = token === '' ? [] : token.split('.').map(keyValue)
  const at = token === '' ? 0 : number
  if (typeof at !== 'number' || at < 0 || after.includes(null)) return null
  const section = sections[at]
  if (section === undefined || (after.length > 0 && after.length !== keyOf(section, scope).length))
    return null
  const items: Readonly<Record<string, unknown>>[] = []
  if (token === '') items.push({ type: 'policy', ...readPolicy(sql) })
  const { rows, more } = readRows(sql, section, scope, after)
  for (const row of rows) items.push({ type: section.name, ...section.view(row, sql) })
  const last = rows.at(-1)
  if (more === null && at + 1 === sections.length) return { items, next: '' }
  if (more === null) return { items, next: String(at + 1) }
  const key =
    more === 'after' && last !== undefined ? keyOf(section, scope).map((column) => last[column]) : more
  return {
    items,
    next: [at, ...key]
      .map((value) => (value instanceof Uint8Array ? `x${toHex(value)}` : String(value)))
      .join('.'),
  }
}

/** `more`: null: that were all; 'after': go on after the last row; else go on after this key. */
interface Rows {
  readonly rows: readonly SqlRow[]
  readonly more: null | 'after' | readonly SqlValue[]
}

function keyOf(section: Section, scope: ExportScope): readonly string[] {
  return section.own === '' && scope.kind === 'account' ? ['conversation', 'seq'] : section.key
}

function readRows(
  sql: Statements,
  section: Section,
  scope: ExportScope,
  after: readonly (SqlValue | undefined)[],
): Rows {
  const values = after.map((value) => value ?? 0)
  if (scope.kind === 'account' && section.own === '') return ownMessages(sql, scope.account, values)
  const key = section.key.join(', ')
  const behind = values.length === 0 ? '' : `AND (${key}) > (${section.key.map(() => '?').join(', ')})`
  const found = sql
    .of(`${scope.kind === 'all' ? section.all : section.own} ${behind} ORDER BY ${key} LIMIT ${maxItems + 1}`)
    .all(...(scope.kind === 'all' ? [] : [scope.account]), ...values)
  const rows = fitting(found.slice(0, maxItems))
  return { rows, more: rows.length < found.length ? 'after' : null }
}

/** The messages that the account can see, conversation by conversation. */
function ownMessages(sql: Statements, account: number, after: readonly SqlValue[]): Rows {
  let conversation = Number(after[0] ?? 0)
  let seq = Number(after[1] ?? 0)
  const rows: SqlRow[] = []
  for (let steps = 0; steps < maxItems; steps += 1) {
    const found =
      conversation === 0
        ? []
        : sql
            .of(
              `SELECT * FROM message m WHERE conversation = ? AND seq > ? AND EXISTS (SELECT 1 FROM member WHERE account = ? AND conversation = m.conversation)
               AND NOT EXISTS (SELECT 1 FROM hidden h WHERE h.account = ? AND h.conversation = m.conversation AND h.seq = m.seq)
               ORDER BY seq LIMIT ${maxItems + 1}`,
            )
            .all(conversation, seq, account, account)
    rows.push(...found)
    const taken = fitting(rows.slice(0, maxItems))
    if (taken.length < rows.length) return { rows: taken, more: 'after' }
    const next = sql
      .of(
        'SELECT conversation FROM member WHERE account = ? AND conversation > ? ORDER BY conversation LIMIT 1',
      )
      .get(account, conversation)
    if (next === undefined) return { rows, more: null }
    conversation = integer(next['conversation'])
    seq = 0
  }
  return { rows, more: [conversation, seq] }
}

/** The first rows whose texts together are not too large; at least one. */
function fitting(rows: readonly SqlRow[]): readonly SqlRow[] {
  let characters = 0
  for (const [i, row] of rows.entries()) {
    const text = row['text']
    characters += typeof text === 'string' ? text.length : 0
    if (characters > maxCharacters && i > 0) return rows.slice(0, i)
  }
  return rows
}

function keyValue(text: string): SqlValue {
  if (/^[0-9]{1,16}$/.test(text)) return Number(text)
  if (!/^x([0-9a-f]{2})*$/.test(text)) return null
  return fromHex(text.slice(1))
}

function nameOf(sql: Statements, account: number): string {
  const row = sql.of('SELECT name FROM account WHERE id = ?').get(account)
  return row === undefined ? '' : string(row['name'])
}

function viewTarget({ target }: Target): Readonly<Record<string, unknown>> {
  return target === undefined ? {} : { [target.$case]: target.value }
}

/** Null: never. */
function time(value: SqlValue | undefined): string | null {
  const ms = integer(value)
  return ms === 0 ? null : new Date(ms).toISOString()
}
