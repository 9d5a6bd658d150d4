import assert from 'node:assert/strict'
import { test } from 'node:test'
import { policyFor } from './quorum.ts'

const policy = policyFor('majority')
const sizes = [1, 2, 3, 4, 5, 6, 7]

/** Counts on the fingers: more than half. */
function isMajority(some: readonly number[], all: readonly number[]): boolean {
  return all.filter((voter) => some.includes(voter)).length * 2 > all.length
}

/** All ways to choose one of `options` for each of `count`. */
function* choices<Option>(options: readonly Option[], count: number): Generator<readonly Option[]> {
  if (count === 0) yield []
  else for (const rest of choices(options, count - 1)) for (const option of options) yield [...rest, option]
}

test('what a majority has reached is found for all sizes and all orders', () => {
  for (const size of sizes) {
    const voters = Array.from({ length: size }, (_, i) => i + 1)
    for (const indexes of choices([0, 1, 2, 3], size)) {
      const has = (index: number) => voters.filter((voter) => (indexes[voter - 1] ?? 0) >= index)
      const expected = [3, 2, 1, 0].find((index) => isMajority(has(index), voters))
      assert.equal(
        policy.reached(voters, (voter) => indexes[voter - 1] ?? 0),
        expected,
      )
    }
  }
})

test('an election is won with a majority and lost when none can come any more', () => {
  for (const size of sizes) {
    const voters = Array.from({ length: size }, (_, i) => i + 1)
    for (const answers of choices(['yes', 'no', 'open', 'suspected'] as const, size)) {
      const votes = new Map<number, boolean>([[99, true]])
      const suspected = new Set<number>()
      for (const [position, answer] of answers.entries()) {
        if (answer === 'yes' || answer === 'no') votes.set(position + 1, answer === 'yes')
        if (answer === 'suspected') suspected.add(position + 1)
      }
      const granted = voters.filter((voter) => answers[voter - 1] === 'yes')
      const possible = voters.filter((voter) => ['yes', 'open'].includes(answers[voter - 1] ?? ''))
      const expected = isMajority(granted, voters) ? 'won' : isMajority(possible, voters) ? 'pending' : 'lost'
      assert.equal(policy.election(voters, votes, suspected), expected)
    }
  }
})

test('a quorum for commit, reads and leading is the same majority, and two majorities share a voter', () => {
  for (const size of sizes) {
    const voters = Array.from({ length: size }, (_, i) => i + 1)
    const quorums: (readonly number[])[] = []
    for (const alive of choices([true, false], size)) {
      const living = voters.filter((voter) => alive[voter - 1] === true)
      const isAlive = (voter: number) => living.includes(voter)
      assert.equal(policy.hasQuorum(voters, isAlive), isMajority(living, voters))
      assert.equal(
        policy.reached(voters, (voter) => (isAlive(voter) ? 1 : 0)),
        isMajority(living, voters) ? 1 : 0,
      )
      if (isMajority(living, voters)) quorums.push(living)
    }
    for (const one of quorums)
      for (const other of quorums) assert.ok(one.some((voter) => other.includes(voter)))
  }
})

test('two of five may fail, one of three or four, and after that some must come back', () => {
  const mayFail = (size: number, dead: number) =>
    policy.mayFail(
      Array.from({ length: size }, (_, i) => i + 1),
      (voter) => voter > dead,
    )
  assert.deepEqual(
    sizes.map((size) => mayFail(size, 0)),
    [0, 0, 1, 1, 2, 2, 3],
  )
  assert.equal(mayFail(5, 2), 0)
  assert.equal(mayFail(5, 4), -2)
})

test('without voters nothing is agreed', () => {
  assert.equal(
    policy.reached([], () => 9),
    0,
  )
  assert.equal(policy.election([], new Map(), new Set()), 'lost')
  assert.equal(
    policy.hasQuorum([], () => true),
    false,
  )
})

const failStop = policyFor('fail-stop')

