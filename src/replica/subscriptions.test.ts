import assert from 'node:assert/strict'
import { test } from 'node:test'

import { silentLogger } from '../base/logger.ts'
import type { ChatQueries, StoredEvent } from '../chat/queries.ts'
import type { Applied, Audience } from '../chat/types.ts'
import { Event } from '../gen/parley/v1/service.ts'
import { ManualClock } from './manual-clock.ts'
import { Subscriptions } from './subscriptions.ts'
import type { Receiver } from './types.ts'

const toAll: Audience = { kind: 'all' }
const toAccount = (account: number): Audience => ({ kind: 'account', account })
const toConversation = (conversation: number): Audience => ({ kind: 'conversation', conversation })

/** A receiver that notes what it gets: `5:7` is the event number 7, at position 5. */
class Notes implements Receiver {
  readonly got: string[] = []
  full = false

  events(encoded: readonly Uint8Array[]): boolean {
    for (const bytes of encoded) {
      const { position, event } = Event.decode(bytes)
      this.got.push(
        event?.$case === 'conversationLeft'
          ? `${position}:${event.value.conversation}`
          : `${position}:${event?.$case}`,
      )
    }
    return !this.full
  }

  ended(): void {
    this.got.push('ended')
  }

  take(): string[] {
    return this.got.splice(0)
  }
}

/** Subscriptions over a state that consists of nothing but memberships and events. */
function setUp() {
  const clock = new ManualClock()
  const table: StoredEvent[] = []
  const members = new Map<number, number[]>()
  const connections: string[] = []
  let position = 0
  let oldest = 0
  let seq = 0
  let caughtUp = false
  let reads = 0
  const queries: Partial<ChatQueries> = {
    sessionExists: (session) => session < 900,
    conversationIds: (account) => members.get(account) ?? [],
    oldestCursor: () => oldest,
    isInAudience: () => true,
    eventsAfter: (after, { limit }) => {
      reads += 1
      const later = table.filter((event) => event.position > after)
      const upTo = later[limit - 1]?.position ?? position
      return { events: later.filter((event) => event.position <= upTo), upTo }
    },
  }
  const subscriptions = new Subscriptions({
    clock,
    logger: silentLogger,
    queries: () => queries as ChatQueries,
    position: () => position,
    whenCaughtUp: (done) => clock.soon(() => done(caughtUp)),
    onConnected: (session, connected) => connections.push(`${session} ${connected ? 'came' : 'went'}`),
  })
  /** Applies commands, one position each, whose events go to the audiences; published in one go. */
  const apply = (commands: readonly (readonly Audience[])[], extra: Partial<Applied> = {}): void => {
    const applied: Applied[] = []
    for (const audiences of commands) {
      position += 1
      const at = position
      const events = audiences.map((audience) => {
        seq += 1
        const event = { $case: 'conversationLeft', value: { conversation: seq } } as const
        return { position: at, audience, bytes: Event.encode({ position: at, event }).finish() }
      })
      table.push(...events)
      const outcome = { outcome: { $case: 'done', value: {} } } as const
      applied.push({ position: at, outcome, events, endedSessions: [], memberships: [], ...extra })
    }
    subscriptions.publish(applied)
  }
  const open = (account: number, session: number, cursor: number) => {
    const notes = new Notes()
    return { notes, ...subscriptions.open({ account, session }, cursor, notes) }
  }
  return {
    clock,
    subscriptions,
    apply,
    open,
    members,
    connections,
    table,
    forget: (upTo: number) => (oldest = upTo),
    jump: (to: number) => (position = to),
    catchUp: () => (caughtUp = true),
    /** How often past events were read from the state. */
    reads: () => reads,
  }
}

test('live events go to the connected accounts of their audience, and to nobody else', () => {
  const { clock, members, open, apply } = setUp()
  members.set(1, [7]).set(2, [7, 8])
  const a = open(1, 11, 0)
  const b = open(2, 12, 0)
  clock.run()
  apply([[toConversation(7)], [toConversation(8)], [toAccount(1)], [toAll], [toConversation(1)]])
  assert.deepEqual(a.notes.take(), ['0:progress', '1:1', '3:3', '4:4', '5:5'])
  assert.deepEqual(b.notes.take(), ['0:progress', '1:1', '2:2', '4:4', '5:5'])
})

