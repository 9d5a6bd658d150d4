import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Event } from '../gen/parley/v1/service.ts'
import { Harness, toAccount, toConversation, toRoom } from './harness.ts'

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
  const { events: stored } = chat.queries.eventsAfter(0, 100)
  assert.deepEqual(
    stored.map(({ position, audience, bytes }) => ({ position, audience, event: Event.decode(bytes) })),
    live.map(({ position, audience, bytes }) => ({ position, audience, event: Event.decode(bytes) })),
  )
})
