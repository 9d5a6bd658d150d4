import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Harness, toAccount, toConversation, toRoom, type Who } from './harness.ts'
import type { Page } from './queries.ts'

const noBytes = new Uint8Array(0)

function start(): { chat: Harness; alice: Who; bob: Who } {
  const chat = new Harness(new DatabaseSync(':memory:'))
  return { chat, alice: chat.register('alice'), bob: chat.register('bob') }
}

/** All items, page by page. */
function collect<T>(size: number, read: (token: string) => Page<T> | null): readonly T[] {
  const items: T[] = []
  for (let token = '', pages = 0; pages < 1000; pages += 1) {
    const page = read(token)
    assert.ok(page !== null && page.items.length <= size)
    items.push(...page.items)
    if (page.nextPageToken === '') return items
    token = page.nextPageToken
  }
  throw new Error('there is no end to the pages')
}

test('accounts are listed by pattern without regard to case, in pages, without the deleted ones', () => {
  const { chat } = start()
  const gone = chat.register('albert')
  for (const name of ['Alan', 'aLbA', 'carl', 'a_1']) chat.register(name)
  chat.do(gone, { $case: 'deleteAccount', value: { id: noBytes, confirmName: 'albert' } })
  const names = (pattern: string, size: number): readonly string[] =>
    collect(size, (token) => chat.queries.accounts(pattern, size, token)).map(({ name }) => name)
  for (const size of [1, 2, 3, 100]) {
    assert.deepEqual(names('', size), ['Alan', 'aLbA', 'alice', 'a_1', 'bob', 'carl'].toSorted(byKey))
    assert.deepEqual(names('AL*', size), ['Alan', 'aLbA', 'alice'])
    assert.deepEqual(names('*l?n', size), ['Alan'])
  }
  assert.deepEqual(names('al', 10), [])
  assert.deepEqual(names('al%', 10), [])
})

test('a pattern that matches little among many looks at so many at a time, and goes on', () => {
  const { chat } = start()
  chat.db.exec(
    `WITH RECURSIVE n (i) AS (VALUES (1000) UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
     INSERT INTO account (id, name, name_key, password_hash, password_version, admin, created_at_ms)
     SELECT i, 'user-' || i, 'user-' || i, 'x', 1, 0, 0 FROM n`,
  )
  const first = chat.queries.accounts('*-9999', 10, '')
  assert.deepEqual(first.items, [])
  assert.notEqual(first.nextPageToken, '')
  const found = collect(10, (token) => chat.queries.accounts('*-9999', 10, token))
  assert.deepEqual(
    found.map(({ name }) => name),
    ['user-9999'],
  )
})

test('conversations are listed newest activity first, in pages', () => {
  const { chat, alice, bob } = start()
  for (const name of ['carol', 'dan', 'eve']) {
    chat.register(name)
    chat.send(alice, toAccount(name), 'hi')
  }
  chat.send(bob, toAccount('alice'), 'hi')
  chat.send(alice, toAccount('carol'), 'hi again')
  for (const size of [1, 2, 50]) {
    const found = collect(size, (token) => chat.queries.conversations(alice.account, size, token))
    assert.deepEqual(
      found.map(({ name, unread, lastMessage }) => ({ name, unread, text: lastMessage?.text })),
      [
        { name: 'carol', unread: 0, text: 'hi again' },
        { name: 'bob', unread: 1, text: 'hi' },
        { name: 'eve', unread: 0, text: 'hi' },
        { name: 'dan', unread: 0, text: 'hi' },
        { name: 'everyone', unread: 0, text: undefined },
      ],
    )
  }
})

test('a page token names no room that one may not see, however many there are', () => {
  const { chat, alice, bob } = start()
  for (const name of ['first', 'zoo'])
    chat.do(alice, { $case: 'createRoom', value: { id: noBytes, name, topic: '', private: false } })
  chat.db.exec(
    `WITH RECURSIVE n (i) AS (VALUES (1000) UNION ALL SELECT i + 1 FROM n WHERE i < 7000)
     INSERT INTO conversation (id, kind, name, name_key, topic, private, owner, low, high, members, last_seq, last_position)
     SELECT i, 2, 'secret-' || i, 'secret-' || i, '', 1, ${alice.account}, 0, 0, 1, 0, 0 FROM n`,
  )
  chat.db.exec(
    `INSERT INTO member (account, conversation, joined_position, opened_up_to, read_up_to)
     SELECT ${alice.account}, id, 0, 0, 0 FROM conversation WHERE id >= 1000`,
  )
  const namesOf = ({ items }: Page<{ readonly name: string }>) => items.map(({ name }) => name)
  const page = chat.queries.rooms(bob.account, '*o*', 10, '')
  assert.deepEqual([namesOf(page), page.nextPageToken], [['zoo'], ''])
  assert.deepEqual(namesOf(chat.queries.rooms(bob.account, '', 1, 'secret-1001')), ['zoo'])
  // Who is in them finds them.
  const found = collect(10, (token) => chat.queries.rooms(alice.account, '*-6999', 10, token))
  assert.deepEqual(
    found.map(({ name }) => name),
    ['secret-6999'],
  )
})

