import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAttempts } from './attempts.ts'

function setUp() {
  let nowMs = 1_000_000
  const attempts = createAttempts({
    monotonicMs: () => nowMs,
    wallMs: () => nowMs,
    after: () => () => undefined,
    soon: () => undefined,
  })
  return { attempts, advance: (ms: number) => (nowMs += ms) }
}

function fail(attempts: ReturnType<typeof createAttempts>, key: string, times: number): void {
  for (let i = 0; i < times; i += 1) attempts.failed(key)
}

test('the first wrong passwords cost nothing, and each after them doubles the wait up to a minute', () => {
  const { attempts } = setUp()
  fail(attempts, 'bob', 4)
  assert.equal(attempts.waitMs('bob'), 0)
  const waits = Array.from({ length: 8 }, () => {
    attempts.failed('bob')
    return attempts.waitMs('bob')
  })
  assert.deepEqual(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000])
})

test('a wait passes', () => {
  const { attempts, advance } = setUp()
  fail(attempts, 'bob', 6)
  advance(1999)
  assert.equal(attempts.waitMs('bob'), 1)
  advance(1)
  assert.equal(attempts.waitMs('bob'), 0)
})

test('a right password, or a quarter of an hour without a wrong one, clears the account', () => {
  const { attempts, advance } = setUp()
  fail(attempts, 'bob', 7)
  attempts.succeeded('bob')
  assert.equal(attempts.waitMs('bob'), 0)
  fail(attempts, 'eve', 7)
  advance(15 * 60_000 + 1)
  attempts.failed('eve')
  assert.equal(attempts.waitMs('eve'), 0)
})

test('one account does not make another one wait', () => {
  const { attempts } = setUp()
  fail(attempts, 'bob', 20)
  assert.equal(attempts.waitMs('eve'), 0)
})

test('however many names are tried, the memory for them is bounded', () => {
  const { attempts } = setUp()
  fail(attempts, 'bob', 6)
  for (let i = 0; i < 10_000; i += 1) attempts.failed(`name-${i}`)
  assert.equal(attempts.waitMs('bob'), 0)
  assert.equal(attempts.waitMs('name-9999'), 0)
})
