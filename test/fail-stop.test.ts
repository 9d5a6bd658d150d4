import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClient, ParleyError } from '../src/client/index.ts'
import { startCluster } from './support/cluster.ts'
import { statusAt, untilAllSay, untilWhole } from './support/fail-stop.ts'
import { Ledger } from './support/ledger.ts'
import { checkSameState } from './support/state.ts'

const three = { replicas: 3, faultModel: 'fail-stop' } as const

test('fail-stop: of three replicas the leader is killed, then its successor, under load; then both come back', async () => {
  await using cluster = await startCluster(three)
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(3)
  ledger.start(2)
  await ledger.progress(50)
  const first = await cluster.untilServing()
  await cluster.end(first, 'SIGKILL')
  await ledger.progress(50)
  const second = await cluster.untilServing(2)
  await cluster.end(second, 'SIGKILL')
  await ledger.progress(50)
  const last = await cluster.untilServing(1)
  assert.equal((await statusAt(cluster.replicas[last - 1]?.http ?? ''))?.mayFail, 0)
  cluster.start(first, second)
  await untilWhole(cluster)
  await ledger.progress(50)
  await ledger.stop()
  await ledger.check(cluster.addresses)
  assert.ok((await checkSameState(cluster)) >= 3)
})

test('fail-stop: two that crashed first wait for the one that went on alone, and say so', async () => {
  await using cluster = await startCluster(three)
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(2)
  ledger.start(1)
  await ledger.progress(20)
  await Promise.all([cluster.end(1, 'SIGKILL'), cluster.end(2, 'SIGKILL')])
  await ledger.progress(20)
  await ledger.stop()
  await cluster.end(3, 'SIGKILL')
  cluster.start(1, 2)
  const isWaiting = ({
    quorum,
    waitingFor,
  }: {
    readonly quorum: boolean
    readonly waitingFor: readonly number[]
  }) => !quorum && waitingFor.join() === '3'
  await untilAllSay(cluster, [1, 2], 'both wait for r3', isWaiting)
  await assertNothingIsWritten(cluster.addresses[0] ?? '', 'r3')
  cluster.start(3)
  await untilWhole(cluster)
  await ledger.check(cluster.addresses)
})

/** Whoever wants something is told for whom it waits. */
async function assertNothingIsWritten(address: string, missing: string): Promise<void> {
  const client = createClient({ addresses: [address], discover: false, timeoutMs: 2000 })
  try {
    await assert.rejects(
      client.logIn({ name: 'talker0', password: 'a password for tests', device: 'test' }),
      (error) => error instanceof ParleyError && error.message.includes(missing),
    )
  } finally {
    client.close()
  }
}

test('fail-stop: a replica that stands still is not dead: the others wait for it, whether it leads or not, and say so', async () => {
  await using cluster = await startCluster(three)
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(2)
  const leader = await cluster.untilServing()
  for (const still of [1 + (leader % 3), leader]) {
    await untilWhole(cluster)
    const others = [1, 2, 3].filter((id) => id !== still)
    cluster.signal(still, 'SIGSTOP')
    // Only a leader misses who is silent, and those who would like to lead.
    const isNamed = ({ quorum, waitingFor }: { quorum: boolean; waitingFor: readonly number[] }) =>
      !quorum && waitingFor.join() === String(still)
    const witnesses = still === leader ? others : [leader]
    await untilAllSay(cluster, witnesses, `r${still} is waited for`, isNamed)
    for (const id of witnesses)
      await assertNothingIsWritten(cluster.replicas[id - 1]?.http ?? '', `r${still}`)
    cluster.signal(still, 'SIGCONT')
    ledger.start(1)
    await ledger.progress(20)
    await ledger.stop()
    assert.equal(cluster.running.size, 3, 'nobody had to end for it')
  }
  await ledger.check(cluster.addresses)
  assert.ok((await checkSameState(cluster)) >= 3)
})

test('fail-stop with --trust-timeouts: the others go on without a replica that stands still, and it ends when it finds out, and is taken in again', async () => {
  await using cluster = await startCluster({ ...three, environment: { PARLEY_TRUST_TIMEOUTS: 'true' } })
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(2)
  ledger.start(2)
  await ledger.progress(20)
  for (const role of ['follower', 'leader']) {
    await untilWhole(cluster)
    const leader = await cluster.untilServing()
    const still = role === 'leader' ? leader : 1 + (leader % 3)
    const others = [1, 2, 3].filter((id) => id !== still)
    cluster.signal(still, 'SIGSTOP')
    await untilAllSay(
      cluster,
      others,
      `the others go on without r${still}, which was the ${role}`,
      ({ quorum, leader: now, replicas }) =>
        quorum && now !== still && replicas.find(({ id }) => id === still)?.voter === false,
    )
    await ledger.progress(20)
    cluster.signal(still, 'SIGCONT')
    assert.equal(await cluster.untilEnded(still), 1)
    assert.ok(
      cluster.lines.some((line) => line.startsWith(`r${still}:`) && line.includes('taken it for dead')),
      cluster.lines.join('\n'),
    )
    cluster.start(still)
    await ledger.progress(20)
  }
  await untilWhole(cluster)
  await ledger.stop()
  await ledger.check(cluster.addresses)
  assert.ok((await checkSameState(cluster)) >= 3)
})
