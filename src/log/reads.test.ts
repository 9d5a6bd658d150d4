import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Reads } from './reads.ts'

function setUp(): {
  reads: Reads
  rounds: number[]
  answers: string[]
  add(name: string, deadlineMs?: number): void
} {
  const rounds: number[] = []
  const answers: string[] = []
  const reads = new Reads((id) => rounds.push(id))
  const add = (name: string, deadlineMs = 1000): void =>
    reads.add({ deadlineMs, done: (index) => answers.push(`${name} ${index}`) })
  return { reads, rounds, answers, add }
}

test('reads that wait share a round, and those that come during it share the next', () => {
  const { reads, rounds, answers, add } = setUp()
  add('a')
  add('b')
  reads.begin()
  add('c')
  reads.begin()
  assert.deepEqual(rounds, [1])
  reads.answered(1, 5)
  reads.begin()
  reads.applied(5)
  assert.deepEqual(answers, ['a 5', 'b 5'])
  reads.answered(2, 6)
  reads.applied(5)
  assert.equal(answers.length, 2)
  reads.applied(7)
  assert.deepEqual(answers[2], 'c 6')
})

test('a refused round is repeated at the next tick, or at once when another replica leads', () => {
  const { reads, rounds, answers, add } = setUp()
  add('a')
  reads.begin()
  reads.answered(1, null)
  reads.begin()
  assert.deepEqual(rounds, [1])
  reads.tick(10)
  reads.begin()
  reads.answered(2, null)
  reads.retry()
  reads.begin()
  reads.answered(3, 4)
  reads.applied(4)
  assert.deepEqual(rounds, [1, 2, 3])
  assert.deepEqual(answers, ['a 4'])
})

test('a round that gets no answer is given up and repeated; its late answer counts for nothing', () => {
  const { reads, rounds, answers, add } = setUp()
  add('a')
  reads.begin()
  for (let i = 0; i < 10; i += 1) reads.tick(10)
  reads.begin()
  assert.deepEqual(rounds, [1, 2])
  reads.answered(1, 3)
  reads.applied(9)
  assert.deepEqual(answers, [])
})

test('a read is answered with null at its deadline, wherever it waits', () => {
  const { reads, answers, add } = setUp()
  add('confirmed', 100)
  reads.begin()
  reads.answered(1, 50)
  add('in a round', 200)
  reads.begin()
  add('waiting', 300)
  for (const nowMs of [99, 100, 200, 300]) reads.tick(nowMs)
  assert.deepEqual(answers, ['confirmed null', 'in a round null', 'waiting null'])
  reads.applied(50)
  assert.equal(answers.length, 3)
})

test('at the end nobody is left waiting', () => {
  const { reads, answers, add } = setUp()
  add('a')
  reads.begin()
  add('b')
  reads.end()
  assert.deepEqual(answers.sort(), ['a null', 'b null'])
})
