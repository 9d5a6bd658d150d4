import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAttempts, type Attempt } from './attempts.ts'

function setUp() {
  let nowMs = 1_000_000
  const attempts = createAttempts({
    monotonicMs: () => nowMs,
    wallMs: () => nowMs,
    after: () => () => undefined,
    soon: () => undefined,
  })
  return {
    /** Lets one in, which must not have to wait. */
    async begin(key: string): Promise<Attempt> {
      const admission = await attempts.begin(key)
      assert.ok(admission.kind === 'begun')
      return admission.attempt
    },
    /** So many wrong passwords, each as soon as may be. */
    async fail(key: string, times: number): Promise<void> {
      for (let i = 0; i < times; i += 1) {
        let admission = await attempts.begin(key)
        if (admission.kind === 'mustWait') {
          nowMs += admission.waitMs
          admission = await attempts.begin(key)
        }
        assert.ok(admission.kind === 'begun')
        admission.attempt.failed()
      }
    },
    async waitMs(key: string): Promise<number> {
      const admission = await attempts.begin(key)
      if (admission.kind === 'mustWait') return admission.waitMs
      admission.attempt.ended()
      return 0
    },
    /** Begins so many at once; the list grows as they are let in, or told to wait. */
    beginAtOnce(key: string, times: number) {
      const begun: Attempt[] = []
      const waits: number[] = []
      for (let i = 0; i < times; i += 1)
        void attempts.begin(key).then((admission) => {
          if (admission.kind === 'begun') begun.push(admission.attempt)
          else waits.push(admission.waitMs)
        })
      return { begun, waits }
    },
    advance(ms: number): void {
      nowMs += ms
    },
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve))

test('the first wrong passwords cost nothing, and each after them doubles the wait up to a minute', async () => {
  const { fail, waitMs } = setUp()
  await fail('bob', 4)
  assert.equal(await waitMs('bob'), 0)
  const waits: number[] = []
  for (let i = 0; i < 8; i += 1) {
    await fail('bob', 1)
    waits.push(await waitMs('bob'))
  }
  assert.deepEqual(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000])
})

test('a wait passes', async () => {
  const { fail, waitMs, advance } = setUp()
  await fail('bob', 6)
  advance(1999)
  assert.equal(await waitMs('bob'), 1)
  advance(1)
  assert.equal(await waitMs('bob'), 0)
})

test('a right password, or a quarter of an hour without a wrong one, clears the account', async () => {
  const { begin, fail, waitMs, advance } = setUp()
  await fail('bob', 7)
  advance(4000)
  ;(await begin('bob')).succeeded()
  await fail('bob', 4)
  assert.equal(await waitMs('bob'), 0)
  await fail('eve', 7)
  advance(15 * 60_000 + 1)
  await fail('eve', 1)
  assert.equal(await waitMs('eve'), 0)
})

test('one account does not make another one wait', async () => {
  const { fail, waitMs } = setUp()
  await fail('bob', 20)
  assert.equal(await waitMs('eve'), 0)
})

test('however many names are tried, the memory for them is bounded', async () => {
  const { fail, waitMs } = setUp()
  await fail('bob', 6)
  for (let i = 0; i < 10_000; i += 1) await fail(`name-${i}`, 1)
  assert.equal(await waitMs('bob'), 0)
  assert.equal(await waitMs('name-9999'), 0)
})

test('wrong passwords at once come no further than one after another', async () => {
  const { beginAtOnce, advance } = setUp()
  const first = beginAtOnce('bob', 60)
  await settled()
  assert.equal(first.begun.length, 5)
  assert.deepEqual(first.waits, [])
  for (const attempt of first.begun) attempt.failed()
  await settled()
  assert.equal(first.begun.length, 5)
  assert.deepEqual(
    first.waits,
    Array.from({ length: 55 }, () => 1000),
  )
  advance(1000)
  const second = beginAtOnce('bob', 60)
  await settled()
  assert.equal(second.begun.length, 1)
  second.begun[0]?.failed()
  await settled()
  assert.deepEqual(
    second.waits,
    Array.from({ length: 59 }, () => 2000),
  )
})

test('right passwords at once are all let in', async () => {
  const { beginAtOnce } = setUp()
  const { begun, waits } = beginAtOnce('bob', 60)
  for (let i = 0; i < 60; i += 1) {
    await settled()
    begun[i]?.succeeded()
  }
  assert.equal(begun.length, 60)
  assert.deepEqual(waits, [])
})

test('a right password forgives the wrong ones before it, and none that is still under way', async () => {
  const { begin, beginAtOnce, fail, waitMs } = setUp()
  await fail('bob', 2)
  const guesses = beginAtOnce('bob', 2)
  ;(await begin('bob')).succeeded()
  for (const attempt of guesses.begun) attempt.failed()
  await fail('bob', 2)
  assert.equal(await waitMs('bob'), 0)
  await fail('bob', 1)
  assert.equal(await waitMs('bob'), 1000)
})

test('an attempt that ends without a verdict counts neither way, and makes room for one that is held', async () => {
  const { begin, beginAtOnce, fail, waitMs } = setUp()
  await fail('bob', 4)
  const unknown = await begin('bob')
  const held = beginAtOnce('bob', 1)
  await settled()
  assert.equal(held.begun.length, 0)
  unknown.ended()
  unknown.failed()
  await settled()
  held.begun[0]?.failed()
  assert.equal(await waitMs('bob'), 1000)
})
