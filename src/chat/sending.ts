import { ConversationKind, Reason, type Target } from '../gen/parley/v1/model.ts'
import type { SendMessageRequest, SendMessageResponse } from '../gen/parley/v1/service.ts'
import type { AccountRow } from './accounts.ts'
import { peerOf, type ConversationRow, type MemberRow } from './conversations.ts'
import { isLonger } from './limits.ts'
import { viewConversationOf } from './views.ts'
import {
  accountNotFound,
  conversationNotFound,
  reject,
  roomNotFound,
  type Rejected,
  type Result,
} from './rejections.ts'
import { followsPolicy } from './schema.ts'
import type { SignedInRows, State } from './state.ts'

/** Where a message goes. */
export type Destination =
  | {
      readonly kind: 'conversation'
      readonly conversation: ConversationRow
      readonly member: MemberRow
      /** The other account of a direct conversation. */
      readonly peer: AccountRow | null
    }
  /** A direct conversation that does not exist yet. */
  | { readonly kind: 'newDirect'; readonly peer: AccountRow }
  | { readonly kind: 'rejected'; readonly rejected: Rejected }

export function sendMessage(
  state: State,
  who: SignedInRows,
  request: SendMessageRequest,
  id: Uint8Array,
): Result {
  const destination = findDestination(state, who.account, request.to)
  if (destination.kind === 'rejected') return destination.rejected
  const rejected = checkText(state, request.text) ?? checkRate(state, who.account)
  if (rejected !== null) return rejected
  return { $case: 'sendMessage', value: deliver(state, who.account, destination, id, request.text) }
}

/** Where `account` may send to. Strangers learn nothing about conversations that they cannot see. */
export function findDestination(state: State, account: AccountRow, to: Target | undefined): Destination {
  const target = to?.target
  switch (target?.$case) {
    case undefined:
      return { kind: 'rejected', rejected: conversationNotFound }
    case 'conversation': {
      const conversation = state.conversations.get(target.value)
      return conversation === null
        ? { kind: 'rejected', rejected: conversationNotFound }
        : enter(state, account, conversation, () => conversationNotFound)
    }
    case 'room': {
      const room = state.conversations.byRoomName(target.value)
      const unknown = (): Rejected => roomNotFound(target.value)
      return room === null ? { kind: 'rejected', rejected: unknown() } : enter(state, account, room, unknown)
    }
    case 'account': {
      const peer = state.accounts.byName(target.value)
      if (peer === null) return { kind: 'rejected', rejected: accountNotFound(target.value) }
      if (peer === account) return { kind: 'rejected', rejected: notToOneself }
      const conversation = state.conversations.direct(account.id, peer.id)
      return conversation === null
        ? { kind: 'newDirect', peer }
        : enter(state, account, conversation, () => conversationNotFound)
    }
  }
}

/** Sends to a destination that was found, when nothing speaks against it. */
export function deliver(
  state: State,
  sender: AccountRow,
  destination: Exclude<Destination, { readonly kind: 'rejected' }>,
  id: Uint8Array,
  text: string,
): SendMessageResponse {
  if (destination.kind === 'newDirect') {
    const conversation = makeDirect(state, sender, destination.peer)
    const member = state.conversations.member(sender.id, conversation.id)
    if (member === null) throw new Error('a new conversation has its members')
    return append(state, sender, conversation, member, destination.peer, id, text)
  }
  return append(state, sender, destination.conversation, destination.member, destination.peer, id, text)
}

export function checkText(state: State, text: string): Rejected | null {
  const { maxMessageBytes } = state.policy
  if (!isLonger(text, maxMessageBytes)) return null
  const description = `must be at most ${maxMessageBytes} bytes`
  return reject(Reason.MESSAGE_TOO_LARGE, `The message is too large: it ${description}.`, [
    { field: 'text', description },
  ])
}

const minuteUs = 60_000_000

/**
 * A token bucket that holds a minute's worth: what was sent moves `rateUntilUs` on by its share of a minute, and that may run at most a minute ahead of the clock.
 */
