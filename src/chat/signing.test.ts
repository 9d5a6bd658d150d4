import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { Reason, type Policy } from '../gen/parley/v1/model.ts'
import { Harness, nobody, toAccount, toRoom, type Op, type Who } from './harness.ts'
import { limits } from './limits.ts'

function start(): Harness {
  return new Harness(new DatabaseSync(':memory:'))
}

function registering(chat: Harness, name: string): Extract<Op, { readonly $case: 'register' }> {
  return {
    $case: 'register',
    value: { name, passwordHash: 'hash', device: 'phone', tokenHash: chat.newTokenHash() },
  }
}

function setPolicy(chat: Harness, who: Who, changes: Partial<Policy>): void {
  const policy = { ...chat.queries.policy(), ...changes }
  chat.do(who, { $case: 'setPolicy', value: { id: noBytes, policy, fields: [] } })
}

const noBytes = new Uint8Array(0)
const logOut: Op = { $case: 'logOut', value: { id: noBytes } }
const hello = (to: string): Op => ({
  $case: 'sendMessage',
  value: { id: noBytes, to: toAccount(to), text: 'hello' },
})

test('the first account is an administrator, others are not', () => {
  const chat = start()
  chat.register('alice')
  chat.register('bob')
  assert.equal(chat.queries.accountByName('alice')?.admin, true)
  assert.equal(chat.queries.accountByName('bob')?.admin, false)
})

test('a name is taken whatever its case', () => {
  const chat = start()
  chat.register('Alice')
  assert.equal(chat.rejected(nobody, registering(chat, 'aLICE')).reason, Reason.NAME_TAKEN)
  assert.equal(chat.queries.accountByName('ALICE')?.name, 'Alice')
  assert.equal(chat.rejected(nobody, registering(chat, 'Everyone')).reason, Reason.NAME_TAKEN)
})

test('a name that is not one is refused again by the state machine, with its field and limit', () => {
  const chat = start()
  const error = chat.rejected(nobody, registering(chat, 'no spaces'))
  assert.equal(error.reason, Reason.INVALID_ARGUMENT)
  assert.deepEqual(
    error.violations.map(({ field }) => field),
    ['name'],
  )
})

test('while registration is closed only an administrator may register accounts', () => {
  const chat = start()
  const admin = chat.register('admin')
  const bob = chat.register('bob')
  setPolicy(chat, admin, { registrationOpen: false })
  assert.equal(chat.rejected(nobody, registering(chat, 'eve')).reason, Reason.REGISTRATION_CLOSED)
  assert.equal(chat.rejected(bob, registering(chat, 'eve')).reason, Reason.REGISTRATION_CLOSED)
  assert.equal(chat.run(admin, registering(chat, 'carol')).$case, 'register')
  // A forged account number with a session of somebody else is nobody.
  const forged = { account: admin.account, session: bob.session }
  assert.equal(chat.rejected(forged, registering(chat, 'eve')).reason, Reason.REGISTRATION_CLOSED)
})

test('a newcomer finds an empty inbox, and gets what comes from then on', () => {
  const chat = start()
  const alice = chat.register('alice')
  for (let i = 0; i < 3; i += 1) chat.send(alice, toRoom('everyone'), 'old')
  const bob = chat.register('bob')
  assert.equal(chat.queries.inboxCount(bob.account), 0)
  chat.send(alice, toRoom('everyone'), 'new')
  assert.equal(chat.queries.inboxCount(bob.account), 1)
})

test('logging in tells how many messages wait', () => {
  const chat = start()
  const alice = chat.register('alice')
  const bob = chat.register('bob')
  chat.do(bob, { $case: 'logOut', value: { id: noBytes } })
  chat.run(alice, hello('bob'))
  chat.run(alice, hello('bob'))
  const outcome = chat.do(nobody, {
    $case: 'logIn',
    value: {
      account: bob.account,
      passwordVersion: 1,
      device: 'test',
      tokenHash: chat.newTokenHash(),
    },
  })
  assert.equal(outcome.inbox, 2)
  assert.equal(outcome.account?.name, 'bob')
})

test('a password that was changed since it was checked signs nobody in', () => {
  const chat = start()
  const alice = chat.register('alice')
  const other = chat.logIn(alice.account)
  chat.do(alice, { $case: 'changePassword', value: { passwordHash: 'new', passwordVersion: 1 } })
  const error = chat.rejected(nobody, {
    $case: 'logIn',
    value: { account: alice.account, passwordVersion: 1, device: '', tokenHash: chat.newTokenHash() },
  })
  assert.equal(error.reason, Reason.WRONG_CREDENTIALS)
  assert.equal(
    chat.rejected(alice, { $case: 'changePassword', value: { passwordHash: 'x', passwordVersion: 1 } })
      .reason,
    Reason.WRONG_CREDENTIALS,
  )
  // The other session has ended, this one goes on.
  assert.equal(chat.rejected(other, hello('alice')).reason, Reason.NOT_SIGNED_IN)
  assert.equal(chat.queries.credentials('alice')?.passwordHash, 'new')
  assert.equal(chat.queries.credentials('alice')?.passwordVersion, 2)
})

