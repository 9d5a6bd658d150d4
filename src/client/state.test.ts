import assert from 'node:assert/strict'
import { test } from 'node:test'
import { describeState } from './state.ts'

test('people are told where they stand in words', () => {
  const where = { replica: 2, address: 'localhost:7401' }
  assert.equal(describeState({ kind: 'connected', ...where }), 'connected via r2')
  assert.equal(describeState({ kind: 'reconnecting' }), 'reconnecting')
  assert.equal(describeState({ kind: 'noQuorum', ...where, queued: 0 }), 'no quorum: read-only')
  assert.equal(
    describeState({ kind: 'noQuorum', ...where, queued: 1 }),
    'no quorum: read-only, 1 message queued',
  )
  assert.equal(
    describeState({ kind: 'noQuorum', ...where, queued: 2 }),
    'no quorum: read-only, 2 messages queued',
  )
  assert.equal(
    describeState({ kind: 'noQuorum', ...where, queued: 1, waitingFor: [2, 3] }),
    'no quorum: read-only until r2 and r3 are back, 1 message queued',
  )
  assert.match(describeState({ kind: 'signedOut', reason: 'REASON_SESSION_EXPIRED' }), /expired/)
})
