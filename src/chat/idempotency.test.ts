import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { makeUuidV7 } from '../base/ids.ts'
import { Reason } from '../gen/parley/v1/model.ts'
import { digest } from './digest.ts'
import { Harness, nobody, toAccount, toRoom, type Op, type Who } from './harness.ts'

const noBytes = new Uint8Array(0)
const dayMs = 86_400_000

function start(): { chat: Harness; alice: Who; bob: Who } {
  const chat = new Harness(new DatabaseSync(':memory:'))
  return { chat, alice: chat.register('alice'), bob: chat.register('bob') }
}

const hello = (text = 'hello'): Op => ({
  $case: 'sendMessage',
  value: { id: noBytes, to: toAccount('bob'), text },
})

test('the same id with the same content returns the first outcome, and sends once', () => {
  const { chat, alice, bob } = start()
  const id = chat.newId()
  const first = chat.run(alice, hello(), id)
  const second = chat.send(alice, toAccount('bob'), 'another')
  chat.nowMs += 1000
  assert.deepEqual(chat.run(alice, hello(), id), first)
  assert.deepEqual(chat.lastEvents(), [])
  assert.equal(second.seq, 2)
  assert.equal(chat.queries.inboxCount(bob.account), 2)
})

test('a repetition may come through another session of the account', () => {
  const { chat, alice } = start()
  const id = chat.newId()
  const first = chat.run(alice, hello(), id)
  chat.do(alice, { $case: 'logOut', value: { id: noBytes } })
  assert.deepEqual(chat.run(chat.logIn(alice.account), hello(), id), first)
})

test('the same text sent three times with three ids arrives three times', () => {
  const { chat, alice, bob } = start()
  for (let i = 0; i < 3; i += 1) chat.run(alice, hello())
  assert.equal(chat.queries.inboxCount(bob.account), 3)
})

test('an id with other content, or of another account, is refused', () => {
  const { chat, alice, bob } = start()
  const id = chat.newId()
  chat.run(alice, hello(), id, 1)
  assert.equal(chat.rejected(alice, hello('other'), id, 2).reason, Reason.ID_REUSED)
  assert.equal(chat.rejected(bob, hello(), id, 1).reason, Reason.ID_REUSED)
  assert.equal(
    chat.rejected(alice, { $case: 'logOut', value: { id: noBytes } }, id, 2).reason,
    Reason.ID_REUSED,
  )
  assert.equal(chat.rejected(nobody, hello(), id, 1).reason, Reason.ID_REUSED)
})

test('a repetition is known after everything in memory was forgotten', () => {
  const { chat, alice } = start()
  const id = chat.newId()
  const first = chat.run(alice, hello(), id)
  chat.machine.reload()
  assert.deepEqual(chat.run(alice, hello(), id), first)
  assert.equal(chat.send(alice, toAccount('bob'), 'next').seq, 2)
})

test('a repetition within one batch counts once', () => {
  const { chat, alice } = start()
  const command = chat.command(alice, hello())
  const applied = chat.apply(command, command, chat.command(alice, hello()))
  assert.deepEqual(applied[1]?.outcome, applied[0]?.outcome)
  assert.deepEqual(applied[1]?.events, [])
  assert.equal(
    applied[2]?.outcome.outcome?.$case === 'sendMessage' && applied[2].outcome.outcome.value.seq,
    2,
  )
})

test('a rejection that depends on the moment stays the first outcome', () => {
  const { chat, alice } = start()
  const id = chat.newId()
  const toCarol: Op = { $case: 'sendMessage', value: { id: noBytes, to: toAccount('carol'), text: 'hi' } }
  const first = chat.rejected(alice, toCarol, id)
  assert.equal(first.reason, Reason.ACCOUNT_NOT_FOUND)
  chat.register('carol')
  assert.deepEqual(chat.rejected(alice, toCarol, id), first)
  assert.equal(chat.run(alice, toCarol).$case, 'sendMessage')
})

test('rejections that asking again should heal are not kept', () => {
  const { chat, alice } = start()
  const id = chat.newId()
  assert.equal(chat.rejected({ ...alice, session: 77 }, hello(), id).reason, Reason.NOT_SIGNED_IN)
  const policy = { ...chat.queries.policy(), messagesPerMinute: 1 }
  chat.do(alice, { $case: 'setPolicy', value: { id: noBytes, policy, fields: [] } })
  chat.run(alice, hello())
  assert.equal(chat.rejected(alice, hello(), id).reason, Reason.RATE_LIMITED)
  chat.nowMs += 60_000
  assert.equal(chat.run(alice, hello(), id).$case, 'sendMessage')
})

