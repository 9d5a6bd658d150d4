import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Event } from '../gen/parley/v1/service.ts'
import { eventWindow, oldestCursorAt } from './events.ts'
import { Harness, toAccount, toConversation, toRoom, type Who } from './harness.ts'
import type { ChatEvent } from './types.ts'

const noBytes = new Uint8Array(0)

function start(): { chat: Harness; alice: Who; bob: Who } {
  const chat = new Harness(new DatabaseSync(':memory:'))
  return { chat, alice: chat.register('alice'), bob: chat.register('bob') }
}

function comparable({ position, audience, bytes }: ChatEvent): unknown {
  return { position, audience, event: Event.decode(bytes) }
}

test('events after a cursor are those that were given out live, with equal bytes, in their order', () => {
  const { chat, alice, bob } = start()
  chat.send(alice, toAccount('bob'), 'hello')
  chat.do(alice, { $case: 'createRoom', value: { id: noBytes, name: 'tea', topic: '', private: false } })
  chat.do(bob, { $case: 'joinRoom', value: { id: noBytes, name: 'tea' } })
  chat.do(bob, {
    $case: 'markRead',
    value: { id: noBytes, conversation: 2, mark: { $case: 'upTo', value: 1 } },
  })
  chat.do(alice, {
    $case: 'editMessage',
    value: { id: noBytes, message: { conversation: 2, seq: 1 }, text: 'hi' },
  })
  chat.do(bob, {
    $case: 'saveDraft',
    value: { id: noBytes, draftId: chat.newId(), baseVersion: 0, text: 'draft', recipients: [] },
  })
  chat.do(alice, { $case: 'logOut', value: { id: noBytes } })
  const live = chat.applied.flatMap(({ events }) => [...events])
  // The message has been edited since: it is shown as it is now. All else is the same.
  const edited = live.findIndex(({ bytes }) => Event.decode(bytes).event?.$case === 'message')
  const expected = live.map(comparable)
  const { events, upTo } = chat.queries.eventsAfter(0, { limit: 1000, maxBytes: Infinity })
  assert.equal(upTo, chat.machine.position)
  assert.deepEqual(events.map(comparable).toSpliced(edited, 1), expected.toSpliced(edited, 1))
  assert.deepEqual(
    events.toSpliced(edited, 1).map(({ bytes }) => bytes),
    live.toSpliced(edited, 1).map(({ bytes }) => bytes),
  )
  const shown = Event.decode(events[edited]?.bytes ?? noBytes)
  assert.equal(shown.event?.$case === 'message' && shown.event.value.text, 'hi')
})

test('a cursor may be cut anywhere: the slices together are everything, and no position is cut in two', () => {
  const { chat, alice, bob } = start()
  for (let i = 0; i < 4; i += 1) {
    chat.send(alice, toRoom('everyone'), `all ${i}`)
    chat.register(`guest-${i}`)
    chat.send(bob, toAccount(`guest-${i}`), 'hello')
  }
  const all = chat.queries.eventsAfter(0, { limit: 1000, maxBytes: Infinity }).events.map(comparable)
  const slices = [
    ...[1, 2, 3, 7].map((limit) => ({ limit, maxBytes: Infinity })),
    ...[1, 6, 20, 300].map((maxBytes) => ({ limit: 1000, maxBytes })),
  ]
  for (const slice of slices) {
    const found: unknown[] = []
    let cursor = 0
    while (cursor < chat.machine.position) {
      const { events, upTo } = chat.queries.eventsAfter(cursor, slice)
      assert.ok(upTo > cursor, 'goes on')
      assert.ok(events.every(({ position }) => position > cursor && position <= upTo))
      found.push(...events.map(comparable))
      cursor = upTo
    }
    assert.deepEqual(found, all, `slices of ${JSON.stringify(slice)}`)
  }
})

test('a slice with large texts holds few events', () => {
  const { chat, alice } = start()
  const { position } = chat.machine
  for (let i = 0; i < 10; i += 1) chat.send(alice, toRoom('everyone'), 'x'.repeat(10_000))
  const { events, upTo } = chat.queries.eventsAfter(position, { limit: 500, maxBytes: 25_000 })
  assert.equal(events.length, 3)
  assert.equal(upTo, position + 3)
})

test('a text that was deleted is in no event any more', () => {
  const { chat, alice } = start()
  const { conversation } = chat.send(alice, toAccount('bob'), 'secret words')
  const message = { conversation, seq: 1 }
  chat.do(alice, { $case: 'editMessage', value: { id: noBytes, message, text: 'secret edit' } })
  chat.do(alice, { $case: 'deleteMessage', value: { id: noBytes, message, forAll: true } })
  const { events } = chat.queries.eventsAfter(0, { limit: 100, maxBytes: Infinity })
  const shown = events.map(({ bytes }) => Event.decode(bytes).event)
  assert.doesNotMatch(JSON.stringify(shown), /secret/)
  assert.deepEqual(
    shown.slice(-3).map((event) => event?.$case),
    ['message', 'messageEdited', 'messageDeleted'],
  )
  const sent = shown.at(-3)
  assert.equal(sent?.$case === 'message' && sent.value.deleted, true)
})

