// A cluster is upgraded while people talk, one replica after the other. The older version is this one made to speak as the one before did; or, with PARLEY_PREVIOUS, the one in
// that folder: a checkout of it, with its node_modules.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { newestVersion } from '../src/base/version.ts'
import { createClient, ParleyError, type Client } from '../src/client/index.ts'
import { Policy } from '../src/gen/parley/v1/model.ts'
import { startCluster } from './support/cluster.ts'
import { Ledger, until } from './support/ledger.ts'
import { checkSameState } from './support/state.ts'

const previous = process.env['PARLEY_PREVIOUS'] ?? ''
const ids = [1, 2, 3, 4, 5] as const
const password = 'a password for tests'

/** The command line that starts the version before this one. */
function asBefore(command: readonly string[]): readonly string[] {
  if (previous === '') return ['env', `PARLEY_TEST_NEWEST_VERSION=${newestVersion - 1}`, ...command]
  return command.map((word) => (word.endsWith('/bin/parley.js') ? join(previous, 'bin/parley.js') : word))
}

async function setRetention(client: Client): Promise<string> {
  const policy = Policy.fromPartial({ retentionS: 365 * 86_400 })
  try {
    await client.call('setPolicy', { policy, fields: ['retention_s'] }, { timeoutMs: 4000 })
    return 'done'
  } catch (error) {
    if (error instanceof ParleyError) return error.reason
    throw error
  }
}

test('five replicas are upgraded one after the other under load, and new commands are taken only when all know them', async (t) => {
  const upgraded = new Set<number>()
  await using cluster = await startCluster({
    command: (id, command) => (upgraded.has(id) ? command : asBefore(command)),
  })
  const admin = createClient({ addresses: cluster.addresses, timeoutMs: 60_000 })
  using ledger = new Ledger(cluster.addresses)
  try {
    // The first account is the administrator.
    const { token } = await admin.register({ name: 'admin', password })
    await ledger.open(10)
    ledger.start(2)
    await ledger.progress(200)
    for (const id of ids) {
      // Every other one is not even told.
      await cluster.end(id, id % 2 === 0 ? 'SIGKILL' : 'SIGTERM')
      await ledger.progress(200)
      upgraded.add(id)
      cluster.start(id)
      await cluster.untilServing(5)
      await ledger.progress(200)
      const own = createClient({ addresses: [cluster.addresses[id - 1] ?? ''], discover: false, token })
      try {
        if (upgraded.size < 5) assert.equal(await setRetention(own), 'REASON_UPGRADE_PENDING')
      } finally {
        own.close()
      }
    }
    await until(
      async () => (await admin.call('getStatus', {})).versionInUse === newestVersion,
      'all know that all are upgraded',
      30_000,
    )
    assert.equal(await setRetention(admin), 'done')
    await ledger.progress(200)

    // The way back is closed, in words.
    await cluster.end(3, 'SIGTERM')
    upgraded.delete(3)
    cluster.start(3)
    await cluster.untilEnded(3)
    assert.match(cluster.lines.slice(-5).join('\n'), /version|format/)
    upgraded.add(3)
    cluster.start(3)
    await cluster.untilServing(5)

    await ledger.progress(200)
    await ledger.stop()
    await ledger.check(cluster.addresses)
    assert.ok((await checkSameState(cluster)) >= 3)
    t.diagnostic(
      `${ledger.acknowledgedCount} messages acknowledged, upgraded from ${previous || 'a simulated version'}`,
    )
  } finally {
    admin.close()
  }
})
