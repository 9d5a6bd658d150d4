import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startCluster } from './support/cluster.ts'
import { Ledger } from './support/ledger.ts'
import { addReplica, removeReplica, untilVoter } from './support/member.ts'

test('a cluster grows from one to three replicas and loses its first under load: nothing is lost, and clients find the others by themselves', async () => {
  await using cluster = await startCluster({ replicas: 1 })
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(3)
  ledger.start(2)
  await ledger.progress(50)
  assert.equal(await addReplica(cluster), 2)
  await untilVoter(cluster, 2)
  assert.equal(await addReplica(cluster), 3)
  await untilVoter(cluster, 3)
  await ledger.progress(50)

  // The only address that the clients were given.
  await removeReplica(cluster, 1)
  assert.equal(await cluster.untilEnded(1), 3)
  assert.match(cluster.lines.join('\n'), /r1: r1 ends: it was removed from the cluster/)
  await ledger.progress(50)
  await ledger.stop()
  await ledger.check(cluster.addresses.slice(1))
})
