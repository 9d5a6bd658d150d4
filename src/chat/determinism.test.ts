import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { makeUuidV7 } from '../base/ids.ts'
import type { Command, CommandBatch } from '../gen/parley/v1/command.ts'
import { Reason, type Target } from '../gen/parley/v1/model.ts'
import { digest } from './digest.ts'
import type { Op } from './harness.ts'
import { openChat } from './machine.ts'
import { notSignedIn } from './rejections.ts'
import type { Applied, ChatMachine } from './types.ts'

// The same log leaves the same state behind, however it is cut into transactions and whatever is forgotten in between; and nothing in it takes effect twice.

const startMs = Date.UTC(2026, 0, 1)
const dayMs = 86_400_000
const names = ['ann', 'ben', 'cleo', 'dan']
const noBytes = new Uint8Array(0)

/** A command in the making: numbers that are given a meaning by `opOf`. */
interface Draw {
  readonly kind: number
  readonly who: number
  /** 0 = the first of the account. */
  readonly session: number
  readonly a: number
  readonly b: number
  /** Repeats an earlier command: so many back; 0 = a new one. */
  readonly repeats: number
  readonly changed: boolean
}

const draw: fc.Arbitrary<Draw> = fc.record({
  kind: fc.nat(34),
  who: fc.integer({ min: 1, max: 4 }),
  session: fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(9) }),
  a: fc.nat(8),
  b: fc.nat(8),
  repeats: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(12) }),
  changed: fc.boolean(),
})

interface DrawnBatch {
  readonly origin: number
  readonly laterMs: number
  readonly draws: readonly Draw[]
}

const batch: fc.Arbitrary<DrawnBatch> = fc.record({
  origin: fc.integer({ min: 1, max: 2 }),
  laterMs: fc.oneof(
    { weight: 8, arbitrary: fc.integer({ min: -1000, max: 20_000 }) },
    { weight: 1, arbitrary: fc.constantFrom(dayMs, 4 * dayMs) },
  ),
  draws: fc.array(draw, { minLength: 3, maxLength: 12, size: 'max' }),
})

function targetOf(a: number, b: number): Target {
  if (b < 4) return { target: { $case: 'conversation', value: 1 + (a % 5) } }
  if (b < 7) return { target: { $case: 'account', value: names[a % 5] ?? 'nobody' } }
  return { target: { $case: 'room', value: a < 4 ? 'everyone' : `room${a % 2}` } }
}

function bytes(length: number, ...values: readonly number[]): Uint8Array {
  const made = new Uint8Array(length)
  values.forEach((value, i) => {
    made[i] = value
  })
  return made
}

function draftId(a: number): Uint8Array {
  return makeUuidV7(startMs, bytes(10, a))
}

function opOf({ kind, who, a, b }: Draw, serial: number): Op {
  const id = noBytes
  const message = { conversation: 1 + (a % 4), seq: 1 + (b % 5) }
  const room = `room${a % 2}`
  switch (kind) {
    case 0:
      return {
        $case: 'register',
        value: {
          name: names[a % 5] ?? 'eve',
          passwordHash: 'x',
          device: '',
          tokenHash: bytes(32, 1, serial, serial >> 8),
        },
      }
    case 1:
      return {
        $case: 'logIn',
        value: {
          account: who,
          passwordVersion: 1 + (a >> 2),
          device: 'd',
          tokenHash: bytes(32, 2, serial, serial >> 8),
        },
      }
    case 2:
      return a === 0 ? { $case: 'logOut', value: { id } } : { $case: 'endSessions', value: {} }
    case 3:
      return { $case: 'changePassword', value: { passwordHash: `${serial}`, passwordVersion: 1 + (b >> 2) } }
    case 4:
      return { $case: 'deleteAccount', value: { id, confirmName: a < 3 ? (names[who - 1] ?? '') : 'x' } }
    case 5:
      return { $case: 'revokeSession', value: { id, session: a } }
    case 6:
      return { $case: 'createRoom', value: { id, name: room, topic: '', private: b > 5 } }
    case 7:
      return { $case: 'joinRoom', value: { id, name: room } }
    case 8:
      return { $case: 'leaveRoom', value: { id, name: room } }
    case 9:
      return { $case: 'inviteToRoom', value: { id, name: room, account: names[b % 4] ?? '' } }
    case 10:
      return { $case: 'editMessage', value: { id, message, text: `edit ${serial}` } }
    case 11:
      return { $case: 'deleteMessage', value: { id, message, forAll: serial % 2 === 0 } }
    case 12:
      return {
        $case: 'markRead',
        value: {
          id,
          conversation: 1 + (a % 4),
          mark: {
            $case: (['upTo', 'read', 'unread', 'openedUpTo'] as const)[serial % 4] ?? 'read',
            value: b,
          },
        },
      }
    case 13:
      return { $case: 'openInbox', value: { id, count: 1 + a, conversation: b > 5 ? b % 4 : 0 } }
    case 14:
    case 15:
      return {
        $case: 'saveDraft',
        value: {
          id,
          draftId: draftId(a % 3),
          baseVersion: b < 4 ? 0 : b % 3,
          text: `draft ${serial}`,
          recipients: Array.from({ length: a % 4 }, (_, i) => targetOf((a + i) % 8, (b + i) % 8)),
        },
      }
    case 16:
      return { $case: 'deleteDrafts', value: { id, draftIds: [draftId(a % 3)] } }
    case 17:
      return { $case: 'sendDrafts', value: { id, draftIds: [draftId(a % 3), draftId(b % 3)] } }
    case 18:
      return {
        $case: 'setPolicy',
        value: {
          id,
          policy: {
            registrationOpen: true,
            singleSession: a > 6,
            idleLogoutS: a > 3 ? 0 : 600,
            maxMessageBytes: 10 + a,
            messagesPerMinute: b > 4 ? 0 : 5,
            sessionLifetimeS: 5_000_000,
            retentionS: a + b > 10 ? 60 : 0,
          },
          fields: [],
        },
      }
    case 19:
      return {
        $case: 'presence',
        value: {
          replica: 1 + (a % 2),
          incarnation: 1 + (b % 3),
          connected: [1, a, b],
          disconnected: [serial % 8],
        },
      }
    case 20:
      return { $case: 'replicaGone', value: { replica: 1 + (a % 2), incarnation: b % 4 } }
    case 21:
      return { $case: 'touchSessions', value: { sessions: [a, b] } }
    case 22:
      return {
        $case: 'createJoinToken',
        value: { id, secretHash: bytes(32, a), uses: 1 + (b % 2), lifetimeS: 10 + b },
      }
    case 23:
      return { $case: 'useJoinToken', value: { secretHash: bytes(32, a) } }
    case 24:
      return {
        $case: 'setRoomRetention',
        value: {
          id,
          name: a > 6 ? 'everyone' : room,
          retentionS: b > 6 ? undefined : b > 3 ? 0 : 60 * b,
        },
      }
    case 25:
    case 26:
      return { $case: 'expireMessages', value: {} }
    default:
      return {
        $case: 'sendMessage',
        value: { id, to: targetOf(a, b), text: 'x'.repeat(1 + (serial % 12)) },
      }
  }
}