test('a nonsensical page token is no error: the list begins anew', () => {
  const { chat, alice } = start()
  assert.equal(chat.queries.conversations(alice.account, 10, 'x.y').items.length, 1)
  assert.equal(chat.queries.members(alice.account, 1, 10, '-5')?.items.length, 2)
})

test('messages are read backwards from a number, or forwards, in order, and the page says what it covers', () => {
  const { chat, alice, bob } = start()
  for (let i = 1; i <= 10; i += 1) chat.send(alice, toAccount('bob'), `${i}`)
  for (const seq of [4, 5])
    chat.do(bob, {
      $case: 'deleteMessage',
      value: { id: noBytes, message: { conversation: 2, seq }, forAll: false },
    })
  const page = (beforeSeq: number, afterSeq: number, pageSize: number): unknown => {
    const found = chat.queries.messages(bob.account, 2, { beforeSeq, afterSeq, pageSize })
    return [found?.messages.map(({ seq }) => seq), found?.more, found?.firstSeq, found?.lastSeq]
  }
  assert.deepEqual(page(0, 0, 3), [[8, 9, 10], true, 8, 10])
  assert.deepEqual(page(8, 0, 3), [[6, 7], true, 5, 7])
  assert.deepEqual(page(5, 0, 10), [[1, 2, 3], false, 1, 4])
  assert.deepEqual(page(0, 2, 3), [[3], true, 3, 5])
  assert.deepEqual(page(0, 7, 3), [[8, 9, 10], false, 8, 10])
  assert.deepEqual(page(0, 10, 3), [[], false, 0, 0])
  assert.deepEqual(page(1, 0, 3), [[], false, 0, 0])
})

test('a conversation is found by its number, by the other account, or by the room', () => {
  const { chat, alice, bob } = start()
  assert.equal(chat.queries.conversation(alice.account, toAccount('bob')), null)
  chat.send(alice, toAccount('bob'), 'hi')
  assert.equal(chat.queries.conversation(alice.account, toAccount('BOB'))?.id, 2)
  assert.equal(chat.queries.conversation(bob.account, toAccount('alice'))?.peer, alice.account)
  assert.equal(chat.queries.conversation(bob.account, toRoom('Everyone'))?.members, 2)
  assert.equal(chat.queries.conversation(bob.account, toConversation(2))?.name, 'alice')
  assert.equal(chat.queries.conversation(bob.account, { target: undefined }), null)
  const carol = chat.register('carol')
  assert.equal(chat.queries.conversation(carol.account, toConversation(2)), null)
})

test('a public room shows itself to those who are not in it, but not its messages', () => {
  const { chat, alice, bob } = start()
  chat.do(alice, {
    $case: 'createRoom',
    value: { id: noBytes, name: 'tea', topic: 'leaves', private: false },
  })
  chat.send(alice, toRoom('tea'), 'hi')
  const room = chat.queries.conversation(bob.account, toRoom('tea'))
  assert.equal(room?.member, false)
  assert.equal(room.topic, 'leaves')
  assert.equal(room.lastMessage, undefined)
  assert.deepEqual(chat.queries.conversationIds(bob.account), [1])
})

test('queries work on a connection that only reads', () => {
  const { chat, alice } = start()
  chat.send(alice, toAccount('bob'), 'hi')
  chat.db.exec('PRAGMA query_only = ON')
  assert.equal(chat.queries.conversations(alice.account, 10, '').items.length, 2)
  assert.equal(chat.queries.eventsAfter(0, { limit: 10, maxBytes: Infinity }).events.length > 0, true)
})

function byKey(a: string, b: string): number {
  return a.toLowerCase() < b.toLowerCase() ? -1 : 1
}
