import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../../src/base/random.ts'
import { describeRound, hitKinds, mostHit, networkKinds, planRound, type PlanOptions } from './plan.ts'

const options: PlanOptions = {
  replicas: 5,
  mayFail: 2,
  kinds: hitKinds,
  smallDisks: [1, 2],
  hasNetwork: true,
  changesMembers: false,
  durationMs: 20_000,
}

const plans = Array.from({ length: 500 }, (_, seed) => planRound(seededRandom(seed), options))

test('the same seed gives the same plan', () => {
  assert.deepEqual(planRound(seededRandom(42), options), planRound(seededRandom(42), options))
  assert.ok(new Set(plans.map((plan) => JSON.stringify(plan))).size > 400)
})

test('no more replicas are hit at a time than may fail, but in rounds that go past it', () => {
  for (const plan of plans)
    if (plan.kind !== 'beyond' && plan.kind !== 'links') assert.ok(mostHit(plan) <= options.mayFail)
  const beyond = plans.filter((plan) => plan.kind === 'beyond')
  assert.ok(beyond.length > 0)
  for (const plan of beyond) assert.ok(mostHit(plan) > options.mayFail)
})

test('every kind of round and of hit comes up, and is told in words', () => {
  assert.deepEqual(
    new Set(plans.map((plan) => plan.kind)),
    new Set(['lanes', 'hunt', 'rolling', 'links', 'beyond']),
  )
  const words = plans.flatMap(describeRound).join('\n')
  for (const kind of hitKinds) assert.match(words, new RegExp(`ms ${kind} `))
})

test('where the replica set changes, who changes counts as one that fails, and every kind of change comes up', () => {
  const changing = Array.from({ length: 200 }, (_, seed) =>
    planRound(seededRandom(seed), { ...options, changesMembers: true }),
  ).filter((plan) => plan.kind === 'members')
  assert.ok(changing.length > 50)
  for (const plan of changing) assert.equal(mostHit(plan), options.mayFail)
  const words = changing.flatMap(describeRound).join('\n')
  for (const kind of ['leave', 'replace', 'transfer']) assert.match(words, new RegExp(`ms ${kind} at seat`))
})

test('without a network nothing is cut and no disk is full', () => {
  const kinds = hitKinds.filter((kind) => !networkKinds.has(kind) && kind !== 'fullDisk')
  for (let seed = 0; seed < 200; seed += 1) {
    const plan = planRound(seededRandom(seed), { ...options, kinds, smallDisks: [], hasNetwork: false })
    assert.notEqual(plan.kind, 'links')
    assert.doesNotMatch(describeRound(plan).join('\n'), /unplug|isolate|shatter|cut|fullDisk/)
  }
})
