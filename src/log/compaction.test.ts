import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Entry, Index } from '../raft/types.ts'
import { Compaction } from './compaction.ts'

const mebibyte = 1024 * 1024
const options = {
  afterBytes: 8 * mebibyte,
  afterEntries: 1000,
  keepBytes: 4 * mebibyte,
  mostBytes: 20 * mebibyte,
  markBytes: mebibyte,
}

function compaction(): Compaction {
  return new Compaction(options, { startIndex: 0, lastIndex: 0, sizeBytes: 0 })
}

/** Entries of about a mebibyte each. */
function write(log: Compaction, from: Index, to: Index): void {
  const data = new Uint8Array(mebibyte)
  for (let index = from; index <= to; index += 1) log.written([{ kind: 'data', term: 1, index, data }])
}

function checked(log: Compaction, facts: Partial<Parameters<Compaction['checked']>[0]> = {}): Index | null {
  return log.checked({
    durableIndex: 1000,
    neededFrom: Number.POSITIVE_INFINITY,
    startIndex: 0,
    sizeBytes: 10 * mebibyte,
    ...facts,
  })
}

test('the log is shortened after so many bytes or so many entries', () => {
  const log = compaction()
  write(log, 1, 7)
  assert.equal(log.due(0), false)
  write(log, 8, 8)
  assert.equal(log.due(0), true)
  assert.equal(log.due(0), false, 'one checkpoint at a time')
  const many = compaction()
  many.written(Array.from({ length: 1000 }, (_, i): Entry => ({ kind: 'noop', term: 1, index: i + 1 })))
  assert.equal(many.due(0), true)
})

test('a checkpoint that is never done is asked for again', () => {
  const log = compaction()
  write(log, 1, 8)
  assert.equal(log.due(0), true)
  assert.equal(log.due(59_000), false)
  assert.equal(log.due(61_000), true)
})

test('the newest part is kept for followers that fall behind for a while', () => {
  const log = compaction()
  write(log, 1, 10)
  assert.equal(checked(log), 6)
})

test('nothing is dropped that is not safe in the state', () => {
  const log = compaction()
  write(log, 1, 10)
  assert.equal(checked(log, { durableIndex: 3 }), 3)
})

test('nothing is dropped that a follower on its way still needs, unless the log grows out of bounds', () => {
  const log = compaction()
  write(log, 1, 10)
  assert.equal(checked(log, { neededFrom: 2 }), 2)
  assert.equal(checked(log, { neededFrom: 2, sizeBytes: 21 * mebibyte }), 6)
})

test('what was there at start counts too, and may go', () => {
  const log = new Compaction(options, { startIndex: 100, lastIndex: 200, sizeBytes: 10 * mebibyte })
  assert.equal(log.due(0), true)
  assert.equal(checked(log, { startIndex: 100 }), 160)
  assert.equal(log.due(0), false)
  assert.equal(checked(log, { startIndex: 160 }), null, 'there is nothing more to drop')
})

test('an overwritten part of the log is no place to cut at', () => {
  const log = compaction()
  write(log, 1, 10)
  write(log, 4, 4)
  assert.equal(checked(log), 3)
})