const begin: Draw = { kind: 34, who: 0, session: 0, a: 0, b: 0, repeats: 0, changed: false }

/** The batches of a log, with everybody registered in the first. */
function makeLog(drawn: readonly DrawnBatch[]): readonly CommandBatch[] {
  const log: CommandBatch[] = []
  const numbers = new Map<number, number>()
  const commands: Command[] = []
  let nowMs = startMs
  let serial = 0
  const add = (origin: number, list: readonly Command[]): void => {
    const number = (numbers.get(origin) ?? 0) + 1
    numbers.set(origin, number)
    log.push({ origin, incarnation: 1, number, atMs: nowMs, commands: list })
  }
  const id = (): Uint8Array => makeUuidV7(nowMs, bytes(10, 0, 0, 0, 0, serial, serial >> 8))
  add(1, [
    {
      id: new Uint8Array(0),
      fingerprint: 0,
      account: 0,
      session: 0,
      op: { $case: 'raiseVersion', value: { version: 2 } },
    },
  ])
  add(
    1,
    names.map((name, i): Command => {
      serial += 1
      const value = { name, passwordHash: '', device: '', tokenHash: bytes(32, 3, i) }
      const op: Op = { $case: 'register', value: { ...value, passwordHash: 'hash' } }
      return { id: id(), fingerprint: 0, account: 0, session: 0, op }
    }),
  )
  // Something to begin with: messages of each to all, to another one, and in a room.
  add(
    1,
    [1, 2, 3, 4, 1, 2].flatMap((who, i) =>
      [
        opOf({ ...begin, a: 0, b: 1 }, i),
        opOf({ ...begin, a: i % 2, b: 5 }, i),
        opOf({ ...begin, kind: i === 0 ? 6 : 7, a: 0, b: 0 }, i),
        opOf({ ...begin, a: 4, b: 8 }, i),
      ].map((op): Command => {
        serial += 1
        return { id: id(), fingerprint: serial, account: who, session: who, op }
      }),
    ),
  )
  for (const { origin, laterMs, draws } of drawn) {
    nowMs += laterMs
    add(
      origin,
      draws.map((one): Command => {
        serial += 1
        const earlier = one.repeats === 0 ? undefined : commands.at(-one.repeats)
        if (earlier !== undefined)
          return one.changed && one.a > 5 ? { ...earlier, fingerprint: earlier.fingerprint + 1 } : earlier
        const op = opOf(one, serial)
        const isOpen = op.$case === 'register' || op.$case === 'logIn'
        const session = one.session === 0 ? one.who : one.session
        const command: Command = {
          id: id(),
          fingerprint: serial,
          account: isOpen ? 0 : one.who,
          session: isOpen ? 0 : session,
          op,
        }
        commands.push(command)
        return command
      }),
    )
  }
  return log
}

