import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Reason } from '../gen/parley/v1/model.ts'
import { Harness, toAccount, toConversation, toRoom, type Op, type Who } from './harness.ts'
import { limits } from './limits.ts'

const noBytes = new Uint8Array(0)

function start(): { chat: Harness; alice: Who; bob: Who; carol: Who } {
  const chat = new Harness(new DatabaseSync(':memory:'))
  return {
    chat,
    alice: chat.register('alice'),
    bob: chat.register('bob'),
    carol: chat.register('carol'),
  }
}

const create = (name: string, isPrivate = false): Extract<Op, { readonly $case: 'createRoom' }> => ({
  $case: 'createRoom',
  value: { id: noBytes, name, topic: 'about', private: isPrivate },
})
const join = (name: string): Op => ({ $case: 'joinRoom', value: { id: noBytes, name } })
const leave = (name: string): Op => ({ $case: 'leaveRoom', value: { id: noBytes, name } })
const invite = (name: string, account: string): Op => ({
  $case: 'inviteToRoom',
  value: { id: noBytes, name, account },
})
const say = (room: string): Op => ({
  $case: 'sendMessage',
  value: { id: noBytes, to: toRoom(room), text: 'hello' },
})

test('whoever makes a room is in it, and owns it', () => {
  const { chat, alice } = start()
  const { conversation } = chat.do(alice, create('Tea'))
  assert.equal(conversation?.owner, alice.account)
  assert.equal(conversation.members, 1)
  assert.equal(conversation.topic, 'about')
  assert.deepEqual(chat.applied.at(-1)?.memberships, [
    { account: alice.account, conversation: conversation.id, member: true },
  ])
})

test('room names are unique whatever their case, and everyone is taken', () => {
  const { chat, alice, bob } = start()
  chat.do(alice, create('tea'))
  assert.equal(chat.rejected(bob, create('TEA')).reason, Reason.ROOM_NAME_TAKEN)
  assert.equal(chat.rejected(bob, create('Everyone')).reason, Reason.ROOM_NAME_TAKEN)
})

test('a public room is joined by its name, and its history is there to read', () => {
  const { chat, alice, bob } = start()
  const id = chat.do(alice, create('tea')).conversation?.id ?? 0
  chat.run(alice, say('tea'))
  assert.equal(chat.rejected(bob, say('tea')).reason, Reason.NOT_A_MEMBER)
  assert.equal(chat.queries.messages(bob.account, id, { beforeSeq: 0, afterSeq: 0, pageSize: 5 }), null)
  assert.equal(chat.run(bob, join('TEA')).$case, 'joinRoom')
  assert.equal(chat.rejected(bob, join('tea')).reason, Reason.ALREADY_A_MEMBER)
  const page = chat.queries.messages(bob.account, id, { beforeSeq: 0, afterSeq: 0, pageSize: 5 })
  assert.equal(page?.messages.length, 1)
  assert.equal(chat.queries.inboxCount(bob.account), 0)
  assert.equal(chat.run(bob, say('tea')).$case, 'sendMessage')
})

