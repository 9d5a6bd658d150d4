import assert from 'node:assert/strict'
import { test } from 'node:test'

import { GetStatusResponse } from '../../gen/parley/v1/service.ts'
import { paint, widthOf } from '../text.ts'
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

test('what is said below the table fits the terminal without a broken word', () => {
  const answer = answerOf(3, ['', '', ''])
  const status = { ...answer.status, assumption: 'fewer than half of the replicas may fail in any way' }
  const below = (columns: number): readonly string[] => {
    const { lines } = statusReport(status, new Map([[3, answer]]), paint(true), columns)
    return lines.slice(lines.indexOf('') + 1)
  }
  for (const columns of [40, 60, 80])
    for (const line of below(columns)) assert.ok(widthOf(line) <= columns, line)
  assert.deepEqual(below(40).join(' '), below(Infinity).join(' '))
})

test('what a replica says of itself counts more than what others say of it', () => {
  const rows = rowsOf(
    answerOf(2, ['', 'the disk has no space left', '']),
    answerOf(3, ['', 'r2 was refused', '']),
  )
  assert.match(rows[2] ?? '', /^r2 +follower .*the disk has no space left/)
  assert.ok(!rows.join('\n').includes('refused'))
})
