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

test('all are killed at once and start again, one after another, under load: all that was acknowledged is there', async () => {
  await using cluster = await startCluster()
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(4)
  ledger.start(2)
  await ledger.progress(200)
  const ids = cluster.replicas.map(({ id }) => id)
  await Promise.all(ids.map((id) => cluster.end(id, 'SIGKILL')))
  for (const id of [...ids].reverse()) cluster.start(id)
  await cluster.untilServing(5)
  await ledger.progress(100)
  await ledger.stop()
  await ledger.check(cluster.addresses)
  assert.ok((await checkSameState(cluster)) >= 3)
})

test('two of five that start again are no quorum: they serve no write, and lose nothing once a third is back', async () => {
  await using cluster = await startCluster()
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(3)
  ledger.start(1)
  await ledger.progress(50)
  await Promise.all(cluster.replicas.map(({ id }) => cluster.end(id, 'SIGKILL')))
  const before = ledger.acknowledgedCount
  cluster.start(2, 4)
  await Promise.all([2, 4].map((id) => untilReadable(cluster.replicas[id - 1]?.http ?? '')))
  assert.equal(ledger.acknowledgedCount, before, 'a minority acknowledges nothing')
  cluster.start(5)
  await cluster.untilServing(3)
  await ledger.progress(50)
  cluster.start(1, 3)
  await cluster.untilServing(5)
  await ledger.stop()
  await ledger.check(cluster.addresses)
})

/** Resolves when the replica says why it is not ready. */
async function untilReadable(address: string): Promise<void> {
  for (;;) {
    try {
      const response = await fetch(`http://${address}/readyz`)
      assert.equal(response.status, 503)
      assert.match(await response.text(), /no quorum/)
      return
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}
