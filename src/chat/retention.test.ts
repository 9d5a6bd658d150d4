import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Policy, Reason } from '../gen/parley/v1/model.ts'
import { Harness, nobody, tellingReads, toAccount, toRoom, type Who } from './harness.ts'
import { expiredAtOnce } from './retention.ts'

const noBytes = new Uint8Array(0)
const dayS = 86_400
const dayMs = dayS * 1000

function start(): { chat: Harness; alice: Who; bob: Who; room: number } {
  const chat = new Harness(new DatabaseSync(':memory:'))
  const alice = chat.register('alice')
  const bob = chat.register('bob')
  const created = chat.do(bob, {
    $case: 'createRoom',
    value: { id: noBytes, name: 'garden', topic: '', private: false },
  })
  chat.do(alice, { $case: 'joinRoom', value: { id: noBytes, name: 'garden' } })
  return { chat, alice, bob, room: created.conversation?.id ?? 0 }
}

function setPolicy(chat: Harness, admin: Who, retentionS: number): void {
  const policy = Policy.fromPartial({ retentionS })
  chat.do(admin, { $case: 'setPolicy', value: { id: noBytes, policy, fields: ['retention_s'] } })
}

function setRoom(chat: Harness, who: Who, retentionS: number | undefined): void {
  chat.do(who, { $case: 'setRoomRetention', value: { id: noBytes, name: 'garden', retentionS } })
}

function expire(chat: Harness): void {
  chat.apply(chat.command(nobody, { $case: 'expireMessages', value: {} }, noBytes))
}

function expireAll(chat: Harness): number {
  let commands = 0
  while (chat.queries.isExpiryDue(chat.nowMs)) {
    commands += 1
    expire(chat)
  }
  return commands
}

function shown(chat: Harness, who: Who, conversation: number): readonly number[] {
  const range = { beforeSeq: 0, afterSeq: 0, pageSize: 500 }
  return (chat.queries.messages(who.account, conversation, range)?.messages ?? []).map(({ seq }) => seq)
}

test('messages are kept for ever by default', () => {
  const { chat, alice, room } = start()
  chat.send(alice, toRoom('garden'), 'old')
  chat.nowMs += 10_000 * dayMs
  assert.equal(chat.queries.isExpiryDue(chat.nowMs), false)
  expire(chat)
  assert.deepEqual(shown(chat, alice, room), [1])
})

test('what is older than the policy allows is removed, and the numbers of the others stay', () => {
  const { chat, alice, bob, room } = start()
  for (const text of ['one', 'two']) chat.send(alice, toRoom('garden'), text)
  chat.send(alice, toAccount('bob'), 'direct')
  chat.nowMs += 2 * dayMs
  chat.send(alice, toRoom('garden'), 'three')
  setPolicy(chat, alice, dayS)
  assert.equal(chat.queries.expiryDue(chat.nowMs).messages, 3)
  expire(chat)
  assert.deepEqual(
    chat
      .lastEvents()
      .map(({ event }) => event)
      .filter((event) => event?.$case === 'messagesExpired')
      .map((event) => event?.value),
    [
      { conversation: room, upTo: 2 },
      { conversation: room + 1, upTo: 1 },
    ],
  )
  assert.deepEqual(shown(chat, bob, room), [3])
  assert.deepEqual(chat.queries.expiryDue(chat.nowMs), { messages: 0, bytes: 0 })
  const conversation = chat.queries.conversation(bob.account, toRoom('garden'))
  assert.deepEqual([conversation?.lastSeq, conversation?.expiredUpTo, conversation?.unread], [3, 2, 1])
  assert.equal(chat.queries.conversation(bob.account, toAccount('alice'))?.lastMessage, undefined)
  assert.equal(chat.queries.inboxCount(bob.account), 1)
  assert.equal(chat.send(alice, toRoom('garden'), 'four').seq, 4)
})