export function checkRate(state: State, account: AccountRow): Rejected | null {
  const { messagesPerMinute } = state.policy
  if (messagesPerMinute === 0) return null
  const nowUs = state.nowMs * 1000
  const costUs = Math.floor(minuteUs / messagesPerMinute)
  const excessUs = Math.max(account.rateUntilUs, nowUs) + costUs - nowUs - minuteUs
  if (excessUs <= 0) return null
  return reject(
    Reason.RATE_LIMITED,
    `You may send ${messagesPerMinute} messages in a minute.`,
    [],
    Math.ceil(excessUs / 1000),
  )
}

function useRate(state: State, account: AccountRow): void {
  const { messagesPerMinute } = state.policy
  if (messagesPerMinute === 0) return
  account.rateUntilUs =
    Math.max(account.rateUntilUs, state.nowMs * 1000) + Math.floor(minuteUs / messagesPerMinute)
  state.accounts.changed(account)
}

function enter(
  state: State,
  account: AccountRow,
  conversation: ConversationRow,
  unknown: () => Rejected,
): Destination {
  const member = state.conversations.member(account.id, conversation.id)
  if (member === null) {
    const isPublic = conversation.kind === ConversationKind.ROOM && !conversation.private
    return { kind: 'rejected', rejected: isPublic ? notAMember(conversation.name) : unknown() }
  }
  if (conversation.kind !== ConversationKind.DIRECT)
    return { kind: 'conversation', conversation, member, peer: null }
  const peer = state.accounts.get(peerOf(conversation, account.id))
  return peer === null || peer.deleted
    ? { kind: 'rejected', rejected: accountNotFound(peer?.name ?? 'The other side') }
    : { kind: 'conversation', conversation, member, peer }
}

function append(
  state: State,
  sender: AccountRow,
  conversation: ConversationRow,
  member: MemberRow,
  peer: AccountRow | null,
  id: Uint8Array,
  text: string,
): SendMessageResponse {
  const seq = conversation.lastSeq + 1
  conversation.lastSeq = seq
  conversation.lastPosition = state.position
  state.conversations.changed(conversation)
  passOwn(member, seq)
  state.conversations.memberChanged(member)
  useRate(state, sender)
  state.messages.insert(state.events.nextPlace, conversation.id, seq, id, sender.id, text, state.nowMs)
  state.events.emitMessage({
    conversation: conversation.id,
    seq,
    id,
    sender: sender.id,
    senderName: sender.name,
    text,
    atMs: state.nowMs,
    editedAtMs: 0,
    deleted: false,
    read: false,
    position: state.position,
  })
  return {
    conversation: conversation.id,
    seq,
    atMs: state.nowMs,
    delivered: peer !== null && peer.connections > 0,
  }
}

/** One's own messages are read and opened as soon as nothing unread and unopened lies before them; else they are counted. */
function passOwn(member: MemberRow, seq: number): void {
  if (member.openedUpTo === seq - 1) member.openedUpTo = seq
  else member.ownUnopened += 1
  if (member.readUpTo === seq - 1) member.readUpTo = seq
  else member.ownUnread += 1
}

function makeDirect(state: State, sender: AccountRow, peer: AccountRow): ConversationRow {
  const conversation: ConversationRow = {
    id: state.nextConversation(),
    kind: ConversationKind.DIRECT,
    name: '',
    topic: '',
    private: true,
    owner: 0,
    low: Math.min(sender.id, peer.id),
    high: Math.max(sender.id, peer.id),
    members: 0,
    lastSeq: 0,
    lastPosition: state.position,
    expiredUpTo: 0,
    retentionS: followsPolicy,
  }
  state.conversations.insert(conversation)
  for (const account of [sender, peer]) {
    state.conversations.addMember(account.id, conversation, state.position)
    state.noteMembership({ account: account.id, conversation: conversation.id, member: true })
  }
  for (const [account, other] of [
    [sender, peer],
    [peer, sender],
  ] as const) {
    state.events.emit(
      { kind: 'account', account: account.id },
      { $case: 'conversation', value: viewConversationOf(conversation, other) },
    )
  }
  return conversation
}

const notToOneself = reject(Reason.NOT_TO_ONESELF, 'You cannot send a message to yourself.')

export function notAMember(room: string): Rejected {
  return reject(Reason.NOT_A_MEMBER, `You are not in #${room}: join it first.`)
}
