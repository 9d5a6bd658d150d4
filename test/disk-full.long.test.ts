import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { appendFileSync, mkdtempSync, rmSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createClient } from '../src/client/index.ts'
import { startCluster } from './support/cluster.ts'
import { Ledger, until } from './support/ledger.ts'
import { checkSameState } from './support/state.ts'

const sizeMib = 160

test('without space on the disk writes are refused in words; with space again all goes on, and nothing is lost', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'parley-small-disk-'))
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMib}m`, 'parley-test', folder])
  if (mounted.status !== 0) {
    rmdirSync(folder)
    t.skip('only root can make a small disk for this test')
    return
  }
  const before = process.env['TMPDIR']
  process.env['TMPDIR'] = folder
  try {
    await using cluster = await startCluster({ environment: { PARLEY_LOG_MIB: '2' } })
    using ledger = new Ledger(cluster.addresses)
    await ledger.open(4)
    ledger.start(8)
    await ledger.progress(500)

    const witness = createClient({ addresses: cluster.addresses, timeoutMs: 2000 })
    t.after(() => witness.close())
    await witness.logIn({ name: 'talker0', password: 'a password for tests' })
    const ballast = join(folder, 'ballast')
    // Each text is another one: what comes twice would be a repetition.
    let witnessed = 0
    fill(ballast)
    // What was preallocated is used up first; what the cluster frees meanwhile is filled again.
    await until(
      async () => {
        fill(ballast)
        const reason = await witness
          .call('sendMessage', {
            to: { target: { $case: 'room', value: 'ledger' } },
            text: `${(witnessed += 1)} ${'x'.repeat(16_000)}`,
          })
          .then(() => 'sent')
          .catch((error: unknown) =>
            error instanceof Error && 'reason' in error ? String(error.reason) : String(error),
          )
        return reason === 'REASON_NO_SPACE'
      },
      'a write is refused for want of space',
      60_000,
    )
    assert.equal(cluster.running.size, 5, `every replica lives on\\n${cluster.lines.join('\\n')}`)
    rmSync(ballast)
    await ledger.progress(500)
    await ledger.stop()
    await ledger.check(cluster.addresses)
    assert.ok((await checkSameState(cluster)) >= 3)
  } finally {
    if (before === undefined) delete process.env['TMPDIR']
    else process.env['TMPDIR'] = before
    spawnSync('umount', [folder])
    rmdirSync(folder)
  }
})

/** Writes until the disk takes no more. */
function fill(path: string): void {
  for (const bytes of [1024 * 1024, 4096]) {
    const block = Buffer.alloc(bytes)
    try {
      for (;;) appendFileSync(path, block)
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error
    }
  }
}
