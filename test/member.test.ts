import assert from 'node:assert/strict'
import { cpSync, rmSync } from 'node:fs'
import { test } from 'node:test'

import { Survey } from '../src/cli/verbs/status.ts'
import { createClient } from '../src/client/index.ts'
import { createJoiningFolder, createReplicaFolder } from '../src/server/folders.ts'
import { readClusterFile } from '../src/server/cluster-file.ts'
import { startCluster, type TestCluster } from './support/cluster.ts'
import { Ledger, until } from './support/ledger.ts'
import { addReplica, asOperator, known, removeReplica, untilVoter } from './support/member.ts'
import { freePorts } from './support/ports.ts'

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
  assert.match(printed(cluster), /r1: r1 ends: it was removed from the cluster/)
  await ledger.progress(50)

  // It does not come back, whoever starts it.
  cluster.start(1)
  assert.equal(await cluster.untilEnded(1), 3)
  assert.match(printed(cluster), /r1 was removed from its cluster, and ids are never used again/)
  await ledger.stop()
  await ledger.check(cluster.addresses.slice(1))
})

test('the leader is killed in the middle of a change: it is made or not, and the next one can be made', async () => {
  await using cluster = await startCluster({ replicas: 3 })
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(2)
  ledger.start(2)
  await ledger.progress(20)
  const learner = await addReplica(cluster, { learner: true })
  const leader = cluster.leader()
  const asked = [1, 2, 3].find((id) => id !== leader) ?? 0
  await asOperator(
    cluster,
    async (client) => {
      const removal = client.call('removeReplica', { replica: learner }).catch((error: unknown) => error)
      await cluster.end(leader, 'SIGKILL')
      await removal
    },
    asked,
  )
  await cluster.untilServing(2)
  await ledger.progress(20)
  if ((await known(cluster, learner)) !== null) await removeReplica(cluster, learner)
  assert.equal(await cluster.untilEnded(learner), 3)
  cluster.start(leader)
  const next = await addReplica(cluster)
  assert.equal(next, learner + 1, 'ids are never used again')
  await untilVoter(cluster, next)
  await ledger.stop()
  await ledger.check([1, 2, 3, next].map((id) => addressOf(cluster, id)))
})

test('a replica that was removed while it was away is told when it returns, and ends', async () => {
  await using cluster = await startCluster({ replicas: 3 })
  const gone = [1, 2, 3].find((id) => id !== cluster.leader()) ?? 0
  await cluster.end(gone, 'SIGKILL')
  await removeReplica(cluster, gone)
  cluster.start(gone)
  assert.equal(await cluster.untilEnded(gone), 3)
  assert.match(printed(cluster), new RegExp(`r${gone} ends: r\\d refuses this replica: r${gone} was removed`))
})

test('a disk that was wiped under an old id is refused by the others, with the way out', async () => {
  await using cluster = await startCluster({ replicas: 3 })
  const wiped = [1, 2, 3].find((id) => id !== cluster.leader()) ?? 0
  await cluster.end(wiped, 'SIGKILL')
  const file = readClusterFile(cluster.folder)
  assert.ok(file !== null)
  rmSync(cluster.dataOf(wiped), { recursive: true })
  createReplicaFolder(cluster.dataOf(wiped), wiped, file)
  cluster.start(wiped)
  assert.equal(await cluster.untilEnded(wiped), 3)
  assert.match(printed(cluster), new RegExp(`r${wiped} ends: r\\d refuses.*parley replica replace r${wiped}`))
  // What is left serves, and one of them knows.
  await cluster.untilServing(2)
  const survey = new Survey(cluster.addresses, {
    createClient,
    after: (delayMs, callback) => {
      const timer = setTimeout(callback, delayMs)
      return () => clearTimeout(timer)
    },
    color: false,
    isTerminal: false,
    columns: () => Infinity,
  })
  const { lines } = await survey.report()
  survey.close()
  assert.match(
    lines.join('\n'),
    new RegExp(`r${wiped} +not reachable .*r${wiped} was refused: .*parley replica replace`),
  )
})

test('an old copy of a replica’s folder is refused, though it has started as often as the replica', async () => {
  await using cluster = await startCluster({ replicas: 3 })
  const id = [1, 2, 3].find((one) => one !== cluster.leader()) ?? 0
  await cluster.end(id, 'SIGTERM')
  cpSync(cluster.dataOf(id), `${cluster.folder}/copy`, { recursive: true })
  cluster.start(id)
  await cluster.untilServing(3)
  await cluster.end(id, 'SIGTERM')
  rmSync(cluster.dataOf(id), { recursive: true })
  cpSync(`${cluster.folder}/copy`, cluster.dataOf(id), { recursive: true })
  cluster.start(id)
  assert.equal(await cluster.untilEnded(id), 3)
  assert.match(printed(cluster), /two processes say that they are start 2.*parley replica replace/)
})

test('a replica of another cluster is refused on both sides, and harms neither', async () => {
  await using cluster = await startCluster({ replicas: 1 })
  const port = await freePorts(3)
  const own = {
    id: 2,
    http: `127.0.0.1:${port}`,
    grpc: `127.0.0.1:${port + 1}`,
    peer: `127.0.0.1:${port + 2}`,
  }
  await asOperator(cluster, (client) =>
    client.call('addReplica', { httpAddress: own.http, grpcAddress: own.grpc, peerAddress: own.peer }),
  )
  createJoiningFolder(cluster.dataOf(2), { clusterId: 'ab'.repeat(16), own })
  await cluster.adopt(own)
  cluster.start(2)
  const stranger = createClient({ addresses: [own.http], discover: false })
  try {
    await until(
      async () => {
        const { problem } = (await known(cluster, 2)) ?? { problem: '' }
        return problem.includes('belongs to another cluster')
      },
      'the cluster says whom it refuses',
      20_000,
    )
    assert.equal((await stranger.call('getStatus', {})).quorum, false)
  } finally {
    stranger.close()
  }
  assert.equal(cluster.leader(), 1)
})

test('a replica that starts again at other addresses is found there by the others and by clients', async () => {
  await using cluster = await startCluster({ replicas: 3 })
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(2)
  ledger.start(1)
  const moved = [1, 2, 3].find((id) => id !== cluster.leader()) ?? 0
  const port = await freePorts(3)
  await cluster.end(moved, 'SIGTERM')
  cluster.move(moved, {
    http: `127.0.0.1:${port}`,
    grpc: `127.0.0.1:${port + 1}`,
    peer: `127.0.0.1:${port + 2}`,
  })
  cluster.start(moved)
  await until(
    async () => (await known(cluster, moved))?.httpAddress === `127.0.0.1:${port}`,
    'the others know the new address',
    20_000,
  )
  await cluster.untilServing(3)
  // The two that have not moved are gone: together with one of them the moved one is a quorum.
  const gone = [1, 2, 3].find((id) => id !== moved) ?? 0
  await cluster.end(gone, 'SIGKILL')
  await ledger.progress(20)
  await ledger.stop()
  await ledger.check([addressOf(cluster, moved)])
})

function printed(cluster: TestCluster): string {
  return cluster.lines.join('\n')
}

function addressOf(cluster: TestCluster, id: number): string {
  return cluster.replicas.find((replica) => replica.id === id)?.http ?? ''
}
