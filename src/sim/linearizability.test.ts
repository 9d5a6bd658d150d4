import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { checkLinearizable, type Operation, type SequentialModel } from './linearizability.ts'

type Input = { readonly kind: 'write'; readonly value: number } | { readonly kind: 'read' }

const register: SequentialModel<number, Input, number> = {
  initial: 0,
  step(state, input, output) {
    if (input.kind === 'write') return input.value
    return output === null || output === state ? state : null
  },
  key: String,
}

test('a read that overlaps a write may see the old value or the new one', () => {
  for (const seen of [0, 1])
    assert.equal(verdict([write(1, 0, 10), read(seen, 5, 6)]), 'linearizable', `sees ${seen}`)
})

test('a read after a write that was answered must see it', () => {
  assert.equal(verdict([write(1, 0, 10), read(0, 11, 12)]), 'violated')
})

test('once a read has seen a write, no later read may miss it', () => {
  assert.equal(verdict([write(1, 0, 100), read(1, 5, 6), read(0, 7, 8)]), 'violated')
  assert.equal(verdict([write(1, 0, 100), read(0, 5, 6), read(1, 7, 8)]), 'linearizable')
})

test('a write without an answer may take effect late', () => {
  assert.equal(verdict([unanswered(1, 0), read(0, 5, 6), read(1, 50, 60)]), 'linearizable')
})

test('a write without an answer may never take effect', () => {
  assert.equal(verdict([unanswered(1, 0), read(0, 5, 6), write(2, 7, 8), read(2, 9, 10)]), 'linearizable')
})

test('a write without an answer takes effect once', () => {
  assert.equal(
    verdict([unanswered(1, 0), read(1, 5, 6), write(2, 7, 8), read(2, 9, 10), read(1, 11, 12)]),
    'violated',
  )
})

test('a write without an answer does not take effect before its call', () => {
  assert.equal(verdict([read(1, 0, 1), unanswered(1, 5)]), 'violated')
})

test('two readers must agree on the order of two writes', () => {
  assert.equal(
    verdict([
      write(1, 0, 100),
      write(2, 0, 100),
      read(1, 10, 11),
      read(2, 20, 21),
      read(2, 10, 11),
      read(1, 20, 21),
    ]),
    'violated',
  )
})

test('a violation names what could be explained and what could not', () => {
  const late = read(0, 11, 12)
  const result = checkLinearizable(register, [write(1, 0, 10), late])
  assert.equal(result.kind, 'violated')
  assert.deepEqual(result.kind === 'violated' ? result.stuck : [], [late])
})

test('the search gives up when it takes too long, and says so', () => {
  const many = Array.from({ length: 12 }, (_, i) => write(i + 1, 0, 100))
  assert.equal(checkLinearizable(register, [...many, read(99, 0, 100)], 1000).kind, 'undecided')
})

test('agrees with trying every order', () => {
  const operation = fc
    .record({
      kind: fc.constantFrom('write' as const, 'read' as const),
      value: fc.integer({ min: 0, max: 2 }),
      from: fc.integer({ min: 0, max: 12 }),
      length: fc.integer({ min: 1, max: 8 }),
      answered: fc.boolean(),
    })
    .map(({ kind, value, from, length, answered }): Operation<Input, number> =>
      kind === 'read'
        ? read(value, from, from + length)
        : answered
          ? write(value, from, from + length)
          : unanswered(value, from),
    )
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 6 }), (operations) => {
      assert.equal(verdict(operations), byTryingAll(operations) ? 'linearizable' : 'violated')
    }),
    { numRuns: 2000 },
  )
})

test('a long history of many clients is decided quickly', () => {
  const operations: Operation<Input, number>[] = []
  for (let i = 0; i < 2000; i += 1)
    operations.push(i % 2 === 0 ? write(i, i * 10, i * 10 + 15) : read(i - 1, i * 10 + 6, i * 10 + 9))
  assert.equal(verdict(operations), 'linearizable')
})

function verdict(operations: readonly Operation<Input, number>[]): string {
  return checkLinearizable(register, operations).kind
}

function write(value: number, calledAt: number, at: number): Operation<Input, number> {
  return { client: 'c', calledAt, returned: { at, output: 0 }, input: { kind: 'write', value } }
}

function unanswered(value: number, calledAt: number): Operation<Input, number> {
  return { client: 'c', calledAt, returned: null, input: { kind: 'write', value } }
}

function read(output: number, calledAt: number, at: number): Operation<Input, number> {
  return { client: 'c', calledAt, returned: { at, output }, input: { kind: 'read' } }
}

function byTryingAll(operations: readonly Operation<Input, number>[]): boolean {
  const attempt = (state: number, left: readonly Operation<Input, number>[]): boolean => {
    if (left.every((operation) => operation.returned === null)) return true
    return left.some((operation) => {
      if (left.some((other) => other.returned !== null && other.returned.at < operation.calledAt))
        return false
      const next = register.step(state, operation.input, operation.returned?.output ?? null)
      return (
        next !== null &&
        attempt(
          next,
          left.filter((other) => other !== operation),
        )
      )
    })
  }
  return attempt(0, operations)
}
