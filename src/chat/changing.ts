import { Reason } from '../gen/parley/v1/model.ts'
import type { DeleteMessageRequest, EditMessageRequest } from '../gen/parley/v1/service.ts'
import { viewMessage, type MessageRow } from './messages.ts'
import { conversationNotFound, messageNotFound, reject, type Rejected, type Result } from './rejections.ts'
import { checkText } from './sending.ts'
import type { SignedInRows, State } from './state.ts'

export function editMessage(state: State, who: SignedInRows, request: EditMessageRequest): Result {
  const found = findMessage(state, who, request.message)
  if ('$case' in found) return found
  if (found.deleted) return messageNotFound
  if (found.sender !== who.account.id) return notYours
  const tooLarge = checkText(state, request.text)
  if (tooLarge !== null) return tooLarge
  state.messages.edit(found.place, request.text, state.nowMs, state.position)
  const edited = { ...found, text: request.text, editedAtMs: state.nowMs }
  state.events.emitEdited(viewMessage(edited, who.account.name, false))
  return { $case: 'editMessage', value: { message: viewMessage(edited, who.account.name, true) } }
}

export function deleteMessage(state: State, who: SignedInRows, request: DeleteMessageRequest): Result {
  const found = findMessage(state, who, request.message)
  if ('$case' in found) return found
  return request.forAll ? deleteForAll(state, who, found) : hide(state, who, found)
}

function deleteForAll(state: State, who: SignedInRows, row: MessageRow): Result {
  if (row.deleted) return messageNotFound
  if (row.sender !== who.account.id) return notYours
  state.messages.erase(row.place, state.position)
  state.events.emit(
    { kind: 'conversation', conversation: row.conversation },
    {
      $case: 'messageDeleted',
      value: viewMessage({ ...row, text: '', deleted: true }, who.account.name, false),
    },
  )
  return { $case: 'deleteMessage', value: {} }
}

function hide(state: State, who: SignedInRows, row: MessageRow): Result {
  const isOwn = row.sender === who.account.id
  const { changes } = state.sql
    .of('INSERT OR IGNORE INTO hidden (account, conversation, seq, own) VALUES (?, ?, ?, ?)')
    .run(who.account.id, row.conversation, row.seq, Number(isOwn))
  if (changes === 0) return messageNotFound
  state.sql
    .of('DELETE FROM mark WHERE account = ? AND conversation = ? AND seq = ?')
    .run(who.account.id, row.conversation, row.seq)
  const senderName = state.accounts.get(row.sender)?.name ?? ''
  state.events.emit(
    { kind: 'account', account: who.account.id },
    { $case: 'messageHidden', value: viewMessage({ ...row, text: '' }, senderName, false) },
  )
  return { $case: 'deleteMessage', value: {} }
}

function findMessage(
  state: State,
  who: SignedInRows,
  reference: EditMessageRequest['message'],
): MessageRow | Rejected {
  const conversation = reference?.conversation ?? 0
  if (state.conversations.member(who.account.id, conversation) === null) return conversationNotFound
  return state.messages.get(conversation, reference?.seq ?? 0) ?? messageNotFound
}

const notYours = reject(Reason.NOT_YOUR_MESSAGE, 'Only its sender can change or delete a message for all.')
