import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { startCluster, type TestCluster } from './support/cluster.ts'
import { assertNothingIsWritten, untilAllSay, untilWhole } from './support/fail-stop.ts'
import { Ledger } from './support/ledger.ts'
import { checkSameState } from './support/state.ts'

const three = { replicas: 3, faultModel: 'fail-stop' } as const
const parley = resolve(import.meta.dirname, '../bin/parley.js')
/** All orders in which two of three can be killed. */
const orders = [1, 2, 3].flatMap((first) =>
  [1, 2, 3].filter((second) => second !== first).map((second) => [first, second] as const),
)

async function checkAll(cluster: TestCluster, ledger: Ledger): Promise<void> {
  await ledger.stop()
  await ledger.check(cluster.addresses)
  assert.ok((await checkSameState(cluster)) >= 3)
}

test('fail-stop: in all six orders two of three are killed under load, one after another, and come back in both orders', async () => {
  await using cluster = await startCluster(three)
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(3)
  ledger.start(2)
  for (const [round, [first, second]] of orders.entries()) {
    await untilWhole(cluster)
    await ledger.progress(30)
    await cluster.end(first, 'SIGKILL')
    await ledger.progress(30)
    await cluster.end(second, 'SIGKILL')
    await ledger.progress(30)
    const [one, other] = round % 2 === 0 ? [first, second] : [second, first]
    cluster.start(one)
    await ledger.progress(10)
    cluster.start(other)
  }
  await untilWhole(cluster)
  await checkAll(cluster, ledger)
})

test('fail-stop: two of three are killed at once under load', async () => {
  await using cluster = await startCluster(three)
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(3)
  ledger.start(2)
  for (const survivor of [1, 2, 3]) {
    await untilWhole(cluster)
    await ledger.progress(30)
    const victims = [1, 2, 3].filter((id) => id !== survivor)
    await Promise.all(victims.map((id) => cluster.end(id, 'SIGKILL')))
    await ledger.progress(30)
    cluster.start(...victims)
  }
  await untilWhole(cluster)
  await checkAll(cluster, ledger)
})

test('fail-stop: after the last one is killed too, they come back in every order: those before it wait for it, and it waits for nobody', async () => {
  await using cluster = await startCluster(three)
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(2)
  for (const [first, second] of orders) {
    const last = 6 - first - second
    await untilWhole(cluster)
    ledger.start(1)
    await ledger.progress(10)
    await cluster.end(first, 'SIGKILL')
    await ledger.progress(10)
    await cluster.end(second, 'SIGKILL')
    await ledger.progress(10)
    await ledger.stop()
    await cluster.end(last, 'SIGKILL')
    // The one that went on alone: first, between the others, or last of all.
    if (first % 3 === 0) {
      cluster.start(last)
      await cluster.untilServing(1)
      cluster.start(first, second)
    } else {
      cluster.start(first)
      if (first % 3 === 1) cluster.start(second)
      const waiting = first % 3 === 1 ? [first, second] : [first]
      await untilAllSay(
        cluster,
        waiting,
        `r${last} is waited for`,
        ({ quorum, waitingFor }) => !quorum && waitingFor.includes(last),
      )
      cluster.start(last)
      if (first % 3 === 2) cluster.start(second)
    }
  }
  await untilWhole(cluster)
  await ledger.check(cluster.addresses)
  assert.ok((await checkSameState(cluster)) >= 3)
})

test('fail-stop: an operator reads what would be lost, and forces two to go on without the one that went on alone', async () => {
  await using cluster = await startCluster(three)
  using ledger = new Ledger(cluster.addresses)
  await ledger.open(1)
  await untilWhole(cluster)
  await Promise.all([cluster.end(1, 'SIGKILL'), cluster.end(2, 'SIGKILL')])
  await cluster.untilServing(1)
  await cluster.end(3, 'SIGKILL')
  cluster.start(1, 2)
  await untilAllSay(cluster, [1, 2], 'both wait for r3', ({ waitingFor }) => waitingFor.join() === '3')
  const recover = (...more: readonly string[]) =>
    promisify(execFile)(process.execPath, [parley, 'recover', '--data', cluster.dataOf(1), ...more])
  let told = ''
  // The files that it reads are written every half second.
  while (!told.includes('r3')) told = await recover().then(({ stdout }) => stdout, String)
  assert.match(told, /lost for good/)
  const { stdout, stderr } = await recover('--force')
  assert.match(stderr, /lost for good/)
  assert.equal(stdout, 'r1 has given up r3, and goes on.\n')
  await assert.rejects(recover('--force'), /r1 waits for no other replica/)
  await cluster.end(1, 'SIGKILL')
  await assert.rejects(recover('--force'), /No replica of .* answers\. Start it first/)
  cluster.start(1)
  await cluster.untilServing(2)
})

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
