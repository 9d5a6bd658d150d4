import { ConversationKind, Reason } from '../gen/parley/v1/model.ts'
import type { SetRoomRetentionRequest } from '../gen/parley/v1/service.ts'
import type { ConversationRow } from './conversations.ts'
import { messageFromRow, type MessageRow } from './messages.ts'
import { reject, roomNotFound, type Result } from './rejections.ts'
import { followsAgain, followsPolicy } from './schema.ts'
import { integer, type Statements } from './statements.ts'
import type { SignedInRows, State } from './state.ts'
import { viewConversationOf } from './views.ts'

/** Messages that one command looks at: applying it should take a few milliseconds. */
export const expiredAtOnce = 200
/** What was removed so many positions ago is forgotten; an index of texts that is further behind is made anew. */
const removedWindow = 1_000_000
/** Of a message besides its text: its row, and what the indexes hold of it, less what is noted of its removal. */
const rowBytes = 50
/** More than are added, so that there is never much to do at once. */
const forgottenAtOnce = 2 * expiredAtOnce

export function setRoomRetention(state: State, who: SignedInRows, request: SetRoomRetentionRequest): Result {
  const room = state.conversations.byRoomName(request.name)
  const isMember = room !== null && state.conversations.member(who.account.id, room.id) !== null
  if (room === null || (room.private && !isMember)) return roomNotFound(request.name)
  const isOwner = room.kind === ConversationKind.ROOM && room.owner === who.account.id
  if (!isOwner && !who.account.admin)
    return reject(
      Reason.NOT_PERMITTED,
      'Only the owner of the room, or an administrator, may say how long its messages are kept.',
    )
  // Where the walk by the policy stands among the messages of this room would be forgotten, so from now on the room is walked by itself.
  const never = room.retentionS === followsPolicy && request.retentionS === undefined
  state.conversations.setRetention(room, never ? followsPolicy : (request.retentionS ?? followsAgain))
  const conversation = viewConversationOf(room, null)
  state.events.emit(
    { kind: 'conversation', conversation: room.id },
    { $case: 'conversation', value: conversation },
  )
  return { $case: 'setRoomRetention', value: { conversation } }
}

/**
 * Removes some of the messages whose time is over: rows, so that their room is used again. The numbers of a conversation's messages stay, and what was removed is always the
 * beginning of a conversation, since a message never has an earlier time than the one before it.
 */
export function expireMessages(state: State): void {
  const expired = new Set<ConversationRow>()
  let left = expiredAtOnce - walkByPolicy(state, expired)
  for (const id of state.conversations.withRetention()) {
    if (left <= 0) break
    const room = state.conversations.get(id)
    if (room !== null) left -= walkRoom(state, room, left, expired)
  }
  forget(state)
  for (const conversation of expired)
    state.events.emit(
      { kind: 'conversation', conversation: conversation.id },
      { $case: 'messagesExpired', value: { conversation: conversation.id, upTo: conversation.expiredUpTo } },
    )
}

/** Whether `ExpireMessages` with this time would remove any message, or at least come further. */
export function isExpiryDue(sql: Statements, atMs: number): boolean {
  return lookForDue(sql, atMs, 1).looked > 0
}

/** Messages that expire, and about how many bytes of the state they take. */
export interface Due {
  readonly messages: number
  readonly bytes: number
}

/** What `ExpireMessages` would remove at this time; it looks at `most` messages. */
export function expiryDue(sql: Statements, atMs: number, most: number): Due {
  const { messages, bytes } = lookForDue(sql, atMs, most)
  return { messages, bytes }
}