test('an id from outside the window is refused, and never takes effect', () => {
  const { chat, alice } = start()
  const sent = (timeMs: number): string => {
    const result = chat.run(alice, hello(), chat.newId(timeMs))
    return result.$case === 'rejected' ? result.value.reason : result.$case
  }
  chat.nowMs += 20 * dayMs
  chat.run(alice, hello())
  const { nowMs } = chat
  assert.equal(sent(nowMs - 7 * dayMs), 'sendMessage')
  assert.equal(sent(nowMs - 7 * dayMs - 1), Reason.ID_OUT_OF_WINDOW)
  assert.equal(sent(nowMs + dayMs), 'sendMessage')
  assert.equal(sent(nowMs + dayMs + 1), Reason.ID_OUT_OF_WINDOW)
})

test('an id that is no UUIDv7 is refused', () => {
  const { chat, alice } = start()
  for (const id of [noBytes, new Uint8Array(15), new Uint8Array(16)]) {
    const error = chat.rejected(alice, hello(), id)
    assert.equal(error.reason, Reason.INVALID_ARGUMENT)
    assert.equal(error.violations[0]?.field, 'id')
  }
})

test('outcomes are dropped after eight days, some with each command, so that there are never many', () => {
  const { chat, alice } = start()
  const kept = (): number => Number(chat.db.prepare('SELECT count(*) AS n FROM outcome').get()?.['n'])
  for (let i = 0; i < 20; i += 1) chat.run(alice, hello())
  const before = kept()
  assert.equal(before, 22)
  chat.nowMs += 7 * dayMs
  chat.run(alice, hello())
  assert.equal(kept(), before + 1)
  chat.nowMs += dayMs + 1
  chat.run(alice, hello())
  // One came in, four went.
  assert.equal(kept(), before + 2 - 4)
  for (let i = 0; i < 10; i += 1) chat.run(alice, hello())
  assert.equal(kept(), 12)
})

test('what is pruned does not depend on what was forgotten in between', () => {
  const run = (reloads: boolean): string => {
    const { chat, alice } = start()
    for (let i = 0; i < 30; i += 1) {
      // Clients whose clocks differ: ids do not come in their order.
      chat.run(alice, hello(), chat.newId(chat.nowMs - ((i * 7) % 5) * dayMs))
      chat.nowMs += dayMs / 2
      if (reloads && i % 3 === 0) chat.machine.reload()
    }
    return digest(chat.db)
  }
  assert.equal(run(true), run(false))
})

test('what is kept with an id holds no text: a text that was deleted does not live on', () => {
  const { chat, alice, bob } = start()
  const { conversation } = chat.send(alice, toAccount('bob'), 'unique-words')
  const openId = chat.newId()
  const open: Op = { $case: 'openInbox', value: { id: noBytes, count: 5, conversation: 0 } }
  const opened = chat.run(bob, open, openId)
  const editId = chat.newId()
  const message = { conversation, seq: 1 }
  const edit: Op = { $case: 'editMessage', value: { id: noBytes, message, text: 'unique-edit' } }
  chat.run(alice, edit, editId)
  chat.do(alice, {
    $case: 'saveDraft',
    value: { id: noBytes, draftId: chat.newId(), baseVersion: 0, text: 'unique-draft', recipients: [] },
  })
  // Before the deletion a repetition shows the text that is there.
  const again = chat.run(bob, open, openId)
  assert.equal(opened.$case === 'openInbox' && opened.value.messages[0]?.text, 'unique-words')
  assert.equal(again.$case === 'openInbox' && again.value.messages[0]?.text, 'unique-edit')
  chat.do(alice, { $case: 'deleteMessage', value: { id: noBytes, message, forAll: true } })
  const result = chat.run(alice, edit, editId)
  assert.equal(result.$case === 'editMessage' && result.value.message?.text, '')
  for (const table of ['outcome', 'event', 'message']) {
    const bytes = chat.db
      .prepare(`SELECT * FROM ${table}`)
      .all()
      .flatMap((row) => Object.values(row))
      .map((value) => (value instanceof Uint8Array ? new TextDecoder().decode(value) : String(value)))
    assert.doesNotMatch(bytes.join('\n'), /unique/, table)
  }
})

test('a repetition shows no text that one may no longer see', () => {
  const { chat, alice, bob } = start()
  chat.do(alice, { $case: 'createRoom', value: { id: noBytes, name: 'sec', topic: '', private: true } })
  chat.do(alice, { $case: 'inviteToRoom', value: { id: noBytes, name: 'sec', account: 'bob' } })
  const left = chat.send(alice, toRoom('sec'), 'hello')
  const hidden = chat.send(alice, toAccount('bob'), 'hidden')
  const kept = chat.send(alice, toAccount('bob'), 'kept')
  const id = chat.newId()
  const open: Op = { $case: 'openInbox', value: { id: noBytes, count: 5, conversation: 0 } }
  chat.run(bob, open, id)
  chat.do(bob, { $case: 'leaveRoom', value: { id: noBytes, name: 'sec' } })
  chat.do(bob, {
    $case: 'deleteMessage',
    value: { id: noBytes, message: { conversation: hidden.conversation, seq: hidden.seq }, forAll: false },
  })
  for (const { conversation, seq } of [left, hidden, kept])
    chat.do(alice, {
      $case: 'editMessage',
      value: { id: noBytes, message: { conversation, seq }, text: 'salary' },
    })
  const again = chat.run(bob, open, id)
  assert.ok(again.$case === 'openInbox')
  assert.deepEqual(
    again.value.messages.map(({ conversation, seq, text, deleted }) => ({
      conversation,
      seq,
      text,
      deleted,
    })),
    [
      { conversation: left.conversation, seq: left.seq, text: '', deleted: true },
      { conversation: hidden.conversation, seq: hidden.seq, text: '', deleted: true },
      { conversation: kept.conversation, seq: kept.seq, text: 'salary', deleted: false },
    ],
  )
})

