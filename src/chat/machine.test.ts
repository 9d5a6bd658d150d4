import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import type { CommandBatch } from '../gen/parley/v1/command.ts'
import { Reason } from '../gen/parley/v1/model.ts'
import { digest } from './digest.ts'
import { Harness, nobody, toAccount, toRoom, type Op, type Who } from './harness.ts'
import { openChat } from './machine.ts'
import type { Applied } from './types.ts'

const noBytes = new Uint8Array(0)
const say = (text: string): Op => ({
  $case: 'sendMessage',
  value: { id: noBytes, to: toRoom('everyone'), text },
})

/** A state machine in which messages of the text "poison" throw while they are applied. */
function start(): { chat: Harness; alice: Who } {
  const chat = new Harness(new DatabaseSync(':memory:'), {
    beforeCommand: (command) => {
      if (command.op?.$case === 'sendMessage' && command.op.value.text === 'poison')
        throw new Error('poisoned')
    },
  })
  return { chat, alice: chat.register('alice') }
}

function batch(chat: Harness, number: number, who: Who, ...ops: readonly Op[]): CommandBatch {
  const commands = ops.map((op) => chat.command(who, op))
  return { origin: 2, incarnation: 1, number, atMs: chat.nowMs, commands }
}

function outcomes(applied: readonly Applied[] | null): readonly (string | undefined)[] {
  return (applied ?? []).map(({ outcome: { outcome } }) =>
    outcome?.$case === 'rejected' ? outcome.value.reason : outcome?.$case,
  )
}

test('a command that throws stops the batch, and applied with care is rejected alone', () => {
  const { chat, alice } = start()
  const { db, machine } = chat
  const one = batch(chat, 1, alice, say('before'), say('poison'), say('after'))
  const before = digest(db)
  db.exec('BEGIN')
  assert.throws(() => machine.applyBatch(one, false), /a command failed/)
  db.exec('ROLLBACK')
  machine.reload()
  assert.equal(digest(db), before)

  db.exec('BEGIN')
  const applied = machine.applyBatch(one, true)
  machine.flush()
  db.exec('COMMIT')
  assert.deepEqual(outcomes(applied), ['sendMessage', Reason.COMMAND_FAILED, 'sendMessage'])
  assert.deepEqual(
    applied?.map(({ position }) => position),
    [2, 3, 4],
  )
  assert.deepEqual(applied?.[1]?.events, [])
  const page = chat.queries.messages(alice.account, 1, { beforeSeq: 0, afterSeq: 0, pageSize: 10 })
  assert.deepEqual(
    page?.messages.map(({ seq, text }) => ({ seq, text })),
    [
      { seq: 1, text: 'before' },
      { seq: 2, text: 'after' },
    ],
  )
})

test('what only one replica can fail at is thrown with care too, and nothing of it is kept', () => {
  const db = new DatabaseSync(':memory:')
  let failure: Error | null = null
  const { machine } = openChat(db, {
    beforeCommand: () => {
      if (failure !== null) throw failure
    },
  })
  const other = new Harness(new DatabaseSync(':memory:'))
  const apply = (careful: boolean): unknown => {
    db.exec('BEGIN')
    try {
      return machine.applyBatch(batch(other, 1, nobody, say('x')), careful)
    } finally {
      db.exec('ROLLBACK')
      machine.reload()
    }
  }
  const failing = (error: Error, isOfReplica: boolean): void => {
    failure = error
    if (isOfReplica) assert.throws(() => apply(true), error)
    else assert.doesNotThrow(() => apply(true), String(error))
  }
  for (const errcode of [5, 6, 7, 8, 10, 11, 13, 14, 26, 10 | (19 << 8)])
    failing(Object.assign(new Error('sqlite'), { errcode, code: 'ERR_SQLITE_ERROR' }), true)
  for (const errcode of [1, 18, 19, 19 | (8 << 8), 20, 25])
    failing(Object.assign(new Error('sqlite'), { errcode, code: 'ERR_SQLITE_ERROR' }), false)
  for (const code of ['EIO', 'ENOSPC', 'EMFILE', 'ERR_INVALID_STATE', 'ERR_MEMORY_ALLOCATION_FAILED'])
    failing(Object.assign(new Error(code), { code }), true)
  for (const code of ['ERR_INVALID_ARG_TYPE', 'ERR_OUT_OF_RANGE'])
    failing(Object.assign(new RangeError(code), { code }), false)
  failing(new RangeError('Invalid array length'), false)
  failing(new RangeError('Array buffer allocation failed'), true)
  failing(new RangeError('Maximum call stack size exceeded'), true)
  for (const error of [new Error('a bug'), new TypeError('a bug')]) failing(error, false)
})

