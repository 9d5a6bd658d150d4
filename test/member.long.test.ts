import assert from 'node:assert/strict'
import { cpSync, rmSync } from 'node:fs'
import { test } from 'node:test'

import { ParleyError } from '../src/client/index.ts'
import { startCluster, type TestCluster } from './support/cluster.ts'
import { Ledger, until } from './support/ledger.ts'
import { addReplica, known, removeReplica, untilVoter } from './support/member.ts'
import { freePorts } from './support/ports.ts'
import { Running } from './support/running.ts'
import { checkSameState } from './support/state.ts'

test('a cluster grows from one to three and five replicas, shrinks to four and grows to five again, under load: nothing is lost', async () => {
  // A short log, so that new replicas need a copy of the state.
  await using cluster = await startCluster({ replicas: 1, environment: { PARLEY_LOG_MIB: '1' } })
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(6)
  ledger.start(4)
  await ledger.progress(2000)
  const grow = async (): Promise<void> => {
    const id = await addReplica(cluster)
    await untilVoter(cluster, id)
    await ledger.progress(500)
  }
  await grow()
  await grow()
  await grow()
  await grow()
  const leader = cluster.leader()
  await removeReplica(cluster, leader)
  assert.equal(await cluster.untilEnded(leader), 3)
  await ledger.progress(500)
  await grow()

  // Five again: any two may fail.
  const left = cluster.replicas.filter(({ id }) => id !== leader)
  const victims = [cluster.leader(), left.find(({ id }) => id !== cluster.leader())?.id ?? 0]
  await Promise.all(victims.map((id) => cluster.end(id, 'SIGKILL')))
  await ledger.progress(500)
  cluster.start(...victims)
  await cluster.untilServing(5)
  await ledger.stop()
  await ledger.check(left.map(({ http }) => http))
  rmSync(cluster.dataOf(leader), { recursive: true })
  cluster.forget(leader)
  assert.ok((await checkSameState(cluster)) >= 3)
})

test('replicas come and go while others are killed: each change is made or refused, ids are never used again, and nothing is lost', async () => {
  await using cluster = await startCluster({ replicas: 3, environment: { PARLEY_LOG_MIB: '1' } })
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(4)
  ledger.start(3)
  await ledger.progress(500)
  const given = new Set([1, 2, 3])
  for (let round = 0; round < 4; round += 1) {
    // One that is killed in the middle of what follows: the leader, or another one.
    const victim = round % 2 === 0 ? cluster.leader() : otherThan(cluster, cluster.leader())
    const adding = insist(() => addReplica(cluster))
    await cluster.end(victim, 'SIGKILL')
    const added = await adding
    assert.ok(!given.has(added), `r${added} is a new id`)
    given.add(added)
    cluster.start(victim)
    await untilVoter(cluster, added)
    await ledger.progress(100)

    const removed = round % 3 === 0 ? cluster.leader() : otherThan(cluster, cluster.leader())
    const removing = insist(() => removeReplica(cluster, removed))
    const second = otherThan(cluster, removed)
    await cluster.end(second, 'SIGKILL')
    cluster.start(second)
    await removing
    await until(async () => (await known(cluster, removed)) === null, `r${removed} is out`, 60_000)
    assert.equal(await cluster.untilEnded(removed), 3)
    cluster.forget(removed)
    await ledger.progress(100)
  }
  await cluster.untilServing(3)
  await ledger.stop()
  await ledger.check(cluster.addresses)
  assert.ok((await checkSameState(cluster)) >= 2)
})