test('a room has its own retention, for ever included, and follows the policy again', () => {
  const { chat, alice, bob, room } = start()
  chat.send(alice, toRoom('garden'), 'one')
  setPolicy(chat, alice, dayS)
  setRoom(chat, bob, 0)
  assert.equal(chat.queries.conversation(bob.account, toRoom('garden'))?.retentionS, 0)
  chat.nowMs += 3 * dayMs
  chat.send(alice, toRoom('garden'), 'two')
  chat.send(alice, toRoom('everyone'), 'to all')
  chat.nowMs += 3 * dayMs
  expireAll(chat)
  assert.deepEqual([shown(chat, bob, room), shown(chat, bob, 1)], [[1, 2], []])
  setRoom(chat, bob, 4 * dayS)
  expireAll(chat)
  assert.deepEqual(shown(chat, bob, room), [2])
  setRoom(chat, bob, undefined)
  assert.equal(chat.queries.conversation(bob.account, toRoom('garden'))?.retentionS, undefined)
  expireAll(chat)
  assert.deepEqual(shown(chat, bob, room), [])
})

test('what is due is told before: only what the policy reaches, and about as many bytes as become free', () => {
  const db = new DatabaseSync(':memory:')
  const chat = new Harness(db)
  const alice = chat.register('alice')
  chat.do(alice, { $case: 'createRoom', value: { id: noBytes, name: 'garden', topic: '', private: false } })
  setRoom(chat, alice, 0)
  for (let i = 0; i < 900; i += 1)
    chat.send(alice, toRoom(i % 9 === 0 ? 'garden' : 'everyone'), 'x'.repeat(20 + (i % 300)))
  setPolicy(chat, alice, dayS)
  chat.nowMs += 2 * dayMs
  const due = chat.queries.expiryDue(chat.nowMs)
  assert.equal(due.messages, 800)
  const usedBytes = (): number => {
    db.exec('VACUUM')
    return Number(db.prepare('PRAGMA page_count').get()?.['page_count']) * 4096
  }
  const before = usedBytes()
  expireAll(chat)
  const freed = before - usedBytes()
  assert.ok(
    due.bytes > freed / 1.25 && due.bytes < freed * 1.25,
    `${due.bytes} were told, and ${freed} became free`,
  )
})

test('rooms whose messages are all gone are not looked at, and are again when there is one', () => {
  let looks = 0
  const chat = new Harness(
    tellingReads(new DatabaseSync(':memory:'), (sql) => {
      if (/FROM message WHERE conversation = . AND seq > /.test(sql)) looks += 1
    }),
  )
  const alice = chat.register('alice')
  const looksOf = (run: () => void): number => {
    looks = 0
    run()
    return looks
  }
  for (const name of ['garden', 'kitchen', 'cellar']) {
    chat.do(alice, { $case: 'createRoom', value: { id: noBytes, name, topic: '', private: false } })
    chat.do(alice, { $case: 'setRoomRetention', value: { id: noBytes, name, retentionS: dayS } })
  }
  for (const name of ['garden', 'kitchen']) chat.send(alice, toRoom(name), 'x')
  chat.nowMs += 2 * dayMs
  assert.equal(
    looksOf(() => expire(chat)),
    2,
  )
  assert.equal(
    looksOf(() => expire(chat)),
    0,
  )
  // In one batch, of which nothing has been written yet when messages are looked for.
  const send = { $case: 'sendMessage', value: { id: noBytes, to: toRoom('garden'), text: 'x' } } as const
  chat.apply(chat.command(alice, send), chat.command(nobody, { $case: 'expireMessages', value: {} }, noBytes))
  assert.equal(looks, 1)
})

test('the owner of a room and administrators may set its retention, nobody else; that of #everyone administrators only', () => {
  const { chat, alice, bob } = start()
  const carol = chat.register('carol')
  const ask = (who: Who, name: string) =>
    chat.run(who, { $case: 'setRoomRetention', value: { id: noBytes, name, retentionS: 60 } })
  const reasonOf = (who: Who, name: string) => {
    const result = ask(who, name)
    return result.$case === 'rejected' ? result.value.reason : result.$case
  }
  assert.equal(reasonOf(carol, 'garden'), Reason.NOT_PERMITTED)
  assert.equal(reasonOf(bob, 'everyone'), Reason.NOT_PERMITTED)
  assert.equal(reasonOf(bob, 'nowhere'), Reason.ROOM_NOT_FOUND)
  for (const [who, name] of [
    [bob, 'garden'],
    [alice, 'garden'],
    [alice, 'everyone'],
  ] as const)
    assert.equal(reasonOf(who, name), 'setRoomRetention')
})

