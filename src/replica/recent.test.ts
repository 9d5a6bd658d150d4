import assert from 'node:assert/strict'
import { test } from 'node:test'

import { RecentEvents } from './recent.ts'

/** Events of 10 bytes each at these positions. */
function recent(...positions: readonly number[]): RecentEvents {
  const events = new RecentEvents(0, { maxEvents: 100, maxBytes: 1000 })
  for (const position of positions)
    events.add({ position, audience: { kind: 'all' }, bytes: new Uint8Array(10) }, 10)
  return events
}

test('a slice ends at the limit of events or of bytes, whichever comes first, and never within a position', () => {
  const slice = (limit: number, maxBytes: number): unknown => {
    const found = recent(1, 2, 2, 2, 3, 4).after(0, { limit, maxBytes }, 4)
    return [found?.events.length, found?.upTo]
  }
  assert.deepEqual(slice(1, 1000), [1, 1])
  assert.deepEqual(slice(2, 1000), [4, 2])
  assert.deepEqual(slice(5, 1000), [5, 3])
  assert.deepEqual(slice(100, 1000), [6, 4])
  assert.deepEqual(slice(100, 1), [1, 1])
  assert.deepEqual(slice(100, 11), [4, 2])
  assert.deepEqual(slice(100, 41), [5, 3])
})

test('what is no longer there is asked for elsewhere', () => {
  const events = new RecentEvents(0, { maxEvents: 2, maxBytes: 1000 })
  for (let position = 1; position <= 3; position += 1)
    events.add({ position, audience: { kind: 'all' }, bytes: new Uint8Array(1) }, 1)
  const limits = { limit: 10, maxBytes: 1000 }
  assert.equal(events.after(0, limits, 3), null)
  assert.equal(events.after(1, limits, 3)?.events.length, 2)
})