test('a replica whose disk was wiped is replaced under load by a new one in its place', async () => {
  await using cluster = await startCluster({ replicas: 3, environment: { PARLEY_LOG_MIB: '1' } })
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(4)
  ledger.start(3)
  await ledger.progress(500)
  const lost = otherThan(cluster, cluster.leader())
  await cluster.end(lost, 'SIGKILL')
  rmSync(cluster.dataOf(lost), { recursive: true })
  await removeReplica(cluster, lost)
  cluster.forget(lost)
  const added = await addReplica(cluster)
  await untilVoter(cluster, added)
  await ledger.progress(100)
  // As good as before: any one may fail.
  await cluster.end(cluster.leader(), 'SIGKILL')
  await ledger.progress(100)
  await ledger.stop()
  await ledger.check(cluster.replicas.filter(({ id }) => cluster.running.has(id)).map(({ http }) => http))
})

test('a copy of the folder that was taken since the last start is refused by the leader, which knows what it had acknowledged', async () => {
  await using cluster = await startCluster({ replicas: 3 })
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(2)
  const copy = `${cluster.folder}/copy`
  let id = 0
  for (let tries = 1; !(id > 0 && !cluster.running.has(id)); tries += 1) {
    assert.ok(tries <= 10, 'nobody leads for long enough')
    const leader = await cluster.untilServing(3)
    id = otherThan(cluster, leader)
    rmSync(copy, { recursive: true, force: true })
    cluster.signal(id, 'SIGSTOP')
    cpSync(cluster.dataOf(id), copy, { recursive: true })
    // The copy holds no more than the leader has by now.
    const { term, lastIndex = Infinity } = (await known(cluster, leader)) ?? {}
    cluster.signal(id, 'SIGCONT')
    // Only a leader that was there all the time knows: on a busy machine another one may lead meanwhile.
    const leads = async (): Promise<boolean> => (await known(cluster, leader))?.term === term
    ledger.start(2)
    await ledger.progress(100)
    await until(
      async () => ((await known(cluster, id))?.lastIndex ?? 0) > lastIndex || !(await leads()),
      `r${id} acknowledges more than the copy holds`,
      60_000,
    )
    await ledger.stop()
    await cluster.end(id, 'SIGKILL')
    rmSync(cluster.dataOf(id), { recursive: true })
    cpSync(copy, cluster.dataOf(id), { recursive: true })
    cluster.start(id)
    cluster.condemn(id)
    await until(
      async () => !cluster.running.has(id) || !(await leads()),
      `r${id} ends, or another one leads`,
      60_000,
    )
  }
  assert.equal(await cluster.untilEnded(id), 3)
  const reason = new RegExp(`went back behind what it had acknowledged.*parley replica replace r${id}`)
  assert.match(cluster.lines.join('\n'), reason)
})

test('a copy of the folder that is started beside the replica is refused, and the replica goes on', async () => {
  await using cluster = await startCluster({ replicas: 3 })
  const id = [1, 2, 3].find((one) => one !== cluster.leader()) ?? 0
  cluster.signal(id, 'SIGSTOP')
  cpSync(cluster.dataOf(id), `${cluster.folder}/copy`, { recursive: true })
  cluster.signal(id, 'SIGCONT')
  const port = await freePorts(3)
  const places = ['http', 'grpc', 'peer'].flatMap((name, i) => [`--${name}`, `127.0.0.1:${port + i}`])
  const copy = new Running(['serve', '--data', `${cluster.folder}/copy`, ...places])
  await copy.end()
  assert.equal(copy.child.exitCode, 3)
  assert.match(
    copy.lines.join('\n'),
    new RegExp(`r${id} ends: r\\d refuses this replica: r${id} runs already`),
  )
  assert.ok(cluster.running.has(id))
  await cluster.untilServing(3)
})

function otherThan(cluster: TestCluster, id: number): number {
  const other = cluster.replicas.find((replica) => replica.id !== id && cluster.running.has(replica.id))
  assert.ok(other !== undefined)
  return other.id
}

/** Does it again when whoever was asked has been killed, or nobody leads for the moment. */
async function insist<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof ParleyError)) throw error
      // An earlier attempt may have done it.
      if (error.reason === 'REASON_REPLICA_NOT_FOUND') return undefined as T
    }
  }
}
