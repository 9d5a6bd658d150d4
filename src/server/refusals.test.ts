import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Refusal } from '../peer/links.ts'
import { Refusals } from './refusals.ts'

const refusal = (code: Refusal['code'], by: Refusal['by'] = 'peer'): Refusal => ({
  peer: 2,
  by,
  code,
  reason: 'the reason',
})

function setUp(): {
  readonly refusals: Refusals
  readonly ends: string[]
  readonly up: Set<number>
  readonly later: (() => void)[]
  readonly pass: (ms: number) => void
} {
  const ends: string[] = []
  const up = new Set<number>()
  const later: (() => void)[] = []
  let nowMs = 0
  const refusals = new Refusals({
    clock: {
      monotonicMs: () => nowMs,
      after(_, callback) {
        later.push(callback)
        return () => {}
      },
    },
    isUp: (peer) => up.has(peer),
    onFatal: (line, code) => ends.push(`${code}: ${line}`),
  })
  const pass = (ms: number): void => {
    nowMs += ms
  }
  return { refusals, ends, up, later, pass }
}

test('a replica that was removed, or forgot what it promised, ends at the first word of another one, and once', () => {
  for (const code of ['removed', 'regressed', 'incarnation'] as const) {
    const { refusals, ends } = setUp()
    refusals.add(refusal(code))
    refusals.add(refusal(code))
    assert.deepEqual(ends, [`${code}: r2 refuses this replica: the reason`])
  }
})

test('refusing others, or being refused for what may pass, is a problem to be shown and no end', () => {
  const { refusals, ends, up } = setUp()
  refusals.add(refusal('incarnation', 'self'))
  assert.equal(refusals.problem, 'r2 was refused: the reason')
  refusals.add(refusal('otherCluster'))
  assert.equal(refusals.problemWith(2), 'r2 refuses this replica: the reason')
  assert.equal(refusals.problemWith(3), '')
  up.add(2)
  assert.equal(refusals.problem, '')
  assert.deepEqual(ends, [])
})

test('that a removed replica or a stranger was refused is not shown for ever, though neither will ever be let in', () => {
  const { refusals, later } = setUp()
  refusals.add(refusal('removed', 'self'))
  assert.equal(refusals.problem, 'r2 was refused: the reason')
  refusals.add({ ...refusal('malformed', 'self'), peer: 0 })
  refusals.add({ ...refusal('incarnation', 'self'), peer: 3 })
  for (const look of later) look()
  assert.equal(refusals.problem, 'r3 was refused: the reason')
  assert.equal(refusals.problemWith(2), '')
})

test('a replica that seems to run already ends when another one says so again and again', () => {
  const { refusals, ends, pass } = setUp()
  for (let second = 0; second < 5; second += 1) {
    refusals.add(refusal('runsAlready'))
    assert.deepEqual(ends, [])
    pass(1000)
  }
  refusals.add(refusal('runsAlready'))
  assert.deepEqual(ends, ['runsAlready: r2 refuses this replica: the reason'])
})

test('a replica that seemed to run already goes on when nobody says so any more, and may seem so later', () => {
  const { refusals, ends, later, pass } = setUp()
  refusals.add(refusal('runsAlready'))
  pass(60_000)
  for (const look of later) look()
  refusals.add(refusal('runsAlready'))
  refusals.add({ ...refusal('runsAlready'), peer: 3 })
  assert.deepEqual(ends, [])
})
