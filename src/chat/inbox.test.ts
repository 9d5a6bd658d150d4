import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Reason } from '../gen/parley/v1/model.ts'
import type { Marks } from '../gen/parley/v1/service.ts'
import { Harness, tellingReads, toAccount, toConversation, toRoom, type Op, type Who } from './harness.ts'
import { limits } from './limits.ts'

const noBytes = new Uint8Array(0)

function start(): { chat: Harness; alice: Who; bob: Who } {
  const chat = new Harness(new DatabaseSync(':memory:'))
  return { chat, alice: chat.register('alice'), bob: chat.register('bob') }
}

function mark($case: 'upTo' | 'read' | 'unread' | 'openedUpTo', value: number, conversation = 2): Op {
  return { $case: 'markRead', value: { id: noBytes, conversation, mark: { $case, value } } }
}

function marksOf(chat: Harness, who: Who, conversation = 2): Marks | undefined {
  return chat.queries.messages(who.account, conversation, { beforeSeq: 0, afterSeq: 0, pageSize: 1 })?.marks
}

test('the inbox is opened oldest first, across conversations, so many at a time', () => {
  const { chat, alice, bob } = start()
  chat.send(alice, toAccount('bob'), 'one')
  chat.send(alice, toRoom('everyone'), 'two')
  chat.send(alice, toAccount('bob'), 'three')
  chat.send(bob, toAccount('alice'), 'bob’s own')
  chat.send(alice, toRoom('everyone'), 'four')
  assert.deepEqual(chat.queries.inbox(bob.account), {
    count: 4,
    conversations: [
      { conversation: 1, name: 'everyone', kind: 'CONVERSATION_KIND_EVERYONE', count: 2 },
      { conversation: 2, name: 'alice', kind: 'CONVERSATION_KIND_DIRECT', count: 2 },
    ],
  })
  const open = (count: number, conversation = 0): readonly string[] => {
    const { messages, remaining } = chat.do(bob, {
      $case: 'openInbox',
      value: { id: noBytes, count, conversation },
    })
    return [...messages.map(({ text }) => text), String(remaining)]
  }
  assert.deepEqual(open(1), ['one', '3'])
  assert.deepEqual(
    chat.lastEvents().map(({ event }) => event?.$case === 'marks' && event.value.openedUpTo),
    [1],
  )
  assert.deepEqual(open(1, 1), ['two', '2'])
  assert.deepEqual(open(5), ['three', 'four', '0'])
  assert.deepEqual(open(5), ['0'])
  // What was opened is not read by that.
  assert.equal(marksOf(chat, bob)?.unreadCount, 2)
})

test('one’s own messages are never in one’s inbox, however many', () => {
  const { chat, alice, bob } = start()
  chat.send(alice, toAccount('bob'), 'first')
  for (let i = 0; i < 50; i += 1) chat.send(bob, toAccount('alice'), 'own')
  chat.send(alice, toAccount('bob'), 'last')
  assert.equal(chat.queries.inboxCount(bob.account), 2)
  chat.do(bob, { $case: 'openInbox', value: { id: noBytes, count: 1, conversation: 0 } })
  assert.equal(chat.queries.inboxCount(bob.account), 1)
  assert.equal(marksOf(chat, bob)?.openedUpTo, 1)
  chat.do(bob, { $case: 'openInbox', value: { id: noBytes, count: 1, conversation: 0 } })
  assert.equal(marksOf(chat, bob)?.openedUpTo, 52)
})

test('opening many conversations reads little more than it opens', () => {
  let read = 0
  const chat = new Harness(
    tellingReads(new DatabaseSync(':memory:'), (sql, rows) => {
      if (sql.startsWith('SELECT * FROM message')) read += rows
    }),
  )
  const bob = chat.register('bob')
  const friends = Array.from({ length: 20 }, (_, i) => chat.register(`friend-${i}`))
  const send = { $case: 'sendMessage', value: { id: noBytes, to: toAccount('bob'), text: 'hello' } } as const
  for (let i = 0; i < 30; i += 1) chat.apply(...friends.map((friend) => chat.command(friend, send)))
  // One of each conversation, and later at most as many again as were opened, twice.
  for (const count of [1, 100, 499]) {
    read = 0
    const opened = chat.do(bob, { $case: 'openInbox', value: { id: noBytes, count, conversation: 0 } })
    assert.equal(opened.messages.length, count)
    const most = friends.length + 3 * count
    assert.ok(read <= most, `${read} rows were read to open ${count} messages`)
  }
})

