import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Harness, toAccount, toConversation, toRoom } from '../src/chat/harness.ts'
import type { Op, Who } from '../src/chat/harness.ts'
import { Event } from '../src/gen/parley/v1/service.ts'
import { newChat, withConversation, withDrafts, withEvent, withPage } from '../src/web/store/chat.ts'
import type { Chat } from '../src/web/store/chat.ts'

const names = ['ann', 'bob', 'cy'] as const
const pageSize = 500
const noBytes = new Uint8Array(0)

interface Step {
  readonly from: number
  readonly op: Op
}

const person = fc.integer({ min: 0, max: names.length - 1 })
const conversation = fc.integer({ min: 1, max: 6 })
const seq = fc.integer({ min: 1, max: 12 })

/** Things that people do; those that are rejected do nothing. */
const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.tuple(person, person).map(([from, to]) => act(from, send(toAccount(names[to] ?? 'ann')))),
  },
  { weight: 5, arbitrary: person.map((from) => act(from, send(toRoom('tea')))) },
  { weight: 3, arbitrary: person.map((from) => act(from, send(toConversation(1)))) },
  {
    weight: 2,
    arbitrary: person.map((from) => act(from, { $case: 'joinRoom', value: { id: noBytes, name: 'tea' } })),
  },
  {
    weight: 1,
    arbitrary: person.map((from) => act(from, { $case: 'leaveRoom', value: { id: noBytes, name: 'tea' } })),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(person, conversation, seq)
      .map(([from, at, value]) => act(from, mark(at, { $case: 'upTo', value }))),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(person, conversation, seq)
      .map(([from, at, value]) => act(from, mark(at, { $case: 'unread', value }))),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(person, conversation, seq)
      .map(([from, at, value]) => act(from, mark(at, { $case: 'read', value }))),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(person, conversation, seq)
      .map(([from, at, value]) => act(from, mark(at, { $case: 'openedUpTo', value }))),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(person, fc.integer({ min: 1, max: 4 }))
      .map(([from, count]) =>
        act(from, { $case: 'openInbox', value: { id: noBytes, count, conversation: 0 } }),
      ),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(person, conversation, seq, fc.boolean()).map(([from, at, value, forAll]) =>
      act(from, {
        $case: 'deleteMessage',
        value: { id: noBytes, message: { conversation: at, seq: value }, forAll },
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(person, conversation, seq).map(([from, at, value]) =>
      act(from, {
        $case: 'editMessage',
        value: { id: noBytes, message: { conversation: at, seq: value }, text: 'edited' },
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(person, fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 2 }))
      .map(([from, draft, baseVersion]) =>
        act(from, {
          $case: 'saveDraft',
          value: {
            id: noBytes,
            draftId: draftId(draft),
            baseVersion,
            text: `draft ${draft}`,
            recipients: [toAccount('bob')],
          },
        }),
      ),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(person, fc.integer({ min: 0, max: 3 }))
      .map(([from, draft]) =>
        act(from, { $case: 'sendDrafts', value: { id: noBytes, draftIds: [draftId(draft)] } }),
      ),
  },
)

test('an old snapshot and the events since are a fresh snapshot', () => {
  fc.assert(
    fc.property(fc.array(steps, { maxLength: 25 }), fc.array(steps, { maxLength: 25 }), (before, after) => {
      const db = new DatabaseSync(':memory:')
      try {
        const chat = new Harness(db)
        const people = names.map((name) => chat.register(name))
        const viewer = people[0]
        const maker = people[1]
        assert.ok(viewer !== undefined && maker !== undefined)
        chat.run(maker, {
          $case: 'createRoom',
          value: { id: noBytes, name: 'tea', topic: '', private: false },
        })
        for (const step of before) take(chat, people, step)
        let followed = snapshot(chat, viewer)
        const seen = chat.applied.length
        for (const step of after) take(chat, people, step)
        for (const { events, position } of chat.applied.slice(seen)) {
          for (const { audience, bytes } of events) {
            if (chat.queries.isInAudience(viewer.account, audience, position))
              followed = withEvent(followed, Event.decode(bytes))
          }
        }
        assertSame(refreshed(chat, viewer, followed), snapshot(chat, viewer))
      } finally {
        db.close()
      }
    }),
    { numRuns: 300 },
  )
})

test('whatever was read, opened, hidden and deleted before, what counts as unread and unopened is what the server counts', () => {
  const everyone = 1
  const senders = [1, 1, 2, 0] as const
  const deed = fc.record({
    kind: fc.constantFrom(
      'read',
      'unread',
      'upTo',
      'openedUpTo',
      'openInbox',
      'hide',
      'hide',
      'delete',
      'delete',
    ),
    seq: fc.integer({ min: 1, max: senders.length }),
  })
  fc.assert(
    fc.property(fc.array(deed, { minLength: 2, maxLength: 8 }), (deeds) => {
      const db = new DatabaseSync(':memory:')
      try {
        const chat = new Harness(db)
        const people = names.map((name) => chat.register(name))
        const viewer = people[0]
        assert.ok(viewer !== undefined)
        for (const sender of senders) take(chat, people, act(sender, send(toConversation(everyone))))
        let followed = snapshot(chat, viewer)
        for (const { kind, seq } of deeds) {
          const message = { conversation: everyone, seq }
          const deleting = (forAll: boolean): Op => ({
            $case: 'deleteMessage',
            value: { id: noBytes, message, forAll },
          })
          if (kind === 'delete') take(chat, people, act(senders[seq - 1] ?? 0, deleting(true)))
          else if (kind === 'hide') take(chat, people, act(0, deleting(false)))
          else if (kind === 'openInbox')
            take(
              chat,
              people,
              act(0, { $case: 'openInbox', value: { id: noBytes, count: 1, conversation: 0 } }),
            )
          else take(chat, people, act(0, mark(everyone, { $case: kind, value: seq })))
          for (const event of chat.lastEvents()) followed = withEvent(followed, event)
          followed = refreshed(chat, viewer, followed)
          assertSame(followed, snapshot(chat, viewer))
        }
      } finally {
        db.close()
      }
    }),
    { numRuns: 200 },
  )
})

test('events that the snapshot holds already change nothing when they come again', () => {
  const db = new DatabaseSync(':memory:')
  const chat = new Harness(db)
  const ann = chat.register('ann')
  const bob = chat.register('bob')
  chat.send(bob, toAccount('ann'), 'one')
  chat.send(bob, toAccount('ann'), 'two')
  chat.run(bob, {
    $case: 'deleteMessage',
    value: { id: noBytes, message: { conversation: 2, seq: 1 }, forAll: true },
  })
  const fresh = snapshot(chat, ann)
  let again = fresh
  for (const { events } of chat.applied)
    for (const { bytes } of events) again = withEvent(again, Event.decode(bytes))
  assertSame(again, fresh)
  db.close()
})

function act(from: number, op: Op): Step {
  return { from, op }
}

function take(chat: Harness, people: readonly Who[], step: Step): void {
  const who = people[step.from]
  assert.ok(who !== undefined)
  chat.run(who, step.op)
}

function send(to: ReturnType<typeof toAccount>): Op {
  return { $case: 'sendMessage', value: { id: noBytes, to, text: 'hello' } }
}

function mark(at: number, what: Extract<Op, { $case: 'markRead' }>['value']['mark']): Op {
  return { $case: 'markRead', value: { id: noBytes, conversation: at, mark: what } }
}

function draftId(number: number): Uint8Array {
  const id = new Uint8Array(16)
  id.set([1, 156, 0, 0, 0, number, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, number])
  return id
}

/** What the page loads at first, with every conversation opened. */
function snapshot(chat: Harness, { account, session }: Who): Chat {
  const { queries, machine } = chat
  const me = queries.account(account)
  assert.ok(me !== null)
  let page: Chat = { ...newChat(me, session, machine.position), policy: queries.policy() }
  for (const one of queries.conversations(account, pageSize, '').items) {
    page = withMessages(chat, account, withConversation(page, one, machine.position), one.id)
  }
  return withDrafts(page, queries.drafts(account, 500, '').items)
}

/** Asks for what the store knows that it cannot know, as the app does. */
function refreshed(chat: Harness, { account }: Who, followed: Chat): Chat {
  let page = followed
  for (const id of followed.stale) {
    const one = chat.queries.conversation(account, toConversation(id))
    if (one !== null && one.member)
      page = withMessages(chat, account, withConversation(page, one, chat.machine.position), id)
  }
  return page
}

function withMessages(chat: Harness, account: number, page: Chat, id: number): Chat {
  const read = chat.queries.messages(account, id, { beforeSeq: 0, afterSeq: 0, pageSize })
  assert.ok(read !== null)
  return withPage(page, id, { ...read, moreBefore: read.more, moreAfter: false }, chat.machine.position)
}

function assertSame(actual: Chat, expected: Chat): void {
  // Whether a message was read is worked out from the marks; an event cannot carry it.
  const unmarked = (chat: Chat) =>
    sorted(chat.conversations).map(([id, one]) => [
      id,
      {
        ...one,
        lastMessage: one.lastMessage === undefined ? undefined : { ...one.lastMessage, read: false },
      },
    ])
  assert.deepEqual(unmarked(actual), unmarked(expected))
  for (const [id, timeline] of expected.timelines) {
    const plain = (messages: Chat['timelines'] extends ReadonlyMap<number, infer T> ? T : never) =>
      messages.messages.map((message) => ({ ...message, read: false }))
    assert.deepEqual(plain(actual.timelines.get(id) ?? timeline), plain(timeline), `messages of ${id}`)
    assert.ok(actual.timelines.has(id))
  }
  // The counts live in the conversation; those in the marks are of the moment when they were made.
  const bare = (chat: Chat) =>
    sorted(chat.marks).map(([id, marks]) => [id, { ...marks, unreadCount: 0, unopenedCount: 0 }])
  assert.deepEqual(bare(actual), bare(expected))
  assert.deepEqual(sorted(actual.drafts), sorted(expected.drafts))
}

function sorted<K, V>(map: ReadonlyMap<K, V>): readonly (readonly [K, V])[] {
  return [...map].sort(([a], [b]) => (a < b ? -1 : 1))
}