test('a draft that is gone has no event but its removal', () => {
  const { chat, alice } = start()
  const draftId = chat.newId()
  chat.do(alice, {
    $case: 'saveDraft',
    value: { id: noBytes, draftId, baseVersion: 0, text: 'x', recipients: [] },
  })
  const { position } = chat.machine
  chat.do(alice, { $case: 'deleteDrafts', value: { id: noBytes, draftIds: [draftId] } })
  const { events } = chat.queries.eventsAfter(position - 1, { limit: 100, maxBytes: Infinity })
  assert.deepEqual(
    events.map(({ bytes }) => Event.decode(bytes).event?.$case),
    ['draftRemoved'],
  )
})

test('who joins a room gets its events from then on, and who left gets none', () => {
  const { chat, alice, bob } = start()
  const room = chat.do(alice, {
    $case: 'createRoom',
    value: { id: noBytes, name: 'tea', topic: '', private: false },
  }).conversation
  const audience = { kind: 'conversation', conversation: room?.id ?? 0 } as const
  chat.send(alice, toRoom('tea'), 'before')
  const before = chat.machine.position
  chat.do(bob, { $case: 'joinRoom', value: { id: noBytes, name: 'tea' } })
  const joined = chat.machine.position
  const isFor = (who: Who, position: number): boolean =>
    chat.queries.isInAudience(who.account, audience, position)
  assert.equal(isFor(bob, before), false)
  assert.equal(isFor(bob, joined), true)
  assert.equal(isFor(alice, before), true)
  chat.do(bob, { $case: 'leaveRoom', value: { id: noBytes, name: 'tea' } })
  assert.equal(isFor(bob, joined), false)
  assert.equal(chat.queries.isInAudience(bob.account, { kind: 'all' }, 1), true)
  assert.equal(chat.queries.isInAudience(bob.account, { kind: 'account', account: alice.account }, 1), false)
  assert.equal(chat.queries.isInAudience(bob.account, { kind: 'account', account: bob.account }, 1), true)
})

test('events are kept for a window of positions, and the oldest cursor says which', () => {
  assert.equal(oldestCursorAt(eventWindow), 0)
  assert.equal(oldestCursorAt(eventWindow + 999), 0)
  assert.equal(oldestCursorAt(eventWindow + 1000), 1000)
  const { chat, alice } = start()
  // As if so much had happened.
  chat.db.exec(`UPDATE chat_state SET position = ${eventWindow + 998}`)
  chat.machine.reload()
  const kept = (): number => Number(chat.db.prepare('SELECT count(*) AS n FROM event').get()?.['n'])
  chat.send(alice, toRoom('everyone'), 'x')
  assert.equal(chat.queries.oldestCursor(), 0)
  assert.equal(kept(), 2)
  chat.send(alice, toRoom('everyone'), 'x')
  assert.equal(chat.queries.oldestCursor(), 1000)
  assert.equal(kept(), 0)
})

test('what an index of texts follows: sends, edits and deletions after a position', () => {
  const { chat, alice } = start()
  const { conversation } = chat.send(alice, toAccount('bob'), 'one')
  chat.send(alice, toConversation(conversation), 'two')
  const { position } = chat.machine
  const texts = (after: number, limit: number): readonly (readonly [number, string, number])[] =>
    chat.queries
      .messagesChangedAfter(after, limit)
      .map((change) => [change.seq, change.text, change.position] as const)
  assert.deepEqual(texts(0, 10), [
    [1, 'one', position - 1],
    [2, 'two', position],
  ])
  const edit = { conversation, seq: 1 }
  chat.do(alice, { $case: 'editMessage', value: { id: noBytes, message: edit, text: 'uno' } })
  chat.send(alice, toConversation(conversation), 'three')
  chat.do(alice, {
    $case: 'deleteMessage',
    value: { id: noBytes, message: { conversation, seq: 2 }, forAll: true },
  })
  assert.deepEqual(texts(position, 10), [
    [1, 'uno', position + 1],
    [3, 'three', position + 2],
    [2, '', position + 3],
  ])
  // In slices, going on from the newest position of each.
  const index = new Map<number, string>()
  let cursor = 0
  while (cursor < chat.machine.position) {
    const changes = chat.queries.messagesChangedAfter(cursor, 1)
    assert.ok(changes.length > 0)
    for (const { seq, text } of changes) index.set(seq, text)
    cursor = changes.at(-1)?.position ?? Infinity
  }
  assert.deepEqual([...index].sort(), [
    [1, 'uno'],
    [2, ''],
    [3, 'three'],
  ])
})

test('found messages are shown to those who may see them', () => {
  const { chat, alice, bob } = start()
  const carol = chat.register('carol')
  const { conversation } = chat.send(alice, toAccount('bob'), 'one')
  chat.send(bob, toConversation(conversation), 'two')
  chat.do(bob, {
    $case: 'deleteMessage',
    value: { id: noBytes, message: { conversation, seq: 1 }, forAll: false },
  })
  const places = chat.queries.messagesChangedAfter(0, 10).map(({ place }) => place)
  const seen = (who: Who): readonly string[] =>
    chat.queries.messagesAt(who.account, places.toReversed()).map(({ text, read }) => `${text} ${read}`)
  assert.deepEqual(seen(alice), ['two false', 'one true'])
  assert.deepEqual(seen(bob), ['two true'])
  assert.deepEqual(seen(carol), [])
})
