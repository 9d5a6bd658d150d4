import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Reason, type Message } from '../gen/parley/v1/model.ts'
import { Harness, toAccount, toConversation, type Op, type Who } from './harness.ts'

const noBytes = new Uint8Array(0)

/** A direct conversation of alice and bob, number 2, in which each has said something. */
function start(): { chat: Harness; alice: Who; bob: Who } {
  const chat = new Harness(new DatabaseSync(':memory:'))
  const alice = chat.register('alice')
  const bob = chat.register('bob')
  chat.send(alice, toAccount('bob'), 'from alice')
  chat.send(bob, toAccount('alice'), 'from bob')
  return { chat, alice, bob }
}

function edit(seq: number, text: string): Op {
  return { $case: 'editMessage', value: { id: noBytes, message: { conversation: 2, seq }, text } }
}

function remove(seq: number, forAll: boolean): Op {
  return { $case: 'deleteMessage', value: { id: noBytes, message: { conversation: 2, seq }, forAll } }
}

function shown(chat: Harness, who: Who): readonly Message[] {
  return chat.queries.messages(who.account, 2, { beforeSeq: 0, afterSeq: 0, pageSize: 50 })?.messages ?? []
}

test('one may edit one’s own messages, and all in the conversation are told', () => {
  const { chat, alice, bob } = start()
  chat.nowMs += 5
  const { message } = chat.do(alice, {
    $case: 'editMessage',
    value: { id: noBytes, message: { conversation: 2, seq: 1 }, text: 'better' },
  })
  assert.equal(message?.text, 'better')
  assert.equal(message.editedAtMs, chat.nowMs)
  assert.deepEqual(chat.applied.at(-1)?.events[0]?.audience, { kind: 'conversation', conversation: 2 })
  assert.equal(shown(chat, bob)[0]?.text, 'better')
  assert.equal(shown(chat, bob)[0]?.editedAtMs, chat.nowMs)
})

test('nobody may edit or delete for all what others wrote', () => {
  const { chat, alice } = start()
  assert.equal(chat.rejected(alice, edit(2, 'forged')).reason, Reason.NOT_YOUR_MESSAGE)
  assert.equal(chat.rejected(alice, remove(2, true)).reason, Reason.NOT_YOUR_MESSAGE)
})

test('an edit obeys the limits of a message', () => {
  const { chat, alice } = start()
  assert.equal(chat.rejected(alice, edit(1, ' ')).reason, Reason.INVALID_ARGUMENT)
  assert.equal(chat.rejected(alice, edit(1, 'x'.repeat(16_385))).reason, Reason.MESSAGE_TOO_LARGE)
})

test('a message that does not exist, or was deleted, can be neither edited nor deleted again', () => {
  const { chat, alice, bob } = start()
  for (const op of [edit(9, 'x'), remove(9, true), remove(9, false)])
    assert.equal(chat.rejected(alice, op).reason, Reason.MESSAGE_NOT_FOUND)
  chat.run(alice, remove(1, true))
  for (const op of [edit(1, 'x'), remove(1, true)])
    assert.equal(chat.rejected(alice, op).reason, Reason.MESSAGE_NOT_FOUND)
  chat.run(bob, remove(1, false))
  assert.equal(chat.rejected(bob, remove(1, false)).reason, Reason.MESSAGE_NOT_FOUND)
})

test('a message that was deleted for all keeps its number and loses its text', () => {
  const { chat, alice, bob } = start()
  assert.equal(chat.queries.inboxCount(bob.account), 1)
  chat.run(alice, remove(1, true))
  assert.deepEqual(
    shown(chat, bob).map(({ seq, text, deleted }) => ({ seq, text, deleted })),
    [
      { seq: 1, text: '', deleted: true },
      { seq: 2, text: 'from bob', deleted: false },
    ],
  )
  assert.equal(chat.queries.inboxCount(bob.account), 0)
  const [event] = chat.lastEvents()
  assert.equal(event?.event?.$case === 'messageDeleted' && event.event.value.text, '')
})

test('a message that was deleted for oneself stays for the others', () => {
  const { chat, alice, bob } = start()
  chat.run(bob, remove(1, false))
  assert.deepEqual(
    shown(chat, bob).map(({ seq }) => seq),
    [2],
  )
  assert.deepEqual(
    shown(chat, alice).map(({ seq }) => seq),
    [1, 2],
  )
  assert.equal(chat.queries.inboxCount(bob.account), 0)
  assert.deepEqual(chat.applied.at(-1)?.events[0]?.audience, { kind: 'account', account: bob.account })
  // The newest message that bob is shown is his own.
  chat.run(bob, remove(2, false))
  assert.equal(chat.queries.conversation(bob.account, toConversation(2))?.lastMessage, undefined)
})

test('a message that was marked unread and then deleted for oneself is not unread', () => {
  const { chat, bob } = start()
  const mark = ($case: 'upTo' | 'unread'): Op => ({
    $case: 'markRead',
    value: { id: noBytes, conversation: 2, mark: { $case, value: 1 } },
  })
  chat.run(bob, mark('upTo'))
  chat.run(bob, mark('unread'))
  const unread = (): number | undefined => chat.queries.conversation(bob.account, toConversation(2))?.unread
  assert.equal(unread(), 1)
  chat.run(bob, remove(1, false))
  assert.equal(unread(), 0)
})
