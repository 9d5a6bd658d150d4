import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Event } from '../gen/parley/v1/service.ts'
import { Reason, type Target } from '../gen/parley/v1/model.ts'
import { Harness, toAccount, toConversation, toRoom, type Op } from './harness.ts'

function start(): Harness {
  return new Harness(new DatabaseSync(':memory:'))
}

test('the first message to an account makes the direct conversation, for both', () => {
  const chat = start()
  const alice = chat.register('alice')
  const bob = chat.register('Bob')
  const sent = chat.send(alice, toAccount('bob'), 'hello')
  assert.deepEqual(sent, { conversation: 2, seq: 1, atMs: chat.nowMs, delivered: false })
  assert.deepEqual(
    chat.lastEvents().map(({ event }) => event?.$case),
    ['conversation', 'conversation', 'message'],
  )
  const again = chat.send(bob, toConversation(2), 'hi')
  assert.equal(again.seq, 2)
  const page = chat.queries.messages(bob.account, 2, { beforeSeq: 0, afterSeq: 0, pageSize: 50 })
  assert.deepEqual(
    page?.messages.map(({ seq, senderName, text, read }) => ({ seq, senderName, text, read })),
    [
      { seq: 1, senderName: 'alice', text: 'hello', read: false },
      { seq: 2, senderName: 'Bob', text: 'hi', read: true },
    ],
  )
})

test('a message to #everyone goes to all accounts', () => {
  const chat = start()
  const alice = chat.register('alice')
  const bob = chat.register('bob')
  chat.send(alice, toRoom('everyone'), 'hello all')
  assert.equal(chat.queries.inboxCount(bob.account), 1)
  assert.equal(chat.queries.inboxCount(alice.account), 0)
})

test('events after a cursor are those that were given out', () => {
  const chat = start()
  const alice = chat.register('alice')
  chat.register('bob')
  for (let i = 0; i < 5; i += 1) chat.send(alice, toAccount('bob'), `message ${i}`)
  const live = chat.applied.flatMap(({ events }) => [...events])
  const { events: stored } = chat.queries.eventsAfter(0, { limit: 100, maxBytes: Infinity })
  assert.deepEqual(
    stored.map(({ position, audience, bytes }) => ({ position, audience, event: Event.decode(bytes) })),
    live.map(({ position, audience, bytes }) => ({ position, audience, event: Event.decode(bytes) })),
  )
})

test('a message that cannot be delivered is rejected with the reason, and nothing is made for it', () => {
  const chat = start()
  const alice = chat.register('alice')
  chat.register('bob')
  const cases: readonly (readonly [Target, string, Reason])[] = [
    [toAccount('carol'), 'x', Reason.ACCOUNT_NOT_FOUND],
    [toAccount('ALICE'), 'x', Reason.NOT_TO_ONESELF],
    [toConversation(99), 'x', Reason.CONVERSATION_NOT_FOUND],
    [toRoom('tea'), 'x', Reason.ROOM_NOT_FOUND],
    [toAccount('bob'), ' \n', Reason.INVALID_ARGUMENT],
    [toAccount('no name'), 'x', Reason.INVALID_ARGUMENT],
    [toAccount('bob'), 'x'.repeat(16_385), Reason.MESSAGE_TOO_LARGE],
    [{ target: undefined }, 'x', Reason.INVALID_ARGUMENT],
  ]
  for (const [to, text, reason] of cases) {
    const op: Op = { $case: 'sendMessage', value: { id: new Uint8Array(0), to, text } }
    assert.equal(chat.rejected(alice, op).reason, reason)
    assert.deepEqual(chat.lastEvents(), [])
  }
  assert.equal(chat.queries.conversation(alice.account, toAccount('bob')), null)
})

test('texts are kept as they are: any characters, up to the limit', () => {
  const chat = start()
  const alice = chat.register('alice')
  const texts = ['a\u0000b', '  indented\n', '🙂'.repeat(4096), '<b>&amp;', "'; DROP TABLE message; --"]
  for (const text of texts) chat.send(alice, toRoom('everyone'), text)
  const page = chat.queries.messages(alice.account, 1, { beforeSeq: 0, afterSeq: 0, pageSize: 50 })
  assert.deepEqual(
    page?.messages.map(({ text }) => text),
    texts,
  )
})

test('numbers have no gap, and places are in the order of sending, whatever was rejected in between', () => {
  const chat = start()
  const alice = chat.register('alice')
  const seqs: number[] = []
  for (let i = 0; i < 4; i += 1) {
    seqs.push(chat.send(alice, toRoom('everyone'), 'x').seq)
    chat.rejected(alice, {
      $case: 'sendMessage',
      value: { id: new Uint8Array(0), to: toRoom('everyone'), text: '' },
    })
  }
  assert.deepEqual(seqs, [1, 2, 3, 4])
  const positions = chat.queries
    .messages(alice.account, 1, { beforeSeq: 0, afterSeq: 0, pageSize: 50 })
    ?.messages.map(({ position }) => position)
  assert.deepEqual(positions, [2, 4, 6, 8])
})

test('all messages of a batch are there, whole and in order, however many they are', () => {
  const chat = start()
  const alice = chat.register('alice')
  const noId = new Uint8Array(0)
  const texts: string[] = []
  for (let size = 1; size <= 20; size += 1) {
    const commands = Array.from({ length: size }, (_, i) => {
      const text = `${i} of ${size}`
      texts.push(text)
      return chat.command(alice, {
        $case: 'sendMessage',
        value: { id: noId, to: toRoom('everyone'), text },
      })
    })
    // The last one once more, and an edit of it: both look for it in the table.
    const [repeated] = commands.slice(-1)
    assert.ok(repeated)
    const message = { conversation: 1, seq: texts.length }
    const text = `edited ${size}`
    texts[texts.length - 1] = text
    const edit = chat.command(alice, { $case: 'editMessage', value: { id: noId, message, text } })
    const applied = chat.apply(...commands, repeated, edit)
    const [first, again] = applied.slice(size - 1).map(({ outcome }) => outcome.outcome)
    assert.deepEqual(again, first)
    assert.equal(applied.at(-1)?.outcome.outcome?.$case, 'editMessage')
  }
  const page = chat.queries.messages(alice.account, 1, { beforeSeq: 0, afterSeq: 0, pageSize: 1000 })
  assert.deepEqual(
    page?.messages.map(({ text }) => text),
    texts,
  )
})

test('messages of a batch that was rolled back are forgotten with it', () => {
  const chat = start()
  const alice = chat.register('alice')
  const say = (text: string) =>
    chat.command(alice, {
      $case: 'sendMessage',
      value: { id: new Uint8Array(0), to: toRoom('everyone'), text },
    })
  chat.db.exec('BEGIN')
  chat.machine.applyBatch(
    { origin: 2, incarnation: 1, number: 1, atMs: chat.nowMs, commands: [say('a'), say('b')] },
    false,
  )
  chat.db.exec('ROLLBACK')
  chat.machine.reload()
  chat.apply(say('c'))
  const page = chat.queries.messages(alice.account, 1, { beforeSeq: 0, afterSeq: 0, pageSize: 10 })
  assert.deepEqual(
    page?.messages.map(({ seq, text }) => ({ seq, text })),
    [{ seq: 1, text: 'c' }],
  )
})