test('large messages make an answer shorter, and the rest stays in the inbox', () => {
  const { chat, alice, bob } = start()
  const policy = { ...chat.queries.policy(), maxMessageBytes: 65_536 }
  chat.do(alice, { $case: 'setPolicy', value: { id: noBytes, policy, fields: [] } })
  for (let i = 0; i < 20; i += 1) chat.send(alice, toAccount('bob'), 'x'.repeat(60_000))
  const first = chat.do(bob, { $case: 'openInbox', value: { id: noBytes, count: 20, conversation: 0 } })
  assert.equal(first.messages.length, 17)
  assert.equal(first.remaining, 3)
  const page = chat.queries.messages(bob.account, 2, { beforeSeq: 0, afterSeq: 0, pageSize: 20 })
  assert.equal(page?.messages.length, 17)
  assert.equal(page.more, true)
  assert.deepEqual([page.firstSeq, page.lastSeq], [4, 20])
})

test('of many conversations the inbox names the hundred with the newest activity, and counts all', () => {
  const { chat, alice, bob } = start()
  for (let i = 0; i < 120; i += 1) chat.send(chat.register(`friend-${i}`), toAccount('bob'), 'hello')
  chat.send(alice, toAccount('bob'), 'newest')
  const { count, conversations } = chat.queries.inbox(bob.account)
  assert.equal(count, 121)
  assert.equal(conversations.length, 100)
  assert.deepEqual(
    conversations.slice(0, 3).map(({ name }) => name),
    ['alice', 'friend-119', 'friend-118'],
  )
  assert.equal(chat.queries.inboxCount(bob.account), 121)
})

test('counts stop at a thousand', () => {
  const { chat, alice, bob } = start()
  const commands = Array.from({ length: 1005 }, () =>
    chat.command(alice, { $case: 'sendMessage', value: { id: noBytes, to: toAccount('bob'), text: 'x' } }),
  )
  chat.apply(...commands)
  assert.equal(chat.queries.inboxCount(bob.account), 1000)
  assert.equal(chat.queries.inbox(bob.account).count, 1000)
  assert.equal(marksOf(chat, bob)?.unreadCount, 1000)
  assert.equal(
    chat.do(bob, { $case: 'openInbox', value: { id: noBytes, count: 10, conversation: 0 } }).remaining,
    995,
  )
})

test('what was read has left the inbox, what was only opened is still unread', () => {
  const { chat, alice, bob } = start()
  for (let i = 0; i < 6; i += 1) chat.send(alice, toAccount('bob'), `${i}`)
  chat.run(bob, mark('upTo', 2))
  assert.deepEqual(marksOf(chat, bob), {
    conversation: 2,
    readUpTo: 2,
    openedUpTo: 2,
    unread: [],
    read: [],
    unreadCount: 4,
    unopenedCount: 4,
  })
  chat.run(bob, mark('openedUpTo', 4))
  assert.equal(marksOf(chat, bob)?.unopenedCount, 2)
  assert.equal(marksOf(chat, bob)?.unreadCount, 4)
  chat.run(bob, mark('read', 5))
  assert.deepEqual(marksOf(chat, bob)?.read, [5])
  assert.equal(marksOf(chat, bob)?.unopenedCount, 1)
  // Read one by one and marked unread again: it does not come back into the inbox.
  chat.run(bob, mark('unread', 5))
  assert.deepEqual(marksOf(chat, bob)?.read, [])
  assert.equal(marksOf(chat, bob)?.unopenedCount, 1)
  assert.equal(marksOf(chat, bob)?.unreadCount, 4)
})

