import assert from 'node:assert/strict'
import { test } from 'node:test'
import { statusResponse, type StatusParts } from './status.ts'

/** Of a cluster with this replica alone; what is not named says nothing here. */
function problemOf(
  problem: string,
  log: { readonly full: boolean },
  stalled: boolean,
  clockProblem: string,
): string {
  const member = { id: 1, voter: true, address: 'h:1', reachable: true }
  const parts = {
    log: { self: 1, leader: 1, faultModel: 'majority', waitingFor: [], members: [member], ...log },
    due: { messages: 0, bytes: 0 },
    vitals: { problem },
    stalled,
    clockProblem,
    problemWith: () => '',
  }
  return statusResponse(parts as unknown as StatusParts).replicas[0]?.problem ?? ''
}

test('what is always wrong with a replica hides nothing that is wrong with it just now', () => {
  const full = 'the disk has no space left'
  const insecure = '--insecure: r1 speaks plain text'
  assert.equal(problemOf('', { full: false }, false, ''), '')
  assert.equal(problemOf('', { full: true }, false, ''), full)
  assert.equal(
    problemOf(insecure, { full: true }, false, 'its clock is wrong'),
    `${full}; its clock is wrong; ${insecure}`,
  )
  assert.match(problemOf(insecure, { full: false }, true, ''), /^nothing is written: .*; --insecure/)
})