/** What a batch came to, in a form that can be compared. */
function seen(applied: readonly Applied[] | null): unknown {
  return applied?.map(({ position, outcome, events, endedSessions, memberships }) => ({
    position,
    outcome,
    events: events.map((event) => ({
      position: event.position,
      audience: event.audience,
      bytes: event.bytes,
    })),
    endedSessions,
    memberships,
  }))
}

function transaction<T>(db: DatabaseSync, machine: ChatMachine, body: () => T): T {
  db.exec('BEGIN')
  const result = body()
  machine.flush()
  db.exec('COMMIT')
  return result
}

test('the state depends on the log alone: not on transactions, reloads, roll-backs, care, or batches that come again', () => {
  const disturbances = fc.array(
    fc.constantFrom('same', 'commit', 'commit', 'reload', 'rollback', 'careful', 'again', 'gap'),
    { minLength: 1, maxLength: 20 },
  )
  fc.assert(
    fc.property(
      fc.array(batch, { minLength: 4, maxLength: 20, size: 'max' }),
      disturbances,
      (drawn, disturbed) => {
        const log = makeLog(drawn)
        const plainDb = new DatabaseSync(':memory:')
        const plain = openChat(plainDb).machine
        const expected = log.map((one) =>
          seen(transaction(plainDb, plain, () => plain.applyBatch(one, false))),
        )

        const db = new DatabaseSync(':memory:')
        const { machine } = openChat(db)
        db.exec('BEGIN')
        const commit = (): void => {
          machine.flush()
          db.exec('COMMIT; BEGIN')
        }
        for (const [i, one] of log.entries()) {
          const how = disturbed[i % disturbed.length] ?? 'same'
          if (how === 'rollback') {
            commit()
            machine.applyBatch(one, false)
            db.exec('ROLLBACK; BEGIN')
            machine.reload()
          }
          if (how === 'gap') assert.equal(machine.applyBatch({ ...one, number: one.number + 1 }, false), null)
          assert.deepEqual(seen(machine.applyBatch(one, how === 'careful')), expected[i])
          if (how === 'again') assert.equal(machine.applyBatch(one, false), null)
          if (how !== 'same') commit()
          if (how === 'reload') machine.reload()
        }
        commit()
        db.exec('COMMIT')
        assert.equal(digest(db), digest(plainDb))
      },
    ),
    { numRuns: 40 },
  )
})

/** Outcomes that are not kept: asking again may have another result. */
const notKept: ReadonlySet<Reason> = new Set([
  Reason.NOT_SIGNED_IN,
  Reason.SESSION_EXPIRED,
  Reason.RATE_LIMITED,
  Reason.ID_OUT_OF_WINDOW,
  Reason.ID_REUSED,
])

/** Outcomes whose texts are put back when a command is repeated, which takes a session. */
const carriesTexts: ReadonlySet<string> = new Set(['openInbox', 'editMessage', 'saveDraft'])

/** Tables that a command changes although it does nothing. */
function digestOfChat(db: DatabaseSync): string {
  return digest(db)
    .split('\n')
    .filter((line) => !/^(chat_state|origin) /.test(line))
    .join('\n')
}

function withoutTexts(value: unknown): string {
  return JSON.stringify(value, (key, part: unknown) =>
    ['text', 'senderName', 'editedAtMs', 'deleted', 'atMs', 'id', 'sender', 'position'].includes(key)
      ? undefined
      : part,
  )
}

test('any command that is sent again, after any other commands, returns its first outcome and changes nothing', () => {
  fc.assert(
    fc.property(fc.array(batch, { minLength: 4, maxLength: 12, size: 'max' }), (drawn) => {
      const log = makeLog(drawn)
      const db = new DatabaseSync(':memory:')
      const { machine, queries } = openChat(db)
      const first = new Map<Command, Applied>()
      for (const one of log) {
        const applied = transaction(db, machine, () => machine.applyBatch(one, false))
        applied?.forEach((result, i) => {
          const command = one.commands[i]
          if (command !== undefined && !first.has(command)) first.set(command, result)
        })
      }
      let number = 0
      const before = digestOfChat(db)
      for (const [command, { outcome }] of first) {
        const result = outcome.outcome
        if (result === undefined || result.$case === 'done') continue
        if (result.$case === 'rejected' && notKept.has(result.value.reason)) continue
        if (machine.nowMs - startMs > 6 * dayMs) continue
        number += 1
        const repeated = { origin: 9, incarnation: 1, number, atMs: machine.nowMs, commands: [command] }
        const [again] = transaction(db, machine, () => machine.applyBatch(repeated, false)) ?? []
        if (carriesTexts.has(result.$case) && !queries.sessionExists(command.session))
          assert.deepEqual(again?.outcome.outcome, notSignedIn)
        else assert.equal(withoutTexts(again?.outcome), withoutTexts(outcome))
        assert.deepEqual(again?.events, [])
        assert.equal(digestOfChat(db), before)
      }
    }),
    { numRuns: 20 },
  )
})