test('only the hash of a token is known, and it opens the session until it ends', () => {
  const chat = start()
  const op = registering(chat, 'alice')
  const { session } = chat.do(nobody, op)
  assert.deepEqual(chat.queries.session(op.value.tokenHash), { account: 1, session })
  assert.equal(chat.queries.session(chat.newTokenHash()), null)
  chat.run({ account: 1, session }, logOut)
  assert.equal(chat.queries.session(op.value.tokenHash), null)
  assert.deepEqual(chat.applied.at(-1)?.endedSessions, [session])
})

test('a command counts only with a session of its own account', () => {
  const chat = start()
  const alice = chat.register('alice')
  const bob = chat.register('bob')
  for (const who of [nobody, { account: alice.account, session: bob.session }, { account: 1, session: 99 }])
    assert.equal(chat.rejected(who, hello('bob')).reason, Reason.NOT_SIGNED_IN)
})

test('a session ends when it expires, whether or not anybody cleans up', () => {
  const chat = start()
  const admin = chat.register('admin')
  setPolicy(chat, admin, { sessionLifetimeS: 60 })
  const bob = chat.register('bob')
  chat.nowMs += 59_999
  assert.equal(chat.run(bob, hello('admin')).$case, 'sendMessage')
  assert.equal(chat.queries.sessionsDue(chat.nowMs), false)
  chat.nowMs += 1
  assert.equal(chat.queries.sessionsDue(chat.nowMs), true)
  assert.equal(chat.rejected(bob, hello('admin')).reason, Reason.SESSION_EXPIRED)
  chat.apply(chat.command(nobody, { $case: 'endSessions', value: {} }, noBytes))
  assert.deepEqual(chat.applied.at(-1)?.endedSessions, [bob.session])
  assert.equal(chat.rejected(bob, hello('admin')).reason, Reason.NOT_SIGNED_IN)
  assert.equal(chat.run(admin, hello('bob')).$case, 'sendMessage')
})

test('a session that is idle for longer than the policy allows is ended, one that does something is not', () => {
  const chat = start()
  const admin = chat.register('admin')
  const bob = chat.register('bob')
  setPolicy(chat, admin, { idleLogoutS: 60 })
  chat.apply(chat.command(nobody, { $case: 'raiseVersion', value: { version: 2 } }, noBytes))
  const endSessions: Op = { $case: 'endSessions', value: {} }
  chat.nowMs += 80_000
  chat.apply(chat.command(nobody, endSessions, noBytes))
  assert.deepEqual(chat.applied.at(-1)?.endedSessions, [], 'what they did may not be written down yet')
  chat.apply(
    chat.command(nobody, { $case: 'touchSessions', value: { sessions: [admin.session, 99] } }, noBytes),
  )
  chat.nowMs += 20_000
  chat.apply(chat.command(nobody, endSessions, noBytes))
  assert.deepEqual(chat.applied.at(-1)?.endedSessions, [bob.session])
  chat.nowMs += 40_000
  chat.run(admin, hello('bob'))
  chat.nowMs += 40_000
  chat.apply(chat.command(nobody, endSessions, noBytes))
  assert.deepEqual(chat.applied.at(-1)?.endedSessions, [])
})

test('with one session to an account a new log-in ends the old one, and never is refused itself', () => {
  const chat = start()
  const admin = chat.register('admin')
  setPolicy(chat, admin, { singleSession: true })
  const bob = chat.register('bob')
  const again = chat.logIn(bob.account)
  assert.deepEqual(chat.applied.at(-1)?.endedSessions, [bob.session])
  assert.equal(chat.rejected(bob, hello('admin')).reason, Reason.NOT_SIGNED_IN)
  assert.equal(chat.run(again, hello('admin')).$case, 'sendMessage')
})

test('an account has a bounded number of sessions: the least active ones give way', () => {
  const chat = start()
  const first = chat.register('alice')
  for (let i = 0; i < limits.sessionsPerAccount; i += 1) {
    chat.nowMs += 1
    chat.logIn(first.account)
  }
  assert.equal(chat.queries.sessions(first.account).length, limits.sessionsPerAccount)
  assert.equal(chat.queries.sessionExists(first.session), false)
})

