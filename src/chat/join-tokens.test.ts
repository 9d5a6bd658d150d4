import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Reason } from '../gen/parley/v1/model.ts'
import { Harness, nobody, type Op, type Who } from './harness.ts'
import { openChat } from './machine.ts'

const noBytes = new Uint8Array(0)
const hash = (byte: number): Uint8Array => new Uint8Array(32).fill(byte)
const hourS = 3600

function start(): { chat: Harness; admin: Who; bob: Who } {
  const chat = new Harness(new DatabaseSync(':memory:'))
  return { chat, admin: chat.register('admin'), bob: chat.register('bob') }
}

function create(secret: number, uses = 1): Extract<Op, { $case: 'createJoinToken' }> {
  return {
    $case: 'createJoinToken',
    value: { id: noBytes, secretHash: hash(secret), uses, lifetimeS: hourS },
  }
}

function use(secret: number): Op {
  return { $case: 'useJoinToken', value: { secretHash: hash(secret) } }
}

test('a token can be used as often as it says, and then no more', () => {
  const { chat, admin } = start()
  chat.do(admin, create(1, 2))
  assert.equal(chat.run(nobody, use(1)).$case, 'done')
  assert.equal(chat.run(nobody, use(1)).$case, 'done')
  assert.equal(chat.rejected(nobody, use(1)).reason, Reason.JOIN_TOKEN_USED_UP)
})

test('an attempt to join that is repeated uses the token once', () => {
  const { chat, admin } = start()
  chat.do(admin, create(1, 2))
  const id = chat.newId()
  assert.equal(chat.run(nobody, use(1), id).$case, 'done')
  assert.equal(chat.run(nobody, use(1), id).$case, 'done')
  assert.equal(chat.queries.joinTokens()[0]?.usesLeft, 1)
})

test('a token that has expired is told apart from one that never was', () => {
  const { chat, admin } = start()
  chat.do(admin, create(1))
  chat.nowMs += hourS * 1000
  assert.equal(chat.rejected(nobody, use(1)).reason, Reason.JOIN_TOKEN_EXPIRED)
  assert.equal(chat.rejected(nobody, use(2)).reason, Reason.JOIN_TOKEN_UNKNOWN)
})

test('a token that was revoked lets nobody in', () => {
  const { chat, admin } = start()
  const { token } = chat.do(admin, create(1))
  const revoke: Op = { $case: 'revokeJoinToken', value: { id: noBytes, number: token?.number ?? 0 } }
  assert.equal(chat.run(admin, revoke).$case, 'revokeJoinToken')
  assert.equal(chat.rejected(nobody, use(1)).reason, Reason.JOIN_TOKEN_UNKNOWN)
  assert.equal(chat.rejected(admin, revoke).reason, Reason.JOIN_TOKEN_UNKNOWN)
})

test('tokens are made by administrators, and by those whom a replica vouches for', () => {
  const { chat, admin, bob } = start()
  assert.equal(chat.rejected(bob, create(1)).reason, Reason.NOT_PERMITTED)
  assert.equal(chat.do(admin, create(2)).token?.createdBy, 'admin')
  assert.equal(chat.do(nobody, create(3)).token?.createdBy, '')
  assert.equal(chat.queries.joinTokens().length, 2)
})

test('tokens are forgotten long after they expired, and there are never too many', () => {
  const { chat, admin } = start()
  for (let i = 0; i < 100; i += 1) chat.do(admin, create(i))
  assert.equal(chat.rejected(admin, create(100)).reason, Reason.RATE_LIMITED)
  chat.nowMs += 32 * 24 * hourS * 1000
  chat.do(chat.logIn(admin.account), create(101))
  assert.equal(chat.queries.joinTokens().length, 1)
})

test('a secret, a number of uses and a lifetime that cannot be are refused by the state machine too', () => {
  const { chat, admin } = start()
  for (const wrong of [{ secretHash: noBytes }, { uses: 0 }, { uses: 101 }, { lifetimeS: 0 }])
    assert.equal(
      chat.rejected(admin, { $case: 'createJoinToken', value: { ...create(1).value, ...wrong } }).reason,
      Reason.INVALID_ARGUMENT,
    )
})

test('a state from before there were tokens gets a table for them', () => {
  const db = new DatabaseSync(':memory:')
  openChat(db)
  db.exec('DROP TABLE join_token')
  assert.deepEqual(openChat(db).queries.joinTokens(), [])
})