test('one command does a bounded part of the work', () => {
  const { chat, alice, room } = start()
  const count = 2 * expiredAtOnce + 10
  for (let i = 0; i < count; i += 1) chat.send(alice, toRoom('garden'), 'x')
  setPolicy(chat, alice, dayS)
  chat.nowMs += 2 * dayMs
  expire(chat)
  assert.equal(shown(chat, alice, room)[0], expiredAtOnce + 1)
  assert.equal(expireAll(chat), 2)
  assert.deepEqual(shown(chat, alice, room), [])
})

test('sending again with the id of a message that was removed returns the first result', () => {
  const { chat, alice } = start()
  const id = chat.newId()
  const op = { $case: 'sendMessage', value: { id: noBytes, to: toRoom('garden'), text: 'once' } } as const
  const first = chat.run(alice, op, id)
  setPolicy(chat, alice, dayS)
  chat.nowMs += 2 * dayMs
  expireAll(chat)
  assert.deepEqual(chat.run(alice, op, id), first)
})

test('an index of texts is told what was removed', () => {
  const { chat, alice } = start()
  chat.send(alice, toRoom('garden'), 'old')
  const before = chat.machine.position
  const place = chat.queries.messagesChangedAfter(0, 10)[0]?.place
  setPolicy(chat, alice, dayS)
  chat.nowMs += 2 * dayMs
  expireAll(chat)
  assert.deepEqual(
    chat.queries.messagesChangedAfter(before, 10).map(({ place, text }) => [place, text]),
    [[place, '']],
  )
  assert.deepEqual(
    chat.queries.messagesChangedAfter(0, 10).map(({ text }) => text),
    [''],
  )
})

test('past events leave out what was removed', () => {
  const { chat, alice } = start()
  const before = chat.machine.position
  chat.send(alice, toRoom('garden'), 'old')
  setPolicy(chat, alice, dayS)
  chat.nowMs += 2 * dayMs
  expireAll(chat)
  const { events, upTo } = chat.queries.eventsAfter(before, { limit: 100, maxBytes: 1_000_000 })
  assert.equal(upTo, chat.machine.position)
  assert.equal(events.length, 2)
})

test('whatever is sent, read, hidden, deleted and removed: what is counted is what is there', () => {
  const step = fc.record({
    kind: fc.constantFrom(
      'send',
      'read',
      'upTo',
      'unread',
      'opened',
      'open',
      'delete',
      'hide',
      'expire',
      'own',
    ),
    who: fc.nat(1),
    seq: fc.integer({ min: 1, max: 12 }),
    later: fc.nat(3),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const { chat, alice, bob, room } = start()
      setPolicy(chat, alice, dayS)
      for (const { kind, who: index, seq, later } of steps) {
        const who = index === 0 ? alice : bob
        const message = { conversation: room, seq }
        chat.nowMs += later * dayMs * 0.3
        if (kind === 'send') chat.send(who, toRoom('garden'), 'x')
        else if (kind === 'expire') expireAll(chat)
        else if (kind === 'own') setRoom(chat, bob, seq > 8 ? undefined : seq > 4 ? 0 : seq * dayS)
        else if (kind === 'open')
          chat.run(who, { $case: 'openInbox', value: { id: noBytes, count: 1 + (seq % 3), conversation: 0 } })
        else if (kind === 'delete' || kind === 'hide')
          chat.run(who, {
            $case: 'deleteMessage',
            value: { id: noBytes, message, forAll: kind === 'delete' },
          })
        else {
          const mark = { $case: kind === 'opened' ? 'openedUpTo' : kind, value: seq } as const
          chat.run(who, { $case: 'markRead', value: { id: noBytes, conversation: room, mark } })
        }
        for (const { account } of [alice, bob]) {
          const range = { beforeSeq: 0, afterSeq: 0, pageSize: 500 }
          const page = chat.queries.messages(account, room, range)
          const unread = page?.messages.filter(
            ({ sender, deleted, read }) => sender !== account && !deleted && !read,
          )
          assert.equal(page?.marks.unreadCount, unread?.length)
          const open = chat.queries.conversation(account, toRoom('garden'))
          assert.equal(open?.unread, unread?.length)
          assert.equal(chat.queries.inboxCount(account), open?.unopened)
        }
      }
      for (const who of [alice, bob]) {
        const waiting = chat.queries.inboxCount(who.account)
        const opened = chat.do(who, {
          $case: 'openInbox',
          value: { id: noBytes, count: 500, conversation: 0 },
        })
        assert.equal(opened.messages.length, waiting)
      }
    }),
    { numRuns: 150 },
  )
})