test('the rejection of a poisonous command is kept with its id', () => {
  const { chat, alice } = start()
  const { db, machine } = chat
  const one = batch(chat, 1, alice, say('poison'))
  db.exec('BEGIN')
  machine.applyBatch(one, true)
  machine.flush()
  db.exec('COMMIT')
  const { id, fingerprint } = one.commands[0] ?? chat.command(alice, say(''))
  assert.equal(chat.rejected(alice, say('harmless'), id, fingerprint).reason, Reason.COMMAND_FAILED)
})

test('a poisonous command leaves the same state on a replica that had to apply with care and on one that knew', () => {
  const run = (careful: readonly boolean[]): string => {
    const { chat, alice } = start()
    const { db, machine } = chat
    careful.forEach((isCareful, i) => {
      db.exec('BEGIN')
      // Something half done before it throws: a direct conversation, a changed counter.
      const ops = [say(`${i}`), i === 1 ? say('poison') : say('x')]
      machine.applyBatch(batch(chat, i + 1, alice, ...ops), isCareful)
      machine.flush()
      db.exec('COMMIT')
    })
    return digest(db)
  }
  assert.equal(run([true, true, true]), run([false, true, false]))
})

test('a command that breaks a constraint of the tables is the command’s fault, not the disk’s', () => {
  const chat = new Harness(new DatabaseSync(':memory:'))
  const alice = chat.register('alice')
  chat.db.exec('DROP TABLE hidden')
  chat.send(alice, toRoom('everyone'), 'x')
  const message = { conversation: 1, seq: 1 }
  const one = batch(chat, 1, alice, {
    $case: 'deleteMessage',
    value: { id: noBytes, message, forAll: false },
  })
  chat.db.exec('BEGIN')
  assert.throws(
    () => chat.machine.applyBatch(one, false),
    (error: unknown) => error instanceof Error && !('errcode' in error),
  )
  chat.db.exec('ROLLBACK; BEGIN')
  chat.machine.reload()
  assert.deepEqual(outcomes(chat.machine.applyBatch(one, true)), [Reason.COMMAND_FAILED])
})

test('so is one that shows only when what commands left in memory is written', () => {
  const chat = new Harness(new DatabaseSync(':memory:'))
  const alice = chat.register('alice')
  chat.db.exec(`CREATE TRIGGER poison BEFORE UPDATE ON conversation BEGIN SELECT RAISE(ABORT, 'no'); END`)
  const one = batch(chat, 1, alice, say('x'))
  chat.db.exec('BEGIN')
  chat.machine.applyBatch(one, false)
  assert.throws(
    () => chat.machine.flush(),
    (error: unknown) => error instanceof Error && !('errcode' in error),
  )
  chat.db.exec('ROLLBACK; BEGIN')
  chat.machine.reload()
  assert.deepEqual(outcomes(chat.machine.applyBatch(one, true)), [Reason.COMMAND_FAILED])
  chat.machine.flush()
})

test('an error of the database is let through as it is, with care too', () => {
  const db = new DatabaseSync(':memory:')
  const chat = new Harness(db)
  const alice = chat.register('alice')
  chat.db.exec('PRAGMA max_page_count = 1')
  const text = 'x'.repeat(10_000)
  for (const careful of [false, true]) {
    chat.db.exec('BEGIN')
    assert.throws(
      () => {
        for (let i = 1; i < 100; i += 1) chat.machine.applyBatch(batch(chat, i, alice, say(text)), careful)
      },
      (error: unknown) => error instanceof Error && 'errcode' in error && error.errcode === 13,
    )
    // SQLite may have taken it back by itself.
    if (db.isTransaction) db.exec('ROLLBACK')
    chat.machine.reload()
  }
  chat.db.exec('PRAGMA max_page_count = 100000')
  assert.equal(chat.send(alice, toRoom('everyone'), text).seq, 1)
})

