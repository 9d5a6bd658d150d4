import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Harness, nobody, toAccount, type Op, type Who } from './harness.ts'

const noBytes = new Uint8Array(0)

function start(): { chat: Harness; alice: Who; bob: Who } {
  const chat = new Harness(new DatabaseSync(':memory:'))
  return { chat, alice: chat.register('alice'), bob: chat.register('bob') }
}

function present(
  chat: Harness,
  replica: number,
  incarnation: number,
  connected: readonly number[],
  disconnected: readonly number[] = [],
): void {
  const op: Op = { $case: 'presence', value: { replica, incarnation, connected, disconnected } }
  chat.apply(chat.command(nobody, op, noBytes))
}

function gone(chat: Harness, replica: number, incarnation: number): void {
  chat.apply(chat.command(nobody, { $case: 'replicaGone', value: { replica, incarnation } }, noBytes))
}

/** The accounts whose coming and going the newest command told. */
function told(chat: Harness): readonly string[] {
  return chat
    .lastEvents()
    .flatMap(({ event }) => (event?.$case === 'account' ? [`${event.value.name} ${event.value.online}`] : []))
}

function isOnline(chat: Harness, who: Who): boolean {
  return chat.queries.account(who.account)?.online === true
}

test('an account is online while any of its sessions is connected, through whichever replica', () => {
  const { chat, alice } = start()
  const phone = chat.logIn(alice.account)
  present(chat, 1, 1, [alice.session])
  assert.deepEqual(told(chat), ['alice true'])
  present(chat, 2, 1, [phone.session])
  present(chat, 3, 1, [alice.session])
  assert.deepEqual(told(chat), [])
  present(chat, 1, 1, [], [alice.session])
  present(chat, 2, 1, [], [phone.session])
  assert.equal(isOnline(chat, alice), true)
  present(chat, 3, 1, [], [alice.session])
  assert.deepEqual(told(chat), ['alice false'])
  assert.equal(isOnline(chat, alice), false)
})

test('saying the same twice changes nothing', () => {
  const { chat, alice } = start()
  present(chat, 1, 1, [alice.session, alice.session])
  present(chat, 1, 1, [alice.session])
  present(chat, 1, 1, [], [alice.session, 99])
  present(chat, 1, 1, [], [alice.session])
  assert.equal(isOnline(chat, alice), false)
  present(chat, 1, 1, [alice.session])
  assert.deepEqual(told(chat), ['alice true'])
})

test('with a replica go the sessions that were connected through it, up to that incarnation', () => {
  const { chat, alice, bob } = start()
  present(chat, 1, 1, [alice.session, bob.session])
  present(chat, 2, 1, [bob.session])
  assert.deepEqual(chat.queries.presentReplicas(), [
    { replica: 1, incarnation: 1 },
    { replica: 2, incarnation: 1 },
  ])
  present(chat, 1, 2, [alice.session])
  gone(chat, 1, 1)
  // Alice has come back through the next incarnation, Bob is there through another replica.
  assert.deepEqual(told(chat), [])
  gone(chat, 1, 2)
  assert.deepEqual(told(chat), ['alice false'])
  gone(chat, 2, 7)
  assert.deepEqual(told(chat), ['bob false'])
  assert.deepEqual(chat.queries.presentReplicas(), [])
})

test('an earlier incarnation cannot take away what a later one said', () => {
  const { chat, alice } = start()
  present(chat, 1, 2, [alice.session])
  present(chat, 1, 1, [alice.session])
  present(chat, 1, 1, [], [alice.session])
  assert.equal(isOnline(chat, alice), true)
})

test('a session that ended is connected nowhere, and cannot be said to be', () => {
  const { chat, alice } = start()
  present(chat, 1, 1, [alice.session])
  chat.do(alice, { $case: 'logOut', value: { id: noBytes } })
  assert.equal(isOnline(chat, alice), false)
  present(chat, 1, 1, [alice.session])
  assert.deepEqual(told(chat), [])
  assert.deepEqual(chat.queries.presentReplicas(), [])
})

test('who sends a direct message learns whether the other one is there', () => {
  const { chat, alice, bob } = start()
  assert.equal(chat.send(alice, toAccount('bob'), 'x').delivered, false)
  present(chat, 1, 1, [bob.session])
  assert.equal(chat.send(alice, toAccount('bob'), 'x').delivered, true)
  assert.equal(chat.send(alice, { target: { $case: 'room', value: 'everyone' } }, 'x').delivered, false)
  gone(chat, 1, 1)
  assert.equal(chat.send(alice, toAccount('bob'), 'x').delivered, false)
})

test('the list of sessions says which are connected', () => {
  const { chat, alice } = start()
  chat.nowMs += 1
  const phone = chat.logIn(alice.account)
  present(chat, 1, 1, [phone.session])
  assert.deepEqual(
    chat.queries.sessions(alice.account).map(({ id, online }) => ({ id, online })),
    [
      { id: phone.session, online: true },
      { id: alice.session, online: false },
    ],
  )
})
