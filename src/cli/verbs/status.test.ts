import assert from 'node:assert/strict'
import { test } from 'node:test'

import { GetStatusResponse } from '../../gen/parley/v1/service.ts'
import { paint } from '../text.ts'
import { statusReport, type Answer } from './status.ts'

/** `problems`: what the replica knows to be wrong with each of the three. */
function answerOf(replica: number, problems: readonly [string, string, string]): Answer {
  const status = GetStatusResponse.create({
    replica,
    leader: 3,
    quorum: true,
    replicas: problems.map((problem, at) => ({
      id: at + 1,
      role: at + 1 === 3 ? 'leader' : 'follower',
      problem,
    })),
  })
  return { address: `127.0.0.1:${7000 + replica}`, status, latencyMs: 1 }
}

function rowsOf(...answers: readonly Answer[]): readonly string[] {
  const best = answers.at(-1)?.status
  assert.ok(best !== undefined)
  const byReplica = new Map(answers.map((answer) => [answer.status.replica, answer]))
  return statusReport(best, byReplica, paint(false), Infinity).lines
}

test('of a replica that does not answer it shows what is wrong, whichever of the others knows', () => {
  const rows = rowsOf(answerOf(2, ['r1 was refused: an old copy', '', '']), answerOf(3, ['', '', '']))
  assert.match(rows[1] ?? '', /^r1 +not reachable .*r1 was refused: an old copy/)
  assert.doesNotMatch(rows[2] ?? '', /refused/)
})

test('what a replica says of itself counts more than what others say of it', () => {
  const rows = rowsOf(
    answerOf(2, ['', 'the disk has no space left', '']),
    answerOf(3, ['', 'r2 was refused', '']),
  )
  assert.match(rows[2] ?? '', /^r2 +follower .*the disk has no space left/)
  assert.ok(!rows.join('\n').includes('refused'))
})
