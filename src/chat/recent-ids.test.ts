import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { makeUuidV7 } from '../base/ids.ts'
import { RecentIds } from './recent-ids.ts'

const startMs = 1_700_000_000_000

test('an id that was added is never taken for a new one, however many come after it', () => {
  const recent = new RecentIds()
  recent.clear(startMs)
  const added: { readonly id: Uint8Array; readonly timeMs: number }[] = []
  for (let i = 1; i <= 80_000; i += 1) {
    // Clocks of clients differ: by up to a minute here.
    const timeMs = startMs + i + ((i * 7919) % 60_000)
    const id = makeUuidV7(timeMs, randomBytes(10))
    recent.add(id, timeMs)
    added.push({ id, timeMs })
  }
  const missed = added.filter(({ id, timeMs }) => !recent.mayHave(id, timeMs))
  assert.deepEqual(missed, [])
})

test('nearly all new ids are told to be new', () => {
  const recent = new RecentIds()
  recent.clear(startMs)
  let doubtful = 0
  for (let timeMs = startMs + 1; timeMs <= startMs + 80_000; timeMs += 1) {
    const id = makeUuidV7(timeMs, randomBytes(10))
    if (recent.mayHave(id, timeMs)) doubtful += 1
    recent.add(id, timeMs)
  }
  assert.ok(doubtful < 1000, `${doubtful} of 80,000`)
})

test('ids from before the start may have been used', () => {
  const recent = new RecentIds()
  recent.clear(startMs)
  const id = makeUuidV7(startMs, randomBytes(10))
  assert.equal(recent.mayHave(id, startMs), true)
  assert.equal(recent.mayHave(id, startMs + 1), false)
})