function lookForDue(sql: Statements, atMs: number, most: number): Due & { readonly looked: number } {
  const state = sql.of('SELECT now_ms, expired_place FROM chat_state').get()
  const nowMs = Math.max(atMs, integer(state?.['now_ms']))
  const policyS = integer(sql.of('SELECT retention_s FROM policy').get()?.['retention_s'])
  const due = { looked: 0, messages: 0, bytes: 0 }
  const add = (row: ReturnType<ReturnType<Statements['of']>['get']>): void => {
    due.looked += integer(row?.['looked'])
    due.messages += integer(row?.['messages'])
    due.bytes += integer(row?.['bytes'])
  }
  if (policyS > 0)
    add(
      sql
        .of(
          `SELECT count(*) AS looked, count(goes) AS messages, coalesce(sum(goes), 0) AS bytes FROM
            (SELECT at_ms, iif(retention_s = ${followsPolicy}, octet_length(text) + ${rowBytes}, NULL) AS goes
              FROM message JOIN conversation ON conversation.id = message.conversation WHERE place > ? ORDER BY place LIMIT ?)
            WHERE at_ms < ?`,
        )
        .get(integer(state?.['expired_place']), most, nowMs - policyS * 1000),
    )
  for (const room of sql
    .of(
      `SELECT id, expired_up_to, retention_s FROM conversation WHERE retention_s <> ${followsPolicy} AND last_seq > expired_up_to ORDER BY id`,
    )
    .all()) {
    const left = most - due.looked
    if (left <= 0) break
    const retentionS = effective(integer(room['retention_s']), policyS)
    if (retentionS > 0)
      add(
        sql
          .of(
            `SELECT count(*) AS looked, count(*) AS messages, coalesce(sum(octet_length(text) + ${rowBytes}), 0) AS bytes FROM
              (SELECT at_ms, text FROM message WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?) WHERE at_ms < ?`,
          )
          .get(integer(room['id']), integer(room['expired_up_to']), left, nowMs - retentionS * 1000),
      )
  }
  return due
}

/** In seconds; 0 = for ever. */
function effective(own: number, policyS: number): number {
  return own < 0 ? policyS : own
}

/** Goes on through all messages in the order of the log; those of rooms with a retention of their own are passed over. Returns how many it looked at. */
function walkByPolicy(state: State, expired: Set<ConversationRow>): number {
  const { retentionS } = state.policy
  if (retentionS === 0) return 0
  const cutoffMs = state.nowMs - retentionS * 1000
  const begin = state.expiredPlace
  const rows = state.sql
    .of('SELECT * FROM message WHERE place > ? ORDER BY place LIMIT ?')
    .all(begin, expiredAtOnce)
    .map(messageFromRow)
  let looked = 0
  for (const row of rows) {
    if (row.atMs >= cutoffMs) break
    looked += 1
    state.setExpiredPlace(row.place)
    const conversation = state.conversations.get(row.conversation)
    if (conversation?.retentionS === followsPolicy) remove(state, conversation, row, expired)
  }
  return looked
}

function walkRoom(state: State, room: ConversationRow, most: number, expired: Set<ConversationRow>): number {
  const retentionS = effective(room.retentionS, state.policy.retentionS)
  if (retentionS === 0) return 0
  const cutoffMs = state.nowMs - retentionS * 1000
  const rows = state.sql
    .of('SELECT * FROM message WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?')
    .all(room.id, room.expiredUpTo, most)
    .map(messageFromRow)
  let looked = 0
  for (const row of rows) {
    if (row.atMs >= cutoffMs) break
    looked += 1
    remove(state, room, row, expired)
  }
  return looked
}

function remove(
  state: State,
  conversation: ConversationRow,
  row: MessageRow,
  expired: Set<ConversationRow>,
): void {
  state.messages.remove(row.place)
  state.sql.of('INSERT INTO removed (position, place) VALUES (?, ?)').run(state.position, row.place)
  state.outcomes.detach(row)
  conversation.expiredUpTo = row.seq
  state.conversations.changed(conversation)
  expired.add(conversation)
  // One's own messages above the pointers are counted: this one is not there any more.
  const sender = state.conversations.member(row.sender, conversation.id)
  if (sender === null) return
  if (row.seq > sender.openedUpTo) sender.ownUnopened -= 1
  if (row.seq > sender.readUpTo) sender.ownUnread -= 1
  state.conversations.memberChanged(sender)
}

/** Exceptions and hidden messages of what was removed for its age are of no more use. */
export function dropExpiredMarks(state: State, account: number, { id, expiredUpTo }: ConversationRow): void {
  if (expiredUpTo === 0) return
  for (const table of ['mark', 'hidden'])
    state.sql
      .of(`DELETE FROM ${table} WHERE account = ? AND conversation = ? AND seq <= ?`)
      .run(account, id, expiredUpTo)
}

function forget(state: State): void {
  const before = state.position - removedWindow
  if (before <= 0) return
  const rows = state.sql
    .of('SELECT position, place FROM removed WHERE position <= ? ORDER BY position, place LIMIT ?')
    .all(before, forgottenAtOnce)
  const last = rows.at(-1)
  if (last === undefined) return
  const position = integer(last['position'])
  state.sql.of('DELETE FROM removed WHERE (position, place) <= (?, ?)').run(position, integer(last['place']))
  state.setForgottenPosition(position)
}