test('fail-stop: committed is what every voter has', () => {
  for (const size of sizes.slice(0, 5)) {
    const voters = Array.from({ length: size }, (_, i) => i + 1)
    for (const indexes of choices([0, 1, 2], size)) {
      const lowest = indexes.toSorted((a, b) => a - b)[0]
      assert.equal(
        failStop.reached(voters, (voter) => indexes[voter - 1] ?? 0),
        lowest,
      )
    }
  }
})

test('fail-stop: an election needs the vote of every voter, and is lost with the first that refuses or is dead', () => {
  for (const size of sizes.slice(0, 5)) {
    const voters = Array.from({ length: size }, (_, i) => i + 1)
    for (const answers of choices(['yes', 'no', 'open', 'suspected'] as const, size)) {
      const votes = new Map<number, boolean>()
      const suspected = new Set<number>()
      for (const [position, answer] of answers.entries()) {
        if (answer === 'yes' || answer === 'no') votes.set(position + 1, answer === 'yes')
        if (answer === 'suspected') suspected.add(position + 1)
      }
      const possible = answers.every((answer) => answer === 'yes' || answer === 'open')
      const expected = answers.every((answer) => answer === 'yes') ? 'won' : possible ? 'pending' : 'lost'
      assert.equal(failStop.election(voters, votes, suspected), expected)
    }
  }
})

test('fail-stop: all but one may fail; whoever is silent is waited for', () => {
  assert.equal(
    failStop.mayFail([1, 2, 3], () => true),
    2,
  )
  assert.equal(
    failStop.mayFail([3], () => true),
    0,
  )
  const isAlive = (voter: number) => voter === 2
  assert.equal(failStop.mayFail([1, 2, 3], isAlive), -2)
  assert.deepEqual(failStop.waitsFor([1, 2, 3], isAlive), [1, 3])
  assert.equal(failStop.hasQuorum([1, 2, 3], isAlive), false)
})

test('fail-stop: no two replicas campaign in the same term', () => {
  const terms = new Set<number>()
  for (const self of [1, 2, 3, 99, 100])
    for (let term = 0, round = 0; round < 5; round += 1) {
      const next = failStop.termAfter(term, self)
      assert.ok(next > term && next <= term + 100 && !terms.has(next), `${next} after ${term}`)
      terms.add(next)
      term = next
    }
})

test('fail-stop: the dead are left out of the electorate, and only they', () => {
  const members = [
    { id: 1, voter: true, address: '', incarnation: 4 },
    { id: 2, voter: true, address: '', incarnation: 1 },
    { id: 3, voter: false, address: '', incarnation: 1 },
  ]
  const configuration = { faultModel: 'fail-stop', members } as const
  assert.equal(
    failStop.electorate(configuration, ({ id }) => id === 3),
    configuration,
  )
  assert.deepEqual(
    failStop.electorate(configuration, ({ id }) => id === 2).members.filter(({ voter }) => voter),
    [members[0]],
  )
})

test('fail-stop: the end of a log gives way only to a later term, whose leader was a voter of every configuration that goes', () => {
  const of = (...voters: readonly number[]) => ({
    faultModel: 'fail-stop' as const,
    members: [1, 2, 3].map((id) => ({ id, voter: voters.includes(id), address: '', incarnation: 1 })),
  })
  assert.equal(failStop.mayGiveWay({ lastTerm: 201, configurations: [] }, 302), true)
  assert.equal(failStop.mayGiveWay({ lastTerm: 303, configurations: [] }, 302), false)
  assert.equal(failStop.mayGiveWay({ lastTerm: 201, configurations: [of(1, 2)] }, 302), true)
  assert.equal(failStop.mayGiveWay({ lastTerm: 201, configurations: [of(1, 2), of(1)] }, 302), false)
  assert.equal(policy.mayGiveWay({ lastTerm: 9, configurations: [of(1)] }, 2), true)
})
