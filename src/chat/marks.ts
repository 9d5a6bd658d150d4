import type { MarkReadRequest } from '../gen/parley/v1/service.ts'
import type { ConversationRow, MemberRow } from './conversations.ts'
import { readMarks } from './counts.ts'
import { limits } from './limits.ts'
import type { MessageRow } from './messages.ts'
import { conversationNotFound, invalid, messageNotFound, type Rejected, type Result } from './rejections.ts'
import { dropExpiredMarks } from './retention.ts'
import { boolean, integer } from './statements.ts'
import type { SignedInRows, State } from './state.ts'

/** What a member has read and opened in one conversation, while a command changes it. */
interface Reading {
  readonly state: State
  readonly conversation: ConversationRow
  readonly member: MemberRow
}

export function markRead(state: State, who: SignedInRows, request: MarkReadRequest): Result {
  const conversation = state.conversations.get(request.conversation)
  const member = state.conversations.member(who.account.id, request.conversation)
  const { mark } = request
  if (conversation === null || member === null) return conversationNotFound
  if (mark === undefined || mark.value > conversation.lastSeq) return messageNotFound
  dropExpiredMarks(state, who.account.id, conversation)
  const reading = { state, conversation, member }
  let changed: boolean | Rejected
  switch (mark.$case) {
    case 'upTo':
      changed = readUpTo(reading, mark.value)
      break
    case 'openedUpTo':
      changed = moveOpened(state, conversation, member, mark.value)
      break
    case 'read':
      changed = markOne(reading, mark.value, true)
      break
    case 'unread':
      changed = markOne(reading, mark.value, false)
      break
  }
  if (typeof changed !== 'boolean') return changed
  const marks = readMarks(state.sql, conversation, member)
  if (changed)
    state.events.emit({ kind: 'account', account: who.account.id }, { $case: 'marks', value: marks })
  return { $case: 'markRead', value: { marks } }
}

/** Everything up to `seq` leaves the inbox. False when it had already. */
export function moveOpened(
  state: State,
  conversation: ConversationRow,
  member: MemberRow,
  seq: number,
): boolean {
  if (seq <= member.openedUpTo) return false
  member.ownUnopened = ownAbove({ state, conversation, member }, member.ownUnopened, member.openedUpTo, seq)
  member.openedUpTo = seq
  state.conversations.memberChanged(member)
  state.sql
    .of('DELETE FROM mark WHERE account = ? AND conversation = ? AND read = 0 AND seq > ? AND seq <= ?')
    .run(member.account, member.conversation, member.readUpTo, seq)
  return true
}

function readUpTo(reading: Reading, seq: number): boolean {
  const { state, member } = reading
  const { changes } = state.sql
    .of('DELETE FROM mark WHERE account = ? AND conversation = ? AND seq <= ?')
    .run(member.account, member.conversation, seq)
  return moveRead(reading, seq) || changes !== 0
}

/** Moves the pointer only: exceptions up to there are the caller's business. */
function moveRead({ state, conversation, member }: Reading, seq: number): boolean {
  if (seq <= member.readUpTo) return false
  member.ownUnread = ownAbove({ state, conversation, member }, member.ownUnread, member.readUpTo, seq)
  member.readUpTo = seq
  state.conversations.memberChanged(member)
  // What was read was opened.
  moveOpened(state, conversation, member, seq)
  return true
}

function markOne(reading: Reading, seq: number, read: boolean): boolean | Rejected {
  const { state, conversation, member } = reading
  const row = state.messages.get(conversation.id, seq)
  if (row === null) return messageNotFound
  if (!canBeMarked(state, member, row)) return false
  const key = [member.account, member.conversation, seq] as const
  const found = state.sql
    .of('SELECT read FROM mark WHERE account = ? AND conversation = ? AND seq = ?')
    .get(...key)
  const present = found === undefined ? null : boolean(found['read'])
  const isRead = present ?? seq <= member.readUpTo
  if (isRead === read) return false
  // A message that was read one by one has left the inbox, and does not come back when it is marked unread: that takes a mark while it lies above what was opened.
  const isException = read ? seq > member.readUpTo : seq <= member.readUpTo || seq > member.openedUpTo
  if (!isException) {
    state.sql.of('DELETE FROM mark WHERE account = ? AND conversation = ? AND seq = ?').run(...key)
    return true
  }
  if (present === null && countMarks(state, member) >= limits.marksPerConversation)
    return invalid(
      'mark',
      `can name at most ${limits.marksPerConversation} messages of a conversation one by one: mark up to one instead`,
    )
  state.sql
    .of('INSERT OR REPLACE INTO mark (account, conversation, seq, read) VALUES (?, ?, ?, ?)')
    .run(...key, Number(read))
  if (read) absorbRead(reading)
  return true
}

function countMarks(state: State, { account, conversation }: MemberRow): number {
  const row = state.sql
    .of('SELECT count(*) AS n FROM mark WHERE account = ? AND conversation = ?')
    .get(account, conversation)
  return integer(row?.['n'])
}

/** One's own messages are always read; those that are not shown count neither way. */
function canBeMarked(state: State, member: MemberRow, row: MessageRow): boolean {
  if (row.sender === member.account || row.deleted) return false
  return !state.messages.isHidden(member.account, row.conversation, row.seq)
}

/** Messages that one command moves the pointer over at most. */
const absorbedAtOnce = 1000

/** Moves the pointer over the messages right above it that need no reading any more, so that there are few exceptions. */
function absorbRead(reading: Reading): void {
  const { state, member } = reading
  // Mostly the first one is still unread, and then that is all there is to know.
  if (readAbove(reading, 1) === member.readUpTo) return
  const upTo = readAbove(reading, absorbedAtOnce)
  state.sql
    .of('DELETE FROM mark WHERE account = ? AND conversation = ? AND seq <= ? AND read = 1')
    .run(member.account, member.conversation, upTo)
  moveRead(reading, upTo)
}

/** The number up to which there is nothing to read, when so many messages above the pointer are looked at. */
function readAbove({ state, member }: Reading, limit: number): number {
  const { account, conversation } = member
  const rows = state.sql
    .of(
      `SELECT m.seq, m.deleted = 1 OR m.sender = ?
        OR EXISTS (SELECT 1 FROM mark k WHERE k.account = ? AND k.conversation = m.conversation AND k.seq = m.seq AND k.read = 1)
        OR EXISTS (SELECT 1 FROM hidden h WHERE h.account = ? AND h.conversation = m.conversation AND h.seq = m.seq) AS done
       FROM message m WHERE m.conversation = ? AND m.seq > ? ORDER BY m.seq LIMIT ?`,
    )
    .all(account, account, account, conversation, member.readUpTo, limit)
  let upTo = member.readUpTo
  for (const row of rows) {
    if (!boolean(row['done'])) break
    upTo = integer(row['seq'])
  }
  return upTo
}

/** The member's own messages above `to`, when there are `own` above `from`. Looks at the shorter side. */
function ownAbove({ state, conversation, member }: Reading, own: number, from: number, to: number): number {
  if (own === 0 || to >= conversation.lastSeq) return 0
  return to - from <= conversation.lastSeq - to
    ? own - countOwn(state, member, from, to)
    : countOwn(state, member, to, conversation.lastSeq)
}

/** The member's own messages after `from` and up to `to`. */
function countOwn(state: State, { account, conversation }: MemberRow, from: number, to: number): number {
  const row = state.sql
    .of('SELECT count(*) AS n FROM message WHERE conversation = ? AND seq > ? AND seq <= ? AND sender = ?')
    .get(conversation, from, to, account)
  return integer(row?.['n'])
}
