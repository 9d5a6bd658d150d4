import assert from 'node:assert/strict'
import { test } from 'node:test'

import type { Applied } from '../chat/types.ts'
import { CommandBatch, type Command } from '../gen/parley/v1/command.ts'
import { ManualClock } from './manual-clock.ts'
import { PendingCommands, type PendingOptions } from './pending.ts'
import type { Executed } from './types.ts'

function send(text: string): Command {
  return {
    id: new Uint8Array(16),
    fingerprint: 1,
    account: 1,
    session: 1,
    op: { $case: 'sendMessage', value: { id: new Uint8Array(16), to: undefined, text } },
  }
}

function textsOf(batch: CommandBatch | undefined): string[] {
  return (batch?.commands ?? []).map((command) =>
    command.op?.$case === 'sendMessage' ? command.op.value.text : '',
  )
}

function applied(count: number, position: number): Applied[] {
  return Array.from({ length: count }, (_, i) => ({
    position: position + i,
    outcome: { outcome: { $case: 'done', value: {} } },
    events: [],
    endedSessions: [],
    memberships: [],
  }))
}

function setUp(options: Partial<PendingOptions> = {}) {
  const clock = new ManualClock()
  const proposed: CommandBatch[] = []
  const results: string[] = []
  const pending = new PendingCommands({
    origin: 2,
    incarnation: 7,
    clock,
    nowMs: () => clock.wallMs(),
    propose: (bytes) => proposed.push(CommandBatch.decode(bytes)),
    onStuck: () => undefined,
    ...options,
  })
  const add = (text: string, timeoutMs = 10_000): void =>
    pending.add(send(text), timeoutMs, (result) => results.push(`${text}: ${show(result)}`))
  return { clock, proposed, results, pending, add }
}

function show(result: Executed): string {
  return result.kind === 'applied' ? `applied ${result.position}` : `${result.kind} ${result.why}`
}

test('commands of one turn of the event loop become one batch', () => {
  const { clock, proposed, add } = setUp()
  add('a')
  add('b')
  assert.deepEqual(proposed, [])
  clock.run()
  add('c')
  clock.run()
  assert.deepEqual(proposed.map(textsOf), [['a', 'b'], ['c']])
  assert.deepEqual(
    proposed.map(({ origin, incarnation, number }) => [origin, incarnation, number]),
    [
      [2, 7, 1],
      [2, 7, 2],
    ],
  )
})

test('each command gets its own outcome when its batch has been applied', () => {
  const { clock, results, pending, add } = setUp()
  add('a')
  add('b')
  clock.run()
  pending.settle(1, applied(2, 40))
  assert.deepEqual(results, ['a: applied 40', 'b: applied 41'])
  assert.equal(pending.size, 0)
})

test('a batch is bounded by count and by bytes', () => {
  const { clock, proposed, add } = setUp({ maxBatchCommands: 3, maxBatchBytes: 1500 })
  for (const text of ['a', 'b', 'c', 'd', 'x'.repeat(300), 'y'.repeat(300)]) add(text)
  clock.run()
  assert.deepEqual(
    proposed.map((batch) => batch.commands.length),
    [3, 2, 1],
  )
})

test('with many batches under way, what comes in waits and goes together', () => {
  const { clock, proposed, pending, add } = setUp({ maxUnderWay: 2 })
  for (const text of ['a', 'b', 'c', 'd']) {
    add(text)
    clock.run()
  }
  assert.deepEqual(proposed.map(textsOf), [['a'], ['b']])
  pending.settle(1, applied(1, 1))
  clock.run()
  assert.deepEqual(proposed.map(textsOf), [['a'], ['b'], ['c', 'd']])
})

test('after an interruption everything under way is proposed again, in order and unchanged', () => {
  const { clock, proposed, results, pending, add } = setUp()
  for (const text of ['a', 'b', 'c']) {
    add(text)
    clock.run()
  }
  pending.settle(1, applied(1, 1))
  pending.pause()
  add('d')
  clock.run()
  const before = proposed.splice(0)
  pending.proposeAgain()
  clock.run()
  assert.deepEqual(proposed.slice(0, 2), before.slice(1))
  assert.deepEqual(textsOf(proposed[2]), ['d'])
  pending.settle(2, applied(1, 2))
  pending.settle(2, null)
  pending.settle(3, applied(1, 3))
  pending.settle(4, applied(1, 4))
  assert.deepEqual(results, ['a: applied 1', 'b: applied 2', 'c: applied 3', 'd: applied 4'])
})

test('a batch that was skipped since it follows a gap stays under way', () => {
  const { clock, results, pending, add } = setUp()
  for (const text of ['a', 'b']) {
    add(text)
    clock.run()
  }
  pending.settle(2, null)
  assert.deepEqual(results, [])
  pending.settle(1, applied(1, 1))
  pending.settle(2, applied(1, 2))
  assert.deepEqual(results, ['a: applied 1', 'b: applied 2'])
})

