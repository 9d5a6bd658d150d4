import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createLogger } from './logging.ts'

const full = '/dev/full'

test(
  'a log that finds no space on the disk is lost, and the replica lives on',
  { skip: existsSync(full) ? false : `there is no ${full}` },
  async () => {
    const data = mkdtempSync(join(tmpdir(), 'parley-logging-'))
    try {
      symlinkSync(full, join(data, 'parley.log'))
      const logger = createLogger({ data, log: 'file', logLevel: 'info' }, 'r1', () => undefined)
      assert.doesNotThrow(() => {
        logger.warn({}, 'first')
        logger.warn({}, 'second')
      })
      await new Promise(setImmediate)
    } finally {
      rmSync(data, { recursive: true })
    }
  },
)

test('an error is logged with what it says and where it came from, and nothing else of it', (t) => {
  const data = mkdtempSync(join(tmpdir(), 'parley-logging-'))
  t.after(() => rmSync(data, { recursive: true }))
  const logger = createLogger({ data, log: 'file', logLevel: 'info' }, 'r1', () => undefined)
  const error = Object.assign(new TypeError('it broke', { cause: new Error('the disk did') }), {
    password: 'x',
  })
  logger.error({ error }, 'a request failed')
  logger.error({ error: 'in words' }, 'a backup failed')
  const [first, second] = readFileSync(join(data, 'parley.log'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { readonly error: Readonly<Record<string, string>> | string }).error)
  assert.ok(typeof first === 'object')
  assert.deepEqual(Object.keys(first), ['message', 'stack'])
  assert.equal(first['message'], 'it broke: the disk did')
  assert.match(
    first['stack'] ?? '',
    /^TypeError: it broke\n +at .*logging\.test\.ts[^]*Error: the disk did\n/,
  )
  assert.equal(second, 'in words')
})

test('a line of the log for people shows what an error says', () => {
  const lines: string[] = []
  const logger = createLogger({ data: '', log: 'stderr', logLevel: 'info' }, 'r1', (line) => lines.push(line))
  logger.error({ error: new Error('it broke') }, 'a request failed')
  assert.match(
    lines.join('\n'),
    / r1 ERROR a request failed error=\{"message":"it broke","stack":"Error: it broke/,
  )
})