test('a subscription catches up from its cursor and goes live without a gap or a repetition', () => {
  const { clock, members, open, apply } = setUp()
  members.set(1, [7])
  apply(Array.from({ length: 1200 }, () => [toConversation(7)]))
  const { notes } = open(1, 11, 100)
  apply([[toConversation(7)]])
  clock.run()
  apply([[toConversation(7)]])
  const got = notes.take()
  assert.deepEqual(
    got.filter((note) => !note.endsWith('progress')),
    Array.from({ length: 1102 }, (_, i) => `${101 + i}:${101 + i}`),
  )
})

test('a stream that begins from now on first tells the position from which it can be resumed', () => {
  const { clock, open, apply } = setUp()
  apply([[toAll], [toAll]])
  const { notes } = open(1, 11, 0)
  // What happens before its first turn comes after it.
  apply([[toAll], [toAll]])
  clock.run()
  assert.deepEqual(notes.take(), ['2:progress', '3:3', '4:4', '4:progress'])
  const resumed = open(1, 12, 2)
  clock.run()
  assert.deepEqual(resumed.notes.take(), ['3:3', '4:4', '4:progress'])
})

test('events of one position are never torn apart by the slices of a catch-up', () => {
  const { clock, subscriptions, apply } = setUp()
  apply([Array.from({ length: 3 }, () => toAll), Array.from({ length: 1500 }, () => toAll), [toAll]])
  const calls: number[] = []
  const events = (encoded: readonly Uint8Array[]): boolean => calls.push(encoded.length) > 0
  subscriptions.open({ account: 1, session: 11 }, 1, { events, ended: () => undefined })
  clock.run()
  // 1,500 events of one position; then the one after it, and the notice that all has been caught up.
  assert.deepEqual(calls, [1500, 2])
})

test('who joins a conversation gets its events from then on, and who leaves gets no more', () => {
  const { clock, open, apply } = setUp()
  const { notes } = open(1, 11, 0)
  clock.run()
  notes.take()
  apply([[toConversation(7)]])
  apply([[toConversation(7)]], { memberships: [{ account: 1, conversation: 7, member: true }] })
  apply([[toConversation(7)]])
  apply([[toConversation(7)]], { memberships: [{ account: 1, conversation: 7, member: false }] })
  assert.deepEqual(notes.take(), ['2:2', '3:3'])
})

test('a receiver that is full gets what it missed when it resumes', () => {
  const { clock, open, apply } = setUp()
  const { notes, resume } = open(1, 11, 0)
  clock.run()
  notes.full = true
  apply([[toAll]])
  apply([[toAll], [toAll]])
  assert.deepEqual(notes.take(), ['0:progress', '1:1'])
  notes.full = false
  resume()
  clock.run()
  apply([[toAll]])
  assert.deepEqual(notes.take(), ['2:2', '3:3', '3:progress', '4:4'])
})

test('a cursor that is too old is answered with a resync, and the stream goes on from there', () => {
  const { clock, open, apply, forget } = setUp()
  apply([[toAll], [toAll], [toAll]])
  forget(2)
  const { notes } = open(1, 11, 1)
  const fresh = open(1, 12, 2)
  clock.run()
  apply([[toAll]])
  assert.deepEqual(notes.take(), ['3:resync', '4:4'])
  assert.deepEqual(fresh.notes.take(), ['3:3', '3:progress', '4:4'])
})

test('a cursor ahead of this replica waits for it, however long it takes, and is of another cluster only when the replica has caught up', () => {
  const { clock, open, apply, catchUp } = setUp()
  const soon = open(1, 11, 2)
  const never = open(1, 12, 1_000_000)
  clock.run(100)
  apply([[toAll]])
  apply([[toAll]])
  clock.run(100)
  apply([[toAll]])
  assert.deepEqual(soon.notes.take(), ['2:progress', '3:3'])
  clock.run(3_600_000)
  assert.deepEqual(never.notes.take(), [])
  catchUp()
  clock.run(2_000)
  assert.deepEqual(never.notes.take(), ['3:resync'])
})

