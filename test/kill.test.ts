import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startCluster } from './support/cluster.ts'
import { Ledger } from './support/ledger.ts'
import { checkSameState } from './support/state.ts'

test('the leader is killed, then its successor, then two at once, under load: all that was acknowledged is there once and in order', async () => {
  await using cluster = await startCluster()
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(10)
  ledger.start(2)
  await ledger.progress(100)

  const first = cluster.leader()
  await cluster.end(first, 'SIGKILL')
  await ledger.progress(100)
  const second = await cluster.untilServing()
  assert.notEqual(second, first)
  await cluster.end(second, 'SIGKILL')
  await ledger.progress(100)
  cluster.start(first, second)
  await cluster.untilServing(5)

  const leader = cluster.leader()
  const follower = cluster.replicas.map(({ id }) => id).find((id) => id !== leader) ?? 0
  await Promise.all([cluster.end(leader, 'SIGKILL'), cluster.end(follower, 'SIGKILL')])
  await ledger.progress(100)
  cluster.start(leader, follower)
  await cluster.untilServing(5)

  await ledger.stop()
  await ledger.check(cluster.addresses)
  assert.ok((await checkSameState(cluster)) >= 3)
})