test('a repetition of an edit shows no text to who has left the room', () => {
  const { chat, alice } = start()
  chat.do(alice, { $case: 'createRoom', value: { id: noBytes, name: 'sec', topic: '', private: true } })
  const { conversation, seq } = chat.send(alice, toRoom('sec'), 'hello')
  const id = chat.newId()
  const edit: Op = {
    $case: 'editMessage',
    value: { id: noBytes, message: { conversation, seq }, text: 'edited' },
  }
  chat.run(alice, edit, id)
  chat.do(alice, { $case: 'leaveRoom', value: { id: noBytes, name: 'sec' } })
  const again = chat.run(alice, edit, id)
  assert.equal(again.$case === 'editMessage' && again.value.message?.text, '')
})

test('a repetition shows texts to nobody whose session has ended, and all else as before', () => {
  const { chat, bob } = start()
  const { conversation, seq } = chat.send(bob, toAccount('alice'), 'hello')
  const ops: readonly Op[] = [
    { $case: 'openInbox', value: { id: noBytes, count: 5, conversation: 0 } },
    { $case: 'editMessage', value: { id: noBytes, message: { conversation, seq }, text: 'edited' } },
    {
      $case: 'saveDraft',
      value: { id: noBytes, draftId: chat.newId(), baseVersion: 0, text: 'draft', recipients: [] },
    },
  ]
  const repeated = ops.map((op) => ({ op, id: chat.newId() }))
  for (const { op, id } of repeated) assert.equal(chat.run(bob, op, id).$case, op.$case)
  const sendId = chat.newId()
  const send: Op = { $case: 'sendMessage', value: { id: noBytes, to: toAccount('alice'), text: 'hi' } }
  const sent = chat.run(bob, send, sendId)
  chat.do(bob, { $case: 'logOut', value: { id: noBytes } })
  for (const { op, id } of repeated) assert.equal(chat.rejected(bob, op, id).reason, Reason.NOT_SIGNED_IN)
  assert.deepEqual(chat.run(bob, send, sendId), sent)
  const back = chat.logIn(bob.account)
  for (const { op, id } of repeated) assert.equal(chat.run(back, op, id).$case, op.$case)
})

test('a repeated draft shows the text that was sent with it', () => {
  const { chat, alice } = start()
  const id = chat.newId()
  const op: Op = {
    $case: 'saveDraft',
    value: { id: noBytes, draftId: chat.newId(), baseVersion: 0, text: 'text', recipients: [] },
  }
  assert.deepEqual(chat.run(alice, op, id), chat.run(alice, op, id))
})

test('a registration that is sent again with another token is another one', () => {
  const { chat } = start()
  const id = chat.newId()
  const op = (tokenHash: Uint8Array): Op => ({
    $case: 'register',
    value: { name: 'carol', passwordHash: 'hash', device: '', tokenHash },
  })
  const token = chat.newTokenHash()
  const first = chat.run(nobody, op(token), id)
  assert.equal(first.$case, 'register')
  assert.deepEqual(chat.run(nobody, op(token), id), first)
  assert.equal(chat.rejected(nobody, op(chat.newTokenHash()), id).reason, Reason.ID_REUSED)
})

test('ids need not be new to the clock: two clients may choose them in the same millisecond', () => {
  const { chat, alice, bob } = start()
  const one = makeUuidV7(chat.nowMs, new Uint8Array(10).fill(1))
  const other = makeUuidV7(chat.nowMs, new Uint8Array(10).fill(2))
  chat.run(alice, hello(), other)
  chat.run(alice, hello(), one)
  assert.equal(chat.queries.inboxCount(bob.account), 2)
})

test('a repetition among thousands of sends counts once, wherever it comes', () => {
  const { chat, alice } = start()
  const commands = Array.from({ length: 200 }, () => chat.command(alice, hello()))
  const first = chat.apply(...commands)
  for (const [at, command] of commands.entries()) {
    const others = Array.from({ length: at % 40 }, () => chat.command(alice, hello()))
    const applied = chat.apply(...others, command, chat.command(alice, hello()))
    assert.deepEqual(applied[others.length]?.outcome, first[at]?.outcome)
  }
  const others = commands.reduce((sum, _, at) => sum + (at % 40) + 1, 0)
  assert.equal(chat.send(alice, toAccount('bob'), 'last').seq, commands.length + others + 1)
})
