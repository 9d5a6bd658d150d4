import type { Marks } from '../gen/parley/v1/service.ts'
import { conversationFromRow, memberFromRow, type ConversationRow, type MemberRow } from './conversations.ts'
import { boolean, integer, type Statements } from './statements.ts'

/** Counts of messages stop here: nobody needs to know more exactly. */
export const maxCount = 1000

/** Messages in the inbox of an account. Looks at conversations with news only. */
export function countInbox(sql: Statements, account: number): number {
  let count = 0
  for (const { conversation, member } of conversationsWithNews(sql, account)) {
    count += countUnopened(sql, conversation, member)
    if (count >= maxCount) return maxCount
  }
  return count
}

/** Conversations in which something may be in the account's inbox; newest activity first. */
export function conversationsWithNews(
  sql: Statements,
  account: number,
): readonly { readonly conversation: ConversationRow; readonly member: MemberRow }[] {
  return sql
    .of(
      `SELECT * FROM member m JOIN conversation c ON c.id = m.conversation WHERE m.account = ? AND c.last_seq > m.opened_up_to + m.own_unopened ORDER BY c.last_position DESC, c.id`,
    )
    .all(account)
    .map((row) => ({ conversation: conversationFromRow(row), member: memberFromRow(row) }))
}

/** Messages of others that the member has not opened. */
export function countUnopened(sql: Statements, conversation: ConversationRow, member: MemberRow): number {
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
export function readMarks(sql: Statements, conversation: ConversationRow, member: MemberRow): Marks {
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
