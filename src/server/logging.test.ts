import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
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