test('messages that are read one by one in order leave no exceptions', () => {
  const { chat, alice, bob } = start()
  for (let i = 0; i < 4; i += 1) chat.send(alice, toAccount('bob'), `${i}`)
  chat.run(bob, mark('read', 3))
  chat.run(bob, mark('read', 2))
  assert.deepEqual(marksOf(chat, bob)?.read, [2, 3])
  chat.run(bob, mark('read', 1))
  assert.deepEqual(marksOf(chat, bob)?.read, [])
  assert.equal(marksOf(chat, bob)?.readUpTo, 3)
})

test('a message can be marked unread again, and everything up to a point read again', () => {
  const { chat, alice, bob } = start()
  for (let i = 0; i < 4; i += 1) chat.send(alice, toAccount('bob'), `${i}`)
  chat.run(bob, mark('upTo', 4))
  chat.run(bob, mark('unread', 2))
  assert.deepEqual(marksOf(chat, bob)?.unread, [2])
  assert.equal(marksOf(chat, bob)?.unreadCount, 1)
  assert.equal(marksOf(chat, bob)?.unopenedCount, 0)
  chat.run(bob, mark('upTo', 3))
  assert.deepEqual(marksOf(chat, bob)?.unread, [])
  assert.equal(marksOf(chat, bob)?.readUpTo, 4)
})

test('a mark that changes nothing tells nobody', () => {
  const { chat, alice, bob } = start()
  chat.send(alice, toAccount('bob'), 'x')
  chat.run(bob, mark('upTo', 1))
  assert.equal(chat.lastEvents().length, 1)
  for (const op of [mark('upTo', 1), mark('read', 1), mark('openedUpTo', 1)]) {
    assert.equal(chat.run(bob, op).$case, 'markRead')
    assert.deepEqual(chat.lastEvents(), [])
  }
  // One's own messages are read, whatever is said.
  assert.equal(chat.run(alice, mark('unread', 1)).$case, 'markRead')
  assert.equal(marksOf(chat, alice)?.unreadCount, 0)
})

test('a number beyond the newest message cannot be marked', () => {
  const { chat, alice, bob } = start()
  chat.send(alice, toAccount('bob'), 'x')
  for (const $case of ['upTo', 'read', 'unread', 'openedUpTo'] as const)
    assert.equal(chat.rejected(bob, mark($case, 2)).reason, Reason.MESSAGE_NOT_FOUND)
})

test('exceptions are bounded: who marks too many one by one is asked to mark up to one', () => {
  const { chat, alice, bob } = start()
  const count = limits.marksPerConversation + 2
  chat.apply(
    ...Array.from({ length: count }, () =>
      chat.command(alice, { $case: 'sendMessage', value: { id: noBytes, to: toAccount('bob'), text: 'x' } }),
    ),
  )
  // All but the first.
  const applied = chat.apply(
    ...Array.from({ length: count - 1 }, (_, i) => chat.command(bob, mark('read', i + 2))),
  )
  const last = applied.at(-1)?.outcome.outcome
  assert.equal(last?.$case === 'rejected' && last.value.reason, Reason.INVALID_ARGUMENT)
  assert.equal(marksOf(chat, bob)?.read.length, limits.marksPerConversation)
  assert.equal(chat.run(bob, mark('upTo', count)).$case, 'markRead')
  assert.deepEqual(marksOf(chat, bob)?.read, [])
})

test('opening the inbox of a conversation that one is not in is refused', () => {
  const { chat, alice } = start()
  chat.register('carol')
  chat.send(alice, toAccount('bob'), 'x')
  const carol = chat.logIn(3)
  const op: Op = { $case: 'openInbox', value: { id: noBytes, count: 1, conversation: 2 } }
  assert.equal(chat.rejected(carol, op).reason, Reason.CONVERSATION_NOT_FOUND)
  assert.equal(chat.queries.conversation(carol.account, toConversation(2)), null)
})
