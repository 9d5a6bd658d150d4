import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startCluster } from './support/cluster.ts'
import { assertNothingIsWritten, statusAt, untilAllSay, untilWhole } from './support/fail-stop.ts'
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
