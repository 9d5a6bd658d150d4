import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Reason, type Policy } from '../gen/parley/v1/model.ts'
import { Harness, toRoom, type Op, type Who } from './harness.ts'

const noBytes = new Uint8Array(0)

function start(): { chat: Harness; admin: Who; bob: Who } {
  const chat = new Harness(new DatabaseSync(':memory:'))
  return { chat, admin: chat.register('admin'), bob: chat.register('bob') }
}

function set(chat: Harness, changes: Partial<Policy>, fields: readonly string[] = []): Op {
  return {
    $case: 'setPolicy',
    value: { id: noBytes, policy: { ...chat.queries.policy(), ...changes }, fields },
  }
}

const say = (text: string): Op => ({
  $case: 'sendMessage',
  value: { id: noBytes, to: toRoom('everyone'), text },
})

test('a new cluster has the default policy', () => {
  const { chat } = start()
  assert.deepEqual(chat.queries.policy(), {
    registrationOpen: true,
    singleSession: false,
    idleLogoutS: 0,
    maxMessageBytes: 16_384,
    messagesPerMinute: 0,
    sessionLifetimeS: 90 * 86_400,
    retentionS: 0,
  })
})

test('only an administrator may change the policy', () => {
  const { chat, bob } = start()
  assert.equal(chat.rejected(bob, set(chat, { idleLogoutS: 60 })).reason, Reason.NOT_PERMITTED)
})

test('only the named fields are set; all are told the policy', () => {
  const { chat, admin } = start()
  chat.run(admin, set(chat, { idleLogoutS: 60, maxMessageBytes: 5 }, ['idle_logout_s']))
  assert.equal(chat.queries.policy().idleLogoutS, 60)
  assert.equal(chat.queries.policy().maxMessageBytes, 16_384)
  assert.deepEqual(chat.applied.at(-1)?.events[0]?.audience, { kind: 'all' })
  chat.machine.reload()
  assert.equal(chat.queries.policy().idleLogoutS, 60)
})

test('a value out of its range is refused with its field', () => {
  const { chat, admin } = start()
  const before = chat.queries.policy()
  const error = chat.rejected(admin, set(chat, { maxMessageBytes: 65_537 }))
  assert.equal(error.reason, Reason.INVALID_ARGUMENT)
  assert.deepEqual(error.violations, [
    { field: 'policy.max_message_bytes', description: 'must be 1 to 65536' },
  ])
  assert.deepEqual(chat.queries.policy(), before)
})

test('a message may be as large as the policy says, in bytes', () => {
  const { chat, admin } = start()
  chat.run(admin, set(chat, { maxMessageBytes: 6 }))
  assert.equal(chat.run(admin, say('äöü')).$case, 'sendMessage')
  const error = chat.rejected(admin, say('äöüx'))
  assert.equal(error.reason, Reason.MESSAGE_TOO_LARGE)
  assert.deepEqual(error.violations, [{ field: 'text', description: 'must be at most 6 bytes' }])
})

test('an account may send a minute’s worth at once, and then as the rate allows', () => {
  const { chat, admin, bob } = start()
  chat.run(admin, set(chat, { messagesPerMinute: 3 }))
  for (let i = 0; i < 3; i += 1) assert.equal(chat.run(admin, say('x')).$case, 'sendMessage')
  const error = chat.rejected(admin, say('x'))
  assert.equal(error.reason, Reason.RATE_LIMITED)
  assert.equal(error.retryAfterMs, 20_000)
  assert.equal(chat.run(bob, say('x')).$case, 'sendMessage', 'each account has its own')
  chat.nowMs += 19_999
  assert.equal(chat.rejected(admin, say('x')).retryAfterMs, 1)
  chat.nowMs += 1
  assert.equal(chat.run(admin, say('x')).$case, 'sendMessage')
  chat.machine.reload()
  assert.equal(chat.rejected(admin, say('x')).reason, Reason.RATE_LIMITED)
  chat.nowMs += 3_600_000
  for (let i = 0; i < 3; i += 1) assert.equal(chat.run(admin, say('x')).$case, 'sendMessage')
  assert.equal(
    chat.rejected(admin, say('x')).reason,
    Reason.RATE_LIMITED,
    'no more than a minute’s worth is saved up',
  )
})
