// A cluster is upgraded while people talk, one replica after the other. The older version is this one made to speak as the one before did; or, with PARLEY_PREVIOUS, the one in
// that folder: a checkout of it, with its node_modules.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { newestVersion } from '../src/base/version.ts'
import { createClient, ParleyError, type Client } from '../src/client/index.ts'
import { Policy } from '../src/gen/parley/v1/model.ts'
import { startCluster } from './support/cluster.ts'
import { Ledger, until } from './support/ledger.ts'
import { addReplica, asOperator, known, removeReplica, untilVoter } from './support/member.ts'
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

/** Somebody who writes long messages into a room that nobody else is in. */
class Writer {
  private readonly client: Client

  constructor(addresses: readonly string[]) {
    this.client = createClient({ addresses, timeoutMs: 30_000 })
  }

  async write(until: () => Promise<boolean>): Promise<void> {
    await this.client.register({ name: 'writer', password })
    const created = await this.client.call('createRoom', { name: 'long' })
    const room = created.conversation?.id ?? 0
    const to = { target: { $case: 'conversation', value: room } } as const
    const text = 'x'.repeat(16_000)
    while (!(await until()))
      await Promise.all(Array.from({ length: 20 }, () => this.client.call('sendMessage', { to, text })))
  }

  [Symbol.dispose](): void {
    this.client.close()
  }
}

/** The reason that the cluster gives for not doing it; 'done' when it was done. */
async function outcome(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'done'
  } catch (error) {
    if (error instanceof ParleyError) return error.reason
    throw error
  }
}

test('while a cluster is upgraded replicas are added, removed, handed leadership and given copies of the state, but for what an earlier version could not follow: that is refused', async () => {
  const upgraded = new Set<number>()
  // A short log, so that a replica that was away needs a copy of the state.
  await using cluster = await startCluster({
    replicas: 3,
    command: (id, command) => (upgraded.has(id) || id > 3 ? command : asBefore(command)),
    environment: { PARLEY_LOG_MIB: '1' },
  })
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(6)
  ledger.start(4)
  await ledger.progress(200)
  const restart = async (id: number): Promise<void> => {
    await cluster.end(id, 'SIGTERM')
    cluster.start(id)
    await cluster.untilServing(3)
    await ledger.progress(100)
  }
  const upgrade = (id: number): Promise<void> => {
    upgraded.add(id)
    return restart(id)
  }
  const transfer = (to: number, by: number): Promise<string> =>
    outcome(asOperator(cluster, (client) => client.call('transferLeadership', { replica: to }), by))

  // One that leads and is of the earlier version cannot be asked for anything, and is not disturbed.
  const first = [1, 2, 3].find((id) => id !== cluster.leader()) ?? 0
  await upgrade(first)
  while (upgraded.has(await cluster.untilServing(3))) await restart(cluster.leader())
  assert.equal(await outcome(addReplica(cluster, { by: first })), 'REASON_UPGRADE_PENDING')
  assert.equal(await transfer(first, first), 'REASON_UPGRADE_PENDING')
  await ledger.progress(200)

  const second = cluster.leader()
  await upgrade(second)
  const old = [1, 2, 3].find((id) => !upgraded.has(id)) ?? 0
  if (cluster.leader() === old) await restart(old)
  assert.ok(upgraded.has(await cluster.untilServing(3)))

  // Was away for longer than the log reaches back.
  await cluster.end(old, 'SIGKILL')
  const { lastIndex = 0 } = (await known(cluster, first)) ?? {}
  using writer = new Writer(cluster.addresses)
  await writer.write(async () => ((await known(cluster, cluster.leader()))?.firstIndex ?? 0) > lastIndex)
  cluster.start(old)
  await cluster.untilServing(3)
  const logOf = (id: number): string => readFileSync(join(cluster.dataOf(id), 'parley.log'), 'utf8')
  await until(
    () => logOf(old).includes('a copy of the state is complete'),
    'the old one takes over a copy of a new one',
    60_000,
  )
  await ledger.progress(200)

  const added = await addReplica(cluster)
  await untilVoter(cluster, added)
  await ledger.progress(200)
  // That its id was given would have to be remembered in a way that the old one cannot read.
  assert.equal(await outcome(removeReplica(cluster, added)), 'REASON_UPGRADE_PENDING')
  assert.equal(await transfer(old, first), 'done')
  await ledger.progress(200)
  assert.equal(await transfer(first, first), 'REASON_UPGRADE_PENDING')
  for (const { id } of cluster.replicas) assert.doesNotMatch(logOf(id), /malformed/)

  // The old one is lost: without it all are upgraded.
  await cluster.end(old, 'SIGKILL')
  await cluster.untilServing(3)
  await removeReplica(cluster, old)
  cluster.forget(old)
  await ledger.progress(200)
  const versionInUse = async (): Promise<number> =>
    (await asOperator(cluster, (client) => client.call('getStatus', {}))).versionInUse
  await until(async () => (await versionInUse()) === newestVersion, 'all who are left know', 30_000)
  assert.equal(await outcome(removeReplica(cluster, added)), 'done')
  assert.equal(await cluster.untilEnded(added), 3)
  cluster.forget(added)
  await ledger.progress(200)
  await ledger.stop()
  await ledger.check(cluster.addresses)
})
