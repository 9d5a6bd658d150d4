import assert from 'node:assert/strict'
import { test } from 'node:test'
import { durationParts, keptText } from './durations.ts'

test('a time is shown in the largest unit in which it is whole', () => {
  assert.deepEqual(durationParts(365 * 86_400), { count: 365, unit: 'days' })
  assert.deepEqual(durationParts(36 * 3600), { count: 36, unit: 'hours' })
  assert.deepEqual(durationParts(90 * 60), { count: 90, unit: 'minutes' })
  assert.deepEqual(durationParts(61), { count: 2, unit: 'minutes' })
})

test('how long messages are kept is said in words', () => {
  assert.equal(keptText(0), 'for ever')
  assert.equal(keptText(86_400), 'for 1 day')
  assert.equal(keptText(7200), 'for 2 hours')
})
