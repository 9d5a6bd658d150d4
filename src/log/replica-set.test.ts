import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ReplicaId } from '../base/ids.ts'
import type { ChangeRefusal, Configuration, ConfigurationChange } from '../raft/types.ts'
import type { ReplicaSetChange, ReplicaSetResult } from './port.ts'
import { changeReplicaSet } from './replica-set.ts'
import { VirtualClock } from './testing.ts'

const two: Configuration = {
  faultModel: 'majority',
  members: [
    { id: 1, voter: true, address: 'a1' },
    { id: 2, voter: false, address: 'a2' },
  ],
}

interface Outcome {
  readonly result: ReplicaSetResult
  readonly asked: readonly ConfigurationChange[]
  /** Who was to take leadership, one attempt after another. */
  readonly named: readonly ReplicaId[]
}

/**
 * What came of it when the log answered the attempts like this, one after another; `never`: not at all.
 *
 * @param refusals how often replica 1 does not take leadership before it does.
 */
async function run(
  wanted: ReplicaSetChange,
  answers: readonly (ChangeRefusal | 'done' | 'never')[],
  configuration: Configuration = two,
  { refusals = 0, reachable = true, applied = configuration } = {},
): Promise<Outcome> {
  const clock = new VirtualClock()
  const asked: ConfigurationChange[] = []
  const named: ReplicaId[] = []
  const left = [...answers]
  const results: ReplicaSetResult[] = []
  void changeReplicaSet(wanted, 1000, {
    clock,
    configuration: () => configuration,
    applied: () => applied,
    change(change) {
      asked.push(change)
      const answer = left.shift() ?? 'notLeader'
      return answer === 'never' ? new Promise(() => {}) : Promise.resolve(answer === 'done' ? null : answer)
    },
    transfer(to) {
      named.push(to)
      return Promise.resolve(to === 1 && named.length > refusals ? null : 'notTaken')
    },
    successor: () => 1,
    isReachable: () => reachable,
    handsOverFirst: () => false,
  }).then((result) => results.push(result))
  while (results.length === 0) {
    await new Promise((resolve) => setImmediate(resolve))
    if (results.length === 0) await clock.pass(25)
  }
  return { result: results[0] ?? { ok: false, refused: 'unknown' }, asked, named }
}

const add = { kind: 'add', id: 0, address: 'new' } as const

test('a change waits for a leader, for its term to open and for the change before it', async () => {
  const { result, asked } = await run(add, ['notLeader', 'termNotOpened', 'changeInProgress', 'done'])
  assert.deepEqual(result, { ok: true, id: 3 })
  assert.equal(asked.length, 4)
})

test('a change for which there is no time left says what it waited for', async () => {
  assert.deepEqual((await run(add, [])).result, { ok: false, refused: 'unavailable' })
  const busy = Array.from({ length: 99 }, () => 'changeInProgress' as const)
  assert.deepEqual((await run(add, busy)).result, { ok: false, refused: 'inProgress' })
  assert.deepEqual((await run(add, ['never'])).result, { ok: false, refused: 'unknown' })
  assert.deepEqual((await run(add, ['unanswered'])).result, { ok: false, refused: 'unknown' })
})

test('an id that somebody else was given meanwhile gives way to the next one, unless it was asked for by name', async () => {
  const { result, asked } = await run(add, ['idUsed', 'alreadyMember', 'done'])
  assert.deepEqual(result, { ok: true, id: 3 })
  assert.deepEqual(
    asked.map(({ id }) => id),
    [3, 3, 3],
  )
  assert.deepEqual((await run({ ...add, id: 2 }, ['idUsed'])).result, { ok: false, refused: 'idUsed' })
})

test('a new replica that is a member by its address is not added again, once it is known here that it was', async () => {
  const added: Configuration = { ...two, members: [...two.members, { id: 3, voter: false, address: 'new' }] }
  const known = await run(add, ['alreadyMember', 'done'], added)
  assert.deepEqual(known.result, { ok: false, refused: 'alreadyMember' })
  const early = await run(add, ['alreadyMember', 'done'], added, { applied: two })
  assert.deepEqual(early.result, { ok: true, id: 4 })
})

test('the next id is above all that were ever given', async () => {
  const { asked } = await run(add, ['done'], { ...two, highestId: 7 })
  assert.deepEqual(asked, [{ kind: 'addLearner', id: 8, address: 'new' }])
})

test('a change whose answer was lost is asked for again, and finds that it is done', async () => {
  const added: Configuration = { ...two, members: [...two.members, { id: 3, voter: true, address: 'new' }] }
  const outcomes = await Promise.all([
    run({ ...add, id: 3 }, ['unanswered', 'alreadyMember'], added),
    run({ kind: 'promote', id: 3 }, ['unanswered', 'alreadyMember'], added),
    run({ kind: 'remove', id: 9 }, ['unanswered', 'notMember'], added),
  ])
  assert.deepEqual(
    outcomes.map(({ result }) => result.ok),
    [true, true, true],
  )
})

test('a change that is refused for good is not tried again', async () => {
  for (const refused of ['notCaughtUp', 'quorumAtRisk', 'notMember', 'alreadyMember'] as const) {
    const { result, asked } = await run({ kind: 'promote', id: 2 }, [refused, 'done'])
    assert.deepEqual(result, { ok: false, refused })
    assert.equal(asked.length, 1)
  }
})

test('leadership goes to a voter, which has to take it', async () => {
  const results = await Promise.all(
    [0, 1, 2, 9].map(async (id) => (await run({ kind: 'handOver', id }, [])).result),
  )
  assert.deepEqual(results, [
    { ok: true, id: 1 },
    { ok: true, id: 1 },
    { ok: false, refused: 'notVoter' },
    { ok: false, refused: 'notMember' },
  ])
})

test('who does not take leadership at first is asked again, but not for ever, and not when it cannot be reached', async () => {
  const wanted = { kind: 'handOver', id: 1 } as const
  const late = await run(wanted, [], two, { refusals: 2 })
  assert.deepEqual([late.result, late.named], [{ ok: true, id: 1 }, [1, 1, 1]])
  const never = await run(wanted, [], two, { refusals: 99 })
  assert.deepEqual([never.result, never.named], [{ ok: false, refused: 'notTaken' }, [1, 1, 1]])
  const dead = await run(wanted, [], two, { refusals: 99, reachable: false })
  assert.deepEqual([dead.result, dead.named], [{ ok: false, refused: 'notTaken' }, [1]])
})