test('the end of a session reaches its streams after its last events, and them alone', () => {
  const { clock, open, apply, connections } = setUp()
  const first = open(1, 11, 0)
  const second = open(1, 11, 0)
  const other = open(1, 12, 0)
  clock.run()
  for (const { notes } of [first, second, other]) notes.take()
  apply([[toAccount(1)]], { endedSessions: [11] })
  apply([[toAccount(1)]])
  assert.deepEqual(first.notes.take(), ['1:1', 'ended'])
  assert.deepEqual(second.notes.take(), ['1:1', 'ended'])
  assert.deepEqual(other.notes.take(), ['1:1', '2:2'])
  assert.deepEqual(connections, ['11 came', '12 came', '11 went'])
})

test('a session that ended gets nothing of what comes after, though it was applied together with its end', () => {
  const { clock, members, open, apply } = setUp()
  members.set(1, [7])
  const ending = open(1, 11, 0)
  const other = open(1, 12, 0)
  clock.run()
  for (const { notes } of [ending, other]) notes.take()
  // The first of these ends it.
  apply([[toConversation(7), toAccount(1)], [toAccount(1)], [toConversation(7)], [toAll]], {
    endedSessions: [11],
  })
  assert.deepEqual(ending.notes.take(), ['1:1', '1:2', 'ended'])
  assert.deepEqual(other.notes.take(), ['1:1', '1:2', '2:3', '3:4', '4:5'])
})

test('a stream of a session that does not exist ends at once', () => {
  const { clock, open } = setUp()
  const { notes } = open(1, 999, 0)
  clock.run()
  assert.deepEqual(notes.take(), ['ended'])
})

test('a stream without events is told now and then how far the log has got', () => {
  const { clock, open, apply } = setUp()
  const { notes } = open(1, 11, 0)
  clock.run()
  notes.take()
  clock.run(60_000)
  assert.deepEqual(notes.take(), [])
  apply([[toAccount(2)]])
  clock.run(60_000)
  assert.deepEqual(notes.take(), ['1:progress'])
})

test('after the state was swapped, streams go on with what they missed and with new memberships', () => {
  const { clock, members, subscriptions, open, apply, table, jump } = setUp()
  const { notes } = open(1, 11, 0)
  clock.run()
  apply([[toAll]])
  notes.take()
  members.set(1, [7])
  const event = { $case: 'conversationLeft', value: { conversation: 99 } } as const
  table.push({
    position: 5,
    audience: toConversation(7),
    bytes: Event.encode({ position: 5, event }).finish(),
  })
  jump(5)
  subscriptions.reload()
  clock.run()
  apply([[toConversation(7)]])
  assert.deepEqual(notes.take(), ['5:99', '5:progress', '6:2'])
})

test('a receiver that throws is closed and harms nobody else', () => {
  const { clock, subscriptions, open, apply } = setUp()
  const fails = {
    events: () => {
      throw new Error('broken')
    },
    ended: () => undefined,
  }
  subscriptions.open({ account: 1, session: 11 }, 0, fails)
  const { notes } = open(1, 12, 0)
  clock.run()
  apply([[toAll]])
  assert.deepEqual(notes.take(), ['0:progress', '1:1'])
  assert.equal(subscriptions.size, 1)
})

test('streams that come together, with cursors close to each other, have the past read once for all of them', () => {
  const { clock, open, apply, reads } = setUp()
  apply(Array.from({ length: 5000 }, (_, i) => [i % 100 === 0 ? toAccount(1) : toAll]))
  const streams = Array.from({ length: 200 }, (_, i) => ({ cursor: 1000 + i, ...open(2, 10, 1000 + i) }))
  clock.run()
  for (const { cursor, notes } of streams) {
    const expected = Array.from({ length: 5000 - cursor }, (_, i) => cursor + 1 + i)
      .filter((position) => position % 100 !== 1)
      .map((position) => `${position}:${position}`)
    assert.deepEqual(notes.take(), [...expected, '5000:progress'])
  }
  assert.ok(reads() < 20, `${reads()} reads`)
  // Later ones read anew: what is kept is kept for the moment only.
  const before = reads()
  open(2, 10, 1000)
  clock.run()
  assert.ok(reads() > before)
})