test('a private room does not exist for strangers', () => {
  const { chat, alice, bob, carol } = start()
  const id = chat.do(alice, create('secret', true)).conversation?.id ?? 0
  chat.run(alice, say('secret'))
  for (const op of [join('secret'), leave('secret'), invite('secret', 'carol'), say('secret')])
    assert.equal(chat.rejected(bob, op).reason, Reason.ROOM_NOT_FOUND, op.$case)
  const unknown = chat.rejected(bob, say('nothing'))
  assert.equal(chat.rejected(bob, say('secret')).message.replace('secret', 'nothing'), unknown.message)
  const byId: readonly Op[] = [
    { $case: 'sendMessage', value: { id: noBytes, to: toConversation(id), text: 'x' } },
    { $case: 'editMessage', value: { id: noBytes, message: { conversation: id, seq: 1 }, text: 'x' } },
    {
      $case: 'deleteMessage',
      value: { id: noBytes, message: { conversation: id, seq: 1 }, forAll: true },
    },
    { $case: 'markRead', value: { id: noBytes, conversation: id, mark: { $case: 'upTo', value: 1 } } },
    { $case: 'openInbox', value: { id: noBytes, count: 1, conversation: id } },
  ]
  for (const op of byId) assert.equal(chat.rejected(bob, op).reason, Reason.CONVERSATION_NOT_FOUND, op.$case)
  assert.equal(chat.queries.conversation(bob.account, toRoom('secret')), null)
  assert.equal(chat.queries.conversation(bob.account, toConversation(id)), null)
  assert.equal(chat.queries.members(bob.account, id, 10, ''), null)
  assert.deepEqual(chat.queries.rooms(bob.account, '', 10, '').items, [])
  // Who is in it may bring others in.
  chat.do(alice, { $case: 'inviteToRoom', value: { id: noBytes, name: 'secret', account: 'bob' } })
  chat.do(bob, { $case: 'inviteToRoom', value: { id: noBytes, name: 'secret', account: 'Carol' } })
  assert.equal(chat.rejected(alice, invite('secret', 'carol')).reason, Reason.ALREADY_A_MEMBER)
  assert.equal(chat.rejected(alice, invite('secret', 'dave')).reason, Reason.ACCOUNT_NOT_FOUND)
  assert.equal(chat.run(carol, say('secret')).$case, 'sendMessage')
  assert.deepEqual(
    chat.queries.members(carol.account, id, 10, '')?.items.map(({ name }) => name),
    ['alice', 'bob', 'carol'],
  )
})

test('one can leave a room, its owner too, but not #everyone', () => {
  const { chat, alice, bob } = start()
  const id = chat.do(alice, create('tea')).conversation?.id ?? 0
  chat.run(bob, join('tea'))
  assert.equal(chat.run(alice, leave('tea')).$case, 'leaveRoom')
  assert.deepEqual(chat.applied.at(-1)?.memberships, [
    { account: alice.account, conversation: id, member: false },
  ])
  assert.deepEqual(
    chat.lastEvents().map(({ event }) => event?.$case),
    ['conversationLeft', 'conversation'],
  )
  assert.equal(chat.rejected(alice, leave('tea')).reason, Reason.NOT_A_MEMBER)
  assert.equal(chat.rejected(alice, say('tea')).reason, Reason.NOT_A_MEMBER)
  assert.equal(chat.rejected(alice, leave('Everyone')).reason, Reason.CANNOT_LEAVE)
  assert.equal(chat.rejected(alice, leave('nothing')).reason, Reason.ROOM_NOT_FOUND)
})

test('a private room that everybody left gives its name back, a public one stays', () => {
  const { chat, alice, bob } = start()
  chat.do(alice, create('secret', true))
  chat.do(alice, create('tea'))
  chat.run(alice, leave('secret'))
  chat.run(alice, leave('tea'))
  assert.equal(chat.run(bob, create('secret', true)).$case, 'createRoom')
  assert.equal(chat.run(bob, join('tea')).$case, 'joinRoom')
})

test('who comes back to a room finds nothing unread, and what they hid still hidden', () => {
  const { chat, alice, bob } = start()
  const id = chat.do(alice, create('tea')).conversation?.id ?? 0
  chat.run(bob, join('tea'))
  chat.run(alice, say('tea'))
  chat.run(alice, say('tea'))
  chat.do(bob, {
    $case: 'deleteMessage',
    value: { id: noBytes, message: { conversation: id, seq: 1 }, forAll: false },
  })
  chat.run(bob, leave('tea'))
  chat.run(alice, say('tea'))
  chat.run(bob, join('tea'))
  const page = chat.queries.messages(bob.account, id, { beforeSeq: 0, afterSeq: 0, pageSize: 5 })
  assert.deepEqual(
    page?.messages.map(({ seq, read }) => ({ seq, read })),
    [
      { seq: 2, read: true },
      { seq: 3, read: true },
    ],
  )
  assert.equal(page?.marks.unreadCount, 0)
})

