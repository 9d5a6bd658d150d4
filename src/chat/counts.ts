import type { Marks } from '../gen/parley/v1/service.ts'
import { conversationFromRow, memberFromRow, type ConversationRow, type MemberRow } from './conversations.ts'
import { boolean, integer, type Statements } from './statements.ts'

/** Counts of messages stop here: nobody needs to know more exactly. */
export const maxCount = 1000

/** Messages of others that the member has not opened. */
export function countUnopened(sql: Statements, conversation: ConversationRow, member: MemberRow): number {
  const above = conversation.lastSeq - member.openedUpTo - member.ownUnopened
  return above === 0 ? 0 : cap(above - countExceptions(sql, member, member.openedUpTo, 0))
}

/** Messages of others that the member has not read. */
export function countUnread(sql: Statements, conversation: ConversationRow, member: MemberRow): number {
  const above = conversation.lastSeq - member.readUpTo - member.ownUnread
  const unread = above === 0 ? 0 : above - countExceptions(sql, member, member.readUpTo, 1)
  return cap(unread + countMarkedUnread(sql, member))
}

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

export function readMarks(sql: Statements, conversation: ConversationRow, member: MemberRow): Marks {
  const unread: number[] = []
  const read: number[] = []
  for (const row of sql
    .of('SELECT seq, read FROM mark WHERE account = ? AND conversation = ? ORDER BY seq')
    .all(member.account, member.conversation)) {
    const seq = integer(row['seq'])
    if (boolean(row['read'])) read.push(seq)
    else if (seq <= member.readUpTo) unread.push(seq)
  }
  return {
    conversation: member.conversation,
    readUpTo: member.readUpTo,
    openedUpTo: member.openedUpTo,
    unread,
    read,
    unreadCount: countUnread(sql, conversation, member),
    unopenedCount: countUnopened(sql, conversation, member),
  }
}

/**
 * Messages of others above a number that do not count: deleted for all, hidden by the account, or marked one by one.
 *
 * @param leastRead 1: only those that are marked read; 0: those that were, and are marked unread again, too.
 */
function countExceptions(sql: Statements, member: MemberRow, above: number, leastRead: number): number {
  const { account, conversation } = member
  const row = sql
    .of(
      `SELECT count(*) AS n FROM (
        SELECT seq FROM message WHERE deleted = 1 AND conversation = ? AND seq > ? AND sender <> ?
        UNION SELECT seq FROM hidden WHERE account = ? AND conversation = ? AND seq > ? AND own = 0
        UNION SELECT seq FROM mark WHERE account = ? AND conversation = ? AND seq > ? AND read >= ?)`,
    )
    .get(conversation, above, account, account, conversation, above, account, conversation, above, leastRead)
  return integer(row?.['n'])
}

function countMarkedUnread(sql: Statements, { account, conversation, readUpTo }: MemberRow): number {
  const row = sql
    .of(
      `SELECT count(*) AS n FROM mark k JOIN message m ON m.conversation = k.conversation AND m.seq = k.seq
       WHERE k.account = ? AND k.conversation = ? AND k.seq <= ? AND k.read = 0 AND m.deleted = 0`,
    )
    .get(account, conversation, readUpTo)
  return integer(row?.['n'])
}

function cap(count: number): number {
  return Math.min(count, maxCount)
}
