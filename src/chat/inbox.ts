import type { OpenInboxRequest } from '../gen/parley/v1/service.ts'
import type { ConversationRow, MemberRow } from './conversations.ts'
import { countInbox, readMarks } from './counts.ts'
import { maxPageBytes, utf8Length } from './limits.ts'
import { moveOpened } from './marks.ts'
import { messageFromRow, viewMessage, type MessageRow } from './messages.ts'
import { conversationNotFound, type Result } from './rejections.ts'
import { dropExpiredMarks } from './retention.ts'
import { integer } from './statements.ts'
import type { SignedInRows, State } from './state.ts'

/** Takes the oldest messages out of the inbox, across conversations. */
export function openInbox(state: State, who: SignedInRows, request: OpenInboxRequest): Result {
  const account = who.account.id
  if (request.conversation !== 0 && state.conversations.member(account, request.conversation) === null)
    return conversationNotFound
  // Messages of so many conversations are opened at most: of those in which something has waited longest.
  const unopened = findWaiting(state, account, request.conversation, request.count).map(
    (conversation) => new Unopened(state, conversation, account),
  )
  const opened: MessageRow[] = []
  let bytes = 0
  while (opened.length < request.count) {
    const oldest = findOldest(unopened)
    const next = oldest?.peek() ?? null
    if (oldest === null || next === null) break
    bytes += utf8Length(next.text)
    if (bytes > maxPageBytes && opened.length > 0) break
    opened.push(next)
    oldest.take()
  }
  for (const one of unopened) one.store()
  // The count below is made by the tables.
  state.conversations.flush()
  const messages = opened.map((row) => viewMessage(row, state.accounts.get(row.sender)?.name ?? '', false))
  return { $case: 'openInbox', value: { messages, remaining: countInbox(state.sql, account) } }
}

/** Of a message above what was opened: it is not the account's own, and neither deleted, hidden nor marked. */
const isInInbox = `x.sender <> ? AND x.deleted = 0
  AND NOT EXISTS (SELECT 1 FROM hidden h WHERE h.account = ? AND h.conversation = x.conversation AND h.seq = x.seq)
  AND NOT EXISTS (SELECT 1 FROM mark k WHERE k.account = ? AND k.conversation = x.conversation AND k.seq = x.seq)`

/** Conversations with messages in the inbox, those with the oldest one first. */
function findWaiting(state: State, account: number, only: number, limit: number): readonly number[] {
  return state.sql
    .of(
      `SELECT m.conversation, (SELECT x.place FROM message x WHERE x.conversation = m.conversation AND x.seq > max(m.opened_up_to, c.expired_up_to) AND ${isInInbox} ORDER BY x.seq LIMIT 1) AS first
       FROM member m JOIN conversation c ON c.id = m.conversation
       WHERE m.account = ? AND (? = 0 OR m.conversation = ?) AND c.last_seq > max(m.opened_up_to, c.expired_up_to) + m.own_unopened AND first IS NOT NULL
       ORDER BY first LIMIT ?`,
    )
    .all(account, account, account, account, only, only, limit)
    .map((row) => integer(row['conversation']))
}

function findOldest(unopened: readonly Unopened[]): Unopened | null {
  let oldest: Unopened | null = null
  let oldestPlace = Infinity
  for (const one of unopened) {
    const place = one.peek()?.place ?? Infinity
    if (place >= oldestPlace) continue
    oldest = one
    oldestPlace = place
  }
  return oldest
}

/** Rows that are read at once at most: one at first, then twice as many each time. Texts are long, and conversations may be many. */
const maxRowsAtOnce = 50

/** The messages of one conversation that are in an account's inbox, in order. */
class Unopened {
  private readonly state: State
  private readonly conversation: ConversationRow
  private readonly member: MemberRow
  private rows: readonly MessageRow[] = []
  private index = 0
  private rowsAtOnce = 1
  private isComplete = false
  private taken = 0

  constructor(state: State, conversation: number, account: number) {
    const row = state.conversations.get(conversation)
    const member = state.conversations.member(account, conversation)
    if (row === null || member === null) throw new Error('a conversation of an account exists')
    this.state = state
    this.conversation = row
    this.member = member
  }

  peek(): MessageRow | null {
    if (this.index === this.rows.length && !this.isComplete) this.read()
    return this.rows[this.index] ?? null
  }

  take(): void {
    this.taken = this.rows[this.index]?.seq ?? this.taken
    this.index += 1
  }

  /** Moves the pointer: over everything when nothing is left, so that messages that are never in the inbox are passed too. */
  store(): void {
    if (this.taken === 0) return
    const seq = this.peek() === null ? this.conversation.lastSeq : this.taken
    moveOpened(this.state, this.conversation, this.member, seq)
    dropExpiredMarks(this.state, this.member.account, this.conversation)
    this.state.events.emit(
      { kind: 'account', account: this.member.account },
      { $case: 'marks', value: readMarks(this.state.sql, this.conversation, this.member) },
    )
  }

  private read(): void {
    const { account, conversation } = this.member
    const limit = this.rowsAtOnce
    this.rows = this.state.sql
      .of(
        `SELECT * FROM message x WHERE x.conversation = ? AND x.seq > ? AND ${isInInbox} ORDER BY x.seq LIMIT ?`,
      )
      .all(conversation, Math.max(this.taken, this.member.openedUpTo), account, account, account, limit)
      .map(messageFromRow)
    this.index = 0
    this.isComplete = this.rows.length < limit
    this.rowsAtOnce = Math.min(maxRowsAtOnce, 2 * limit)
  }
}
