import type { Marks } from '../gen/parley/v1/service.ts'
import type { ConversationRow, MemberRow } from './conversations.ts'
import { boolean, integer, type Statements } from './statements.ts'

/** Counts of messages stop here: nobody needs to know more exactly. */
export const maxCount = 1000

/** Of a member `m` of a conversation `c`: what was removed for its age is out of the inbox. */
const openedUpTo = 'max(m.opened_up_to, c.expired_up_to)'
/** Something may be in its inbox. */
const hasNews = `c.last_seq > ${openedUpTo} + m.own_unopened`

/**
 * Messages in the inbox of an account. Looks at conversations with news only, and at no more of them than it takes to count so far: in one statement, since somebody who was away for long
 * has many. What it counts in each is what {@link countUnopened} does.
 */
export function countInbox(sql: Statements, account: number): number {
  const row = sql
    .of(
      `SELECT sum(unopened) AS n FROM (
        SELECT c.last_seq - ${openedUpTo} - m.own_unopened
          - (SELECT count(*) FROM message x WHERE x.deleted = 1 AND x.conversation = m.conversation AND x.seq > ${openedUpTo} AND x.sender <> m.account)
          - (SELECT count(*) FROM hidden h JOIN message x ON x.conversation = h.conversation AND x.seq = h.seq
             WHERE h.account = m.account AND h.conversation = m.conversation AND h.seq > ${openedUpTo} AND h.own = 0 AND x.deleted = 0)
          - (SELECT count(*) FROM mark k JOIN message x ON x.conversation = k.conversation AND x.seq = k.seq
             WHERE k.account = m.account AND k.conversation = m.conversation AND k.seq > ${openedUpTo} AND x.deleted = 0) AS unopened
        FROM member m JOIN conversation c ON c.id = m.conversation WHERE m.account = ? AND ${hasNews} AND unopened > 0 LIMIT ${maxCount})`,
    )
    .get(account)
  return cap(row?.['n'] === null ? 0 : integer(row?.['n']))
}

/** Conversations in which something may be in the account's inbox; newest activity first. */
export function conversationsWithNews(sql: Statements, account: number): readonly number[] {
  return sql
    .of(
      `SELECT c.id FROM member m JOIN conversation c ON c.id = m.conversation WHERE m.account = ? AND ${hasNews} ORDER BY c.last_position DESC, c.id`,
    )
    .all(account)
    .map((row) => integer(row['id']))
}

/** Messages of others that the member has not opened. */
export function countUnopened(sql: Statements, conversation: ConversationRow, row: MemberRow): number {
  const member = withoutExpired(conversation, row)
  const above = othersAbove(conversation, member.openedUpTo, member.ownUnopened)
  if (above === 0) return 0
  const marked = sql
    .of(
      `SELECT count(*) AS n FROM mark k JOIN message m ON m.conversation = k.conversation AND m.seq = k.seq
       WHERE k.account = ? AND k.conversation = ? AND k.seq > ? AND m.deleted = 0`,
    )
    .get(member.account, member.conversation, member.openedUpTo)
  return cap(above - countGone(sql, member, member.openedUpTo).opened - integer(marked?.['n']))
}

/** What the member has read and opened, with the counts that follow from it. */
export function readMarks(sql: Statements, conversation: ConversationRow, row: MemberRow): Marks {
  const member = withoutExpired(conversation, row)
  const unread: number[] = []
  const read: number[] = []
  let unreadCount = othersAbove(conversation, member.readUpTo, member.ownUnread)
  let unopenedCount = othersAbove(conversation, member.openedUpTo, member.ownUnopened)
  if (unreadCount > 0) {
    const gone = countGone(sql, member, member.readUpTo)
    unreadCount -= gone.read
    unopenedCount -= gone.opened
  }
  for (const row of sql
    .of(
      `SELECT k.seq, k.read, m.deleted FROM mark k JOIN message m ON m.conversation = k.conversation AND m.seq = k.seq
       WHERE k.account = ? AND k.conversation = ? ORDER BY k.seq`,
    )
    .all(member.account, member.conversation)) {
    const seq = integer(row['seq'])
    const isRead = boolean(row['read'])
    if (isRead) read.push(seq)
    else if (seq <= member.readUpTo) unread.push(seq)
    if (boolean(row['deleted'])) continue
    if (isRead) unreadCount -= 1
    else if (seq <= member.readUpTo) unreadCount += 1
    if (seq > member.openedUpTo) unopenedCount -= 1
  }
  return {
    conversation: member.conversation,
    readUpTo: member.readUpTo,
    openedUpTo: member.openedUpTo,
    unread,
    read,
    unreadCount: cap(unreadCount),
    unopenedCount: cap(unopenedCount),
  }
}

/** Where the pointers stand when nobody has to read what was removed for its age. One's own messages above them are still so many: those that were removed are not counted any more. */
function withoutExpired({ expiredUpTo }: ConversationRow, member: MemberRow): MemberRow {
  return {
    ...member,
    openedUpTo: Math.max(member.openedUpTo, expiredUpTo),
    readUpTo: Math.max(member.readUpTo, expiredUpTo),
  }
}

/** Messages of others above a number, of which `own` are the member's own: no row is looked at. */
function othersAbove(conversation: ConversationRow, above: number, own: number): number {
  return conversation.lastSeq - above - own
}

/** Messages of others above `above`, and of these above what was opened, that were deleted for all or hidden by the account. */
function countGone(
  sql: Statements,
  { account, conversation, openedUpTo }: MemberRow,
  above: number,
): { readonly read: number; readonly opened: number } {
  const row = sql
    .of(
      `SELECT count(*) AS read, count(*) FILTER (WHERE seq > ?) AS opened FROM (
        SELECT seq FROM message WHERE deleted = 1 AND conversation = ? AND seq > ? AND sender <> ?
        UNION SELECT seq FROM hidden WHERE account = ? AND conversation = ? AND seq > ? AND own = 0)`,
    )
    .get(openedUpTo, conversation, above, account, account, conversation, above)
  return { read: integer(row?.['read']), opened: integer(row?.['opened']) }
}

function cap(count: number): number {
  return Math.min(count, maxCount)
}
