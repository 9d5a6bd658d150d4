import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Clock } from '../base/clock.ts'
import { removeFile } from './remove-file.ts'

const megabyte = 1024 * 1024

function place(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'parley-remove-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return join(folder, 'file')
}

function fileOf(path: string, bytes: number): void {
  writeFileSync(path, '')
  truncateSync(path, bytes)
}

/** Time passes at once; `rested` is called whenever somebody rests. */
const clockThat = (rested: () => void): Clock => ({
  monotonicMs: () => 0,
  wallMs: () => 0,
  soon: setImmediate,
  after(_delayMs, callback) {
    rested()
    setImmediate(callback)
    return () => undefined
  },
})

test('a large file is removed in pieces of 8 MiB, with a rest after each', async (t) => {
  const path = place(t)
  fileOf(path, 30 * megabyte)
  const sizes: number[] = []
  const clock = clockThat(() => sizes.push(statSync(path).size / megabyte))
  await removeFile(path, clock, () => false)
  assert.deepEqual(sizes, [22, 14, 6])
  assert.equal(existsSync(path), false)
})

test('the rest is removed in one go when there is no time', async (t) => {
  const path = place(t)
  fileOf(path, 300 * megabyte)
  let rests = 0
  const clock = clockThat(() => (rests += 1))
  await removeFile(path, clock, () => rests === 2)
  assert.equal(rests, 2)
  assert.equal(existsSync(path), false)
})

test('a file that is not there is removed', async (t) => {
  const path = place(t)
  await removeFile(path, clockThat(assert.fail), () => false)
  assert.equal(existsSync(path), false)
})
