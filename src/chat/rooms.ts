import { ConversationKind, Reason } from '../gen/parley/v1/model.ts'
import type {
  CreateRoomRequest,
  InviteToRoomRequest,
  JoinRoomRequest,
  LeaveRoomRequest,
} from '../gen/parley/v1/service.ts'
import type { ConversationRow } from './conversations.ts'
import { limits } from './limits.ts'
import { accountNotFound, reject, roomNotFound, type Result } from './rejections.ts'
import { notAMember } from './sending.ts'
import { followsPolicy } from './schema.ts'
import type { SignedInRows, State } from './state.ts'
import { viewConversationOf } from './views.ts'

export function createRoom(state: State, who: SignedInRows, request: CreateRoomRequest): Result {
  if (state.conversations.byRoomName(request.name) !== null)
    return reject(Reason.ROOM_NAME_TAKEN, `There is a room #${request.name} already.`)
  if (isInTooMany(state, who.account.id)) return youAreInTooMany
  const room: ConversationRow = {
    id: state.nextConversation(),
    kind: ConversationKind.ROOM,
    name: request.name,
    topic: request.topic,
    private: request.private,
    owner: who.account.id,
    low: 0,
    high: 0,
    members: 0,
    lastSeq: 0,
    lastPosition: state.position,
    expiredUpTo: 0,
    retentionS: followsPolicy,
  }
  state.conversations.insert(room)
  enterRoom(state, who.account.id, room)
  return { $case: 'createRoom', value: { conversation: viewConversationOf(room, null) } }
}

export function joinRoom(state: State, who: SignedInRows, request: JoinRoomRequest): Result {
  const room = state.conversations.byRoomName(request.name)
  const isMember = room !== null && state.conversations.member(who.account.id, room.id) !== null
  if (room === null || (room.private && !isMember)) return roomNotFound(request.name)
  if (isMember) return reject(Reason.ALREADY_A_MEMBER, `You are in #${room.name} already.`)
  if (isInTooMany(state, who.account.id)) return youAreInTooMany
  enterRoom(state, who.account.id, room)
  return {
    $case: 'joinRoom',
    value: {
      conversation: {
        ...viewConversationOf(room, null),
        readUpTo: room.lastSeq,
        openedUpTo: room.lastSeq,
      },
    },
  }
}

export function leaveRoom(state: State, who: SignedInRows, request: LeaveRoomRequest): Result {
  const room = state.conversations.byRoomName(request.name)
  if (room?.kind === ConversationKind.EVERYONE)
    return reject(Reason.CANNOT_LEAVE, 'Everybody stays in #everyone.')
  const isMember = room !== null && state.conversations.member(who.account.id, room.id) !== null
  if (room === null || (room.private && !isMember)) return roomNotFound(request.name)
  if (!isMember) return notAMember(room.name)
  leaveConversation(state, who.account.id, room)
  return { $case: 'leaveRoom', value: {} }
}

export function inviteToRoom(state: State, who: SignedInRows, request: InviteToRoomRequest): Result {
  const room = state.conversations.byRoomName(request.name)
  const isMember = room !== null && state.conversations.member(who.account.id, room.id) !== null
  if (room === null || (room.private && !isMember)) return roomNotFound(request.name)
  if (!isMember) return notAMember(room.name)
  const guest = state.accounts.byName(request.account)
  if (guest === null) return accountNotFound(request.account)
  if (state.conversations.member(guest.id, room.id) !== null)
    return reject(Reason.ALREADY_A_MEMBER, `${guest.name} is in #${room.name} already.`)
  if (isInTooMany(state, guest.id))
    return reject(
      Reason.NOT_PERMITTED,
      `${guest.name} is in ${limits.roomsPerAccount} rooms, and nobody can be in more.`,
    )
  enterRoom(state, guest.id, room)
  return { $case: 'inviteToRoom', value: {} }
}

/** Out of a room, or of `#everyone` when the account is deleted. */
export function leaveConversation(state: State, account: number, conversation: ConversationRow): void {
  state.conversations.removeMember(account, conversation)
  if (conversation.kind !== ConversationKind.ROOM) return
  state.noteMembership({ account, conversation: conversation.id, member: false })
  state.events.emit(
    { kind: 'account', account },
    { $case: 'conversationLeft', value: { conversation: conversation.id } },
  )
  if (conversation.members > 0) tellMembers(state, conversation)
  // Nobody could invite anybody to it ever again.
  else if (conversation.private) state.conversations.freeName(conversation)
}

function isInTooMany(state: State, account: number): boolean {
  // Version 1 had no limit.
  return state.version >= 2 && state.conversations.roomsOf(account) >= limits.roomsPerAccount
}

const youAreInTooMany = reject(
  Reason.NOT_PERMITTED,
  `You are in ${limits.roomsPerAccount} rooms, and nobody can be in more: leave one first.`,
)

function enterRoom(state: State, account: number, room: ConversationRow): void {
  state.conversations.addMember(account, room, state.position)
  state.noteMembership({ account, conversation: room.id, member: true })
  tellMembers(state, room)
}

function tellMembers(state: State, room: ConversationRow): void {
  state.events.emit(
    { kind: 'conversation', conversation: room.id },
    { $case: 'conversation', value: viewConversationOf(room, null) },
  )
}
