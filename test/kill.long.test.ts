import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startCluster } from './support/cluster.ts'
import { Ledger } from './support/ledger.ts'
import { checkSameState } from './support/state.ts'

const ids = [1, 2, 3, 4, 5] as const

test('any two of five are killed in every order, while ten clients send', async (t) => {
  await using cluster = await startCluster()
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(10)
  ledger.start(1)
  await ledger.progress(100)
  let leadersKilled = 0
  for (const first of ids) {
    for (const second of ids) {
      if (first === second) continue
      for (const id of [first, second]) {
        if (cluster.leader() === id) leadersKilled += 1
        await cluster.end(id, 'SIGKILL')
        await ledger.progress(50)
      }
      cluster.start(first, second)
      await cluster.untilServing(5)
    }
  }
  await ledger.stop()
  assert.ok(leadersKilled > 0, 'a leader was among the killed')
  await ledger.check(cluster.addresses)
  assert.ok((await checkSameState(cluster)) >= 3)
  t.diagnostic(
    `${ledger.acknowledgedCount} messages acknowledged, ${leadersKilled} of 40 killed replicas led`,
  )
})

test('all are killed and start again in every rotation, at once and one after another', async () => {
  await using cluster = await startCluster()
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(4)
  ledger.start(1)
  for (const [round, first] of ids.entries()) {
    await ledger.progress(50)
    const order = [...ids.slice(round), ...ids.slice(0, round)]
    assert.equal(order[0], first)
    await Promise.all(ids.map((id) => cluster.end(id, 'SIGKILL')))
    for (const [at, id] of order.entries()) {
      cluster.start(id)
      // Every other round waits for a leader among the first three before the last two come.
      if (round % 2 === 1 && at === 2) await cluster.untilServing(3)
    }
    await cluster.untilServing(5)
  }
  await ledger.stop()
  await ledger.check(cluster.addresses)
  assert.ok((await checkSameState(cluster)) >= 3)
})

for (const way of ['the log', 'a snapshot'] as const) {
  test(`a replica that was away for 50,000 messages comes back through ${way}`, async (t) => {
    await using cluster = await startCluster({
      // 50,000 messages are some 8 MB of log.
      environment: { PARLEY_LOG_MIB: way === 'the log' ? '64' : '1' },
    })
    using ledger = new Ledger(cluster.addresses)
    await ledger.open(10)
    ledger.start(20)
    await ledger.progress(100)
    const away = cluster.leader() === 5 ? 4 : 5
    await cluster.end(away, 'SIGKILL')
    await ledger.progress(50_000)
    cluster.start(away)
    await cluster.untilServing(5)
    await ledger.progress(1000)
    await ledger.stop()
    await ledger.check(cluster.addresses)
    const took = cluster.lines.length
    assert.ok((await checkSameState(cluster)) >= 3)
    t.diagnostic(`${ledger.acknowledgedCount} messages acknowledged, ${took} lines printed`)
  })
}

test('a rolling restart under load goes unnoticed', async () => {
  await using cluster = await startCluster()
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(10)
  ledger.start(2)
  for (const id of ids) {
    await ledger.progress(100)
    await cluster.end(id, 'SIGTERM')
    await ledger.progress(100)
    cluster.start(id)
    await cluster.untilServing(5)
  }
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