test('rooms are listed by pattern, in pages', () => {
  const { chat, alice, bob } = start()
  for (const name of ['tea', 'Team', 'coffee', 'teapot']) chat.do(alice, create(name))
  chat.do(alice, create('tea-secret', true))
  const names = (pattern: string, size: number, token: string, who = bob): readonly string[] => {
    const { items, nextPageToken } = chat.queries.rooms(who.account, pattern, size, token)
    return [...items.map(({ name }) => name), nextPageToken]
  }
  assert.deepEqual(names('', 10, ''), ['coffee', 'tea', 'Team', 'teapot', ''])
  assert.deepEqual(names('TEA*', 2, ''), ['tea', 'Team', 'team'])
  assert.deepEqual(names('TEA*', 2, 'team'), ['teapot', ''])
  assert.deepEqual(names('tea-*', 10, '', alice), ['tea-secret', ''])
  assert.deepEqual(names('tea(', 10, ''), [''])
})

test('an account can be in ten thousand rooms, and is deleted in one go all the same', () => {
  const { chat, alice, bob, carol } = start()
  chat.send(alice, toAccount('carol'), 'a conversation that is no room')
  const names = Array.from({ length: limits.roomsPerAccount }, (_, i) => `room-${i}`)
  const inAll = (who: Who, op: (name: string) => Op): void => {
    for (const { outcome } of chat.apply(...names.map((name) => chat.command(who, op(name)))))
      assert.notEqual(outcome.outcome?.$case, 'rejected')
  }
  inAll(alice, (name) => create(name))
  inAll(alice, (name) => invite(name, 'bob'))
  chat.do(carol, create('tea'))
  chat.do(carol, create('coffee'))
  for (const [who, op, message] of [
    [alice, create('more'), 'You are in 10000 rooms, and nobody can be in more: leave one first.'],
    [bob, join('tea'), 'You are in 10000 rooms, and nobody can be in more: leave one first.'],
    [carol, invite('tea', 'bob'), 'bob is in 10000 rooms, and nobody can be in more.'],
  ] as const) {
    const rejected = chat.rejected(who, op)
    assert.deepEqual([rejected.reason, rejected.message], [Reason.NOT_PERMITTED, message])
  }
  chat.run(bob, leave('room-7'))
  assert.equal(chat.run(carol, invite('tea', 'bob')).$case, 'inviteToRoom')
  // As the tables tell it.
  chat.machine.reload()
  assert.equal(chat.rejected(bob, join('coffee')).reason, Reason.NOT_PERMITTED)

  chat.do(alice, { $case: 'deleteAccount', value: { id: noBytes, confirmName: 'alice' } })
  // Alice is told of each room, and who stays in it.
  assert.ok(chat.lastEvents().length > 2 * limits.roomsPerAccount - 2)
  assert.equal(chat.run(bob, say('room-1')).$case, 'sendMessage')
  assert.equal(chat.queries.account(alice.account)?.deleted, true)
})

test('before all replicas have been upgraded rooms are not counted', () => {
  const { chat, alice, bob } = start()
  chat.do(alice, create('tea'))
  chat.db.exec(`
    WITH RECURSIVE n (i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 99 + ${limits.roomsPerAccount})
      INSERT INTO conversation (id, kind, name, name_key, topic, private, owner, low, high, members, last_seq, last_position)
        SELECT i, 2, 'room-' || i, 'room-' || i, '', 0, ${alice.account}, 0, 0, 1, 0, 0 FROM n;
    INSERT INTO member (account, conversation, joined_position, opened_up_to, read_up_to)
      SELECT ${bob.account}, id, 0, 0, 0 FROM conversation WHERE id >= 100`)
  const joinIn = (version: number) => {
    chat.db.exec(`UPDATE chat_state SET version = ${version}`)
    chat.machine.reload()
    return chat.run(bob, join('tea')).$case
  }
  assert.equal(joinIn(2), 'rejected')
  assert.equal(joinIn(1), 'joinRoom')
})
