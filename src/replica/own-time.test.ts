import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LogFields } from '../base/logger.ts'
import { silentLogger } from '../base/logger.ts'
import { ManualClock } from './manual-clock.ts'
import { OwnTime } from './own-time.ts'

const dayMs = 24 * 60 * 60 * 1000
const clock = new ManualClock()
const wallMs = clock.wallMs()

/** What a replica stamps when the other clocks differ from its own by so many milliseconds. */
function stamped(...othersMs: readonly (number | null)[]): number {
  const own = new OwnTime(clock, silentLogger, () =>
    othersMs.map((offMs) => (offMs === null ? null : wallMs + offMs)),
  )
  return own.nowMs - wallMs
}

test('a replica stamps its own time when its clock is right, whatever one other clock shows', () => {
  assert.equal(stamped(0, 0, 0, 0), 0)
  assert.equal(stamped(100 * dayMs, 0, 0, 0), 0)
  assert.equal(stamped(-100 * dayMs, 0, 0, 0), 0)
  assert.equal(stamped(-100 * dayMs, 0, null, null), 0)
  assert.equal(stamped(), 0, 'alone')
})

test('a replica whose clock is ahead stamps hardly more than most others show', () => {
  assert.equal(stamped(-91 * dayMs, -91 * dayMs, -91 * dayMs, -91 * dayMs), -91 * dayMs + 10_000)
  assert.equal(stamped(-91 * dayMs), -91 * dayMs + 10_000)
  // Two of five are ahead.
  assert.equal(stamped(5 * dayMs, -91 * dayMs, -91 * dayMs, -91 * dayMs), -91 * dayMs + 10_000)
  assert.equal(stamped(-9_000, -9_000), 0, 'within the tolerance')
})

test('a replica that knows no other clock stamps nothing', () => {
  assert.equal(stamped(null, null), -wallMs)
})

test('a clock that differs is told once, and again when it agrees', () => {
  const told: string[] = []
  const tell = (_fields: LogFields, message: string): void => void told.push(message)
  let offMs = 0
  const own = new OwnTime(clock, { ...silentLogger, warn: tell, info: tell }, () => [
    clock.wallMs() - offMs,
    clock.wallMs() - offMs,
  ])
  own.look()
  offMs = 25 * 60_000
  own.look()
  assert.equal(own.problem, '', 'not at the first look')
  own.look()
  own.look()
  assert.equal(own.problem, 'its clock is 25 minutes ahead of most others: set it (NTP)')
  offMs = 0
  own.look()
  assert.equal(own.problem, '')
  offMs = -91 * dayMs
  own.look()
  own.look()
  assert.equal(own.problem, 'its clock is 91 days behind most others: set it (NTP)')
  assert.deepEqual(told, [
    'its clock is 25 minutes ahead of most others: set it (NTP)',
    'the clock agrees with the others again',
    'its clock is 91 days behind most others: set it (NTP)',
  ])
})

test('one of two other clocks that runs ahead makes nobody else look wrong', () => {
  const own = new OwnTime(clock, silentLogger, () => [wallMs, wallMs + 91 * dayMs])
  own.look()
  own.look()
  assert.equal(own.problem, '')
})
