import assert from 'node:assert/strict'
import { chownSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { orderRecovery } from './outage.ts'

const isRoot = process.getuid?.() === 0

test(
  'the order to recover that root gives can be read by a replica that runs as another user',
  { skip: isRoot ? false : 'only root gives files to others' },
  (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'parley-outage-'))
    t.after(() => rmSync(folder, { recursive: true }))
    chownSync(folder, 65_534, 65_534)
    orderRecovery(folder, { version: 1, replica: 'r1', waitingFor: ['r3'], term: 1, lastIndex: 1 })
    assert.deepEqual(readdirSync(folder), ['recover.json'])
    const { uid, mode } = statSync(join(folder, 'recover.json'))
    assert.deepEqual([uid, mode & 0o777], [65_534, 0o600])
  },
)