test('a batch is applied when it is the next of its origin, and skipped otherwise', () => {
  const { chat, alice } = start()
  const { machine } = chat
  const from = (origin: number, incarnation: number, number: number): CommandBatch => ({
    ...batch(chat, number, alice, say('x')),
    origin,
    incarnation,
  })
  const steps: readonly (readonly [number, number, number, boolean])[] = [
    [5, 1, 2, false],
    [5, 1, 1, true],
    [5, 1, 1, false],
    [5, 1, 3, false],
    [5, 1, 2, true],
    [6, 1, 1, true],
    [5, 3, 2, false],
    [5, 3, 1, true],
    [5, 2, 1, false],
    [5, 1, 3, false],
    [5, 3, 2, true],
  ]
  for (const [origin, incarnation, number, isApplied] of steps) {
    const { position } = machine
    const applied = machine.applyBatch(from(origin, incarnation, number), false)
    assert.equal(applied !== null, isApplied, `${origin} ${incarnation} ${number}`)
    assert.equal(machine.position, position + (isApplied ? 1 : 0))
  }
})

test('the clock is the largest time so far', () => {
  const { chat, alice } = start()
  const before = chat.nowMs
  chat.nowMs -= 5000
  assert.equal(chat.send(alice, toRoom('everyone'), 'x').atMs, before)
  chat.nowMs += 8000
  assert.equal(chat.send(alice, toRoom('everyone'), 'x').atMs, before + 3000)
  assert.equal(chat.machine.nowMs, before + 3000)
})

test('a command that this version does not know is rejected', () => {
  const { chat, alice } = start()
  const [applied] = chat.apply({ ...chat.command(alice, say('x')), op: undefined })
  assert.equal(applied?.outcome.outcome?.$case, 'rejected')
})

test('the version is raised by the log, and never goes back', () => {
  const { chat, alice } = start()
  chat.db.exec('UPDATE chat_state SET version = 1')
  chat.machine.reload()
  const early = chat.rejected(alice, {
    $case: 'revokeJoinToken',
    value: { id: noBytes, number: 1 },
  })
  assert.equal(early.reason, Reason.UPGRADE_PENDING)
  for (const version of [2, 1]) {
    chat.apply(chat.command(nobody, { $case: 'raiseVersion', value: { version } }))
    assert.equal(chat.machine.version, 2)
  }
  assert.equal(openChat(chat.db).machine.version, 2)
})

test('a replica stops at a version that it does not know, with care too', () => {
  for (const careful of [false, true]) {
    const chat = new Harness(new DatabaseSync(':memory:'), { newestVersion: 1 })
    const raise = chat.command(nobody, { $case: 'raiseVersion', value: { version: 2 } })
    assert.throws(
      () =>
        chat.machine.applyBatch(
          { origin: 2, incarnation: 1, number: 1, atMs: chat.nowMs, commands: [raise] },
          careful,
        ),
      /use version 2 of Parley's commands, and this one knows 1/,
    )
  }
})

test('a state of a newer Parley is refused in words', () => {
  const { chat } = start()
  chat.db.exec('UPDATE chat_state SET version = 99')
  assert.throws(() => openChat(chat.db), /version 99.*knows version/)
})

test('the tables are made within the caller’s transaction when there is one', () => {
  const db = new DatabaseSync(':memory:')
  db.exec('BEGIN')
  openChat(db)
  db.exec('ROLLBACK')
  assert.deepEqual(db.prepare('SELECT name FROM sqlite_master').all(), [])
  assert.equal(openChat(db).machine.position, 0)
})

test('names that were looked up are forgotten with the transaction that made them', () => {
  const { chat, alice } = start()
  const { db, machine } = chat
  const register: Op = {
    $case: 'register',
    value: { name: 'bob', passwordHash: 'x', device: '', tokenHash: chat.newTokenHash() },
  }
  const hello: Op = { $case: 'sendMessage', value: { id: noBytes, to: toAccount('bob'), text: 'hi' } }
  db.exec('BEGIN')
  machine.applyBatch(batch(chat, 1, nobody, register), false)
  machine.applyBatch(batch(chat, 2, alice, hello), false)
  db.exec('ROLLBACK')
  machine.reload()
  assert.equal(chat.rejected(alice, hello).reason, Reason.ACCOUNT_NOT_FOUND)
})