test('one may revoke sessions of one’s own only', () => {
  const chat = start()
  const alice = chat.register('alice')
  const phone = chat.logIn(alice.account)
  const bob = chat.register('bob')
  const revoke = (session: number): Op => ({ $case: 'revokeSession', value: { id: noBytes, session } })
  assert.equal(chat.rejected(bob, revoke(phone.session)).reason, Reason.SESSION_NOT_FOUND)
  assert.equal(chat.run(alice, revoke(phone.session)).$case, 'revokeSession')
  assert.equal(chat.rejected(phone, hello('bob')).reason, Reason.NOT_SIGNED_IN)
})

test('an account deletes itself only, and types its name for it', () => {
  const chat = start()
  const alice = chat.register('alice')
  const error = chat.rejected(alice, {
    $case: 'deleteAccount',
    value: { id: noBytes, confirmName: 'bob' },
  })
  assert.equal(error.violations[0]?.field, 'confirm_name')
})

test('a deleted account leaves its messages and its name, and frees the name', () => {
  const chat = start()
  const alice = chat.register('alice')
  const bob = chat.register('bob')
  const { conversation } = chat.send(bob, toAccount('alice'), 'from bob')
  chat.send(bob, toRoom('everyone'), 'to all')
  chat.do(bob, { $case: 'deleteAccount', value: { id: noBytes, confirmName: 'BOB' } })
  assert.deepEqual(chat.applied.at(-1)?.endedSessions, [bob.session])
  assert.equal(chat.queries.account(bob.account)?.deleted, true)
  assert.equal(chat.queries.accountByName('bob'), null)
  const page = chat.queries.messages(alice.account, conversation, {
    beforeSeq: 0,
    afterSeq: 0,
    pageSize: 10,
  })
  assert.deepEqual(
    page?.messages.map(({ senderName, text }) => ({ senderName, text })),
    [{ senderName: 'bob', text: 'from bob' }],
  )
  assert.equal(
    chat.queries.conversation(alice.account, { target: { $case: 'conversation', value: conversation } })
      ?.name,
    'bob',
  )
  // Sending to the account does not succeed, by name or by conversation.
  const error = chat.rejected(alice, hello('bob'))
  assert.equal(error.reason, Reason.ACCOUNT_NOT_FOUND)
  assert.equal(error.message, 'bob does not exist, or has deleted their account.')
  assert.equal(
    chat.rejected(alice, {
      $case: 'sendMessage',
      value: { id: noBytes, to: { target: { $case: 'conversation', value: conversation } }, text: 'x' },
    }).reason,
    Reason.ACCOUNT_NOT_FOUND,
  )
  // The next bob is another account, and shares nothing with the first.
  const newBob = chat.register('bob')
  assert.notEqual(newBob.account, bob.account)
  assert.notEqual(chat.send(alice, toAccount('bob'), 'hello').conversation, conversation)
  assert.equal(
    chat.queries.messages(newBob.account, conversation, { beforeSeq: 0, afterSeq: 0, pageSize: 10 }),
    null,
  )
})

test('when the last administrator goes, the oldest account takes over', () => {
  const chat = start()
  const alice = chat.register('alice')
  chat.register('bob')
  chat.register('carol')
  chat.do(alice, { $case: 'deleteAccount', value: { id: noBytes, confirmName: 'alice' } })
  assert.equal(chat.queries.accountByName('bob')?.admin, true)
  assert.equal(chat.queries.accountByName('carol')?.admin, false)
})

test('no answer and no event shows a password’s hash or a token', () => {
  const chat = start()
  const op = registering(chat, 'alice')
  op.value.tokenHash.fill(0xab)
  const alice = { account: 1, session: 1 }
  chat.run(nobody, { ...op, value: { ...op.value, passwordHash: '$argon2id$secret' } })
  chat.do(alice, { $case: 'changePassword', value: { passwordHash: '$argon2id$other', passwordVersion: 1 } })
  const shown = JSON.stringify([
    chat.applied,
    chat.queries.account(1),
    chat.queries.sessions(1),
    chat.queries.accounts('', 10, ''),
    chat.queries.eventsAfter(0, { limit: 100, maxBytes: Infinity }),
  ])
  assert.doesNotMatch(shown, /argon2id|171,171/)
  const events = chat.applied.flatMap((one) => one.events.map(({ bytes }) => new TextDecoder().decode(bytes)))
  assert.doesNotMatch(events.join(''), /argon2id/)
  // What is kept with the ids neither.
  const kept = chat.db.prepare('SELECT body FROM outcome').all()
  assert.doesNotMatch(JSON.stringify(kept), /171,171/)
})