test('the outcome of a batch that came back inside a snapshot is unknown', () => {
  const { clock, results, pending, add } = setUp()
  for (const text of ['a', 'b', 'c']) {
    add(text)
    clock.run()
  }
  pending.settle(1, null)
  pending.settle(3, applied(1, 9))
  assert.deepEqual(results, ['a: outcomeUnknown deadline', 'b: outcomeUnknown deadline', 'c: applied 9'])
  assert.equal(pending.size, 0)
})

test('a deadline that passes leaves the outcome unknown, and the batch where it is', () => {
  const { clock, results, pending, add } = setUp({ maxUnderWay: 1 })
  add('a', 100)
  add('b', 5000)
  clock.run()
  add('c', 100)
  clock.run(200)
  assert.deepEqual(results, ['c: refused deadline', 'a: outcomeUnknown deadline'])
  pending.settle(1, applied(2, 1))
  assert.deepEqual(results.slice(2), ['b: applied 2'])
  assert.equal(pending.size, 0)
})

test('without a quorum, what was never proposed is refused and the rest is unknown', () => {
  const { clock, results, pending, add } = setUp({ maxUnderWay: 1 })
  add('a')
  clock.run()
  add('b')
  clock.run()
  pending.giveUp('noQuorum')
  assert.deepEqual(results, ['b: refused noQuorum', 'a: outcomeUnknown noQuorum'])
  pending.settle(1, applied(1, 1))
  assert.equal(results.length, 2)
})

test('above the limit commands are refused until others have been answered', () => {
  const { clock, results, pending, add } = setUp({ maxCommands: 2 })
  for (const text of ['a', 'b', 'c']) add(text)
  clock.run()
  assert.deepEqual(results, ['c: refused overloaded'])
  pending.settle(1, applied(2, 1))
  add('d')
  clock.run()
  pending.settle(2, applied(1, 3))
  assert.deepEqual(results.slice(1), ['a: applied 1', 'b: applied 2', 'd: applied 3'])
})

test('while nothing comes back that was proposed, what comes in is refused at once instead of after its time', () => {
  const { clock, proposed, results, pending, add } = setUp({ maxUnderWay: 1 })
  const proposeAgain = (): void => pending.proposeAgain()
  add('a', 60_000)
  clock.run()
  add('b', 60_000)
  assert.equal(pending.isStalled, false)
  clock.run(4900)
  // What may have been lost is proposed again meanwhile, which is no progress.
  proposeAgain()
  clock.run(200)
  assert.equal(pending.isStalled, true)
  assert.deepEqual(results, ['b: refused stalled'])
  pending.settle(1, applied(1, 5))
  assert.equal(pending.isStalled, false)
  add('c')
  clock.run()
  assert.deepEqual(textsOf(proposed.at(-1)), ['c'])
  assert.deepEqual(results, ['b: refused stalled', 'a: applied 5'])
})

test('a time without a leader, or with nothing under way, is no stall', () => {
  const { clock, pending, add } = setUp()
  add('a', 60_000)
  clock.run()
  pending.pause()
  clock.run(60_000)
  assert.equal(pending.isStalled, false)
  pending.proposeAgain()
  assert.equal(pending.isStalled, false)
  pending.settle(1, applied(1, 5))
  clock.run(60_000)
  add('b')
  clock.run()
  assert.equal(pending.isStalled, false)
})

test('batches, and all that waits, are as small as they must be, whatever the commands hold', () => {
  const { clock, proposed, results, pending } = setUp({ maxBatchBytes: 10_000, maxBytes: 30_000 })
  const ops: readonly Command['op'][] = [
    { $case: 'deleteDrafts', value: { id: new Uint8Array(16), draftIds: [new Uint8Array(9000)] } },
    { $case: 'sendDrafts', value: { id: new Uint8Array(16), draftIds: [new Uint8Array(9000)] } },
    {
      $case: 'setPolicy',
      value: {
        id: new Uint8Array(16),
        policy: undefined,
        fields: Array.from({ length: 600 }, () => 'single_session'),
      },
    },
    { $case: 'deleteDrafts', value: { id: new Uint8Array(16), draftIds: [new Uint8Array(9000)] } },
  ]
  for (const op of ops)
    pending.add({ ...send(''), op }, 10_000, (result) => results.push(`${op?.$case}: ${show(result)}`))
  clock.run()
  assert.deepEqual(
    proposed.map(({ commands }) => commands.length),
    [1, 1, 1],
  )
  assert.deepEqual(results, ['deleteDrafts: refused overloaded'])
})
