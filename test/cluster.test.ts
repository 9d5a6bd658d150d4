import assert from 'node:assert/strict'
import { test } from 'node:test'

import { createClient, history, type Client } from '../src/client/index.ts'
import { startCluster, type TestCluster } from './support/cluster.ts'
import { checkSameState } from './support/state.ts'

async function signUp(cluster: TestCluster, name: string): Promise<Client> {
  const client = createClient({ addresses: cluster.addresses, timeoutMs: 20_000 })
  await client.register({ name, password: 'correct horse' })
  return client
}

const to = (name: string) => ({ target: { $case: 'account', value: name } as const })

/** Sends numbered messages one after another until stopped; notes what was acknowledged. */
function keepSending(client: Client, name: string): { stop(): Promise<readonly string[]> } {
  const acknowledged: string[] = []
  const state = { stopped: false }
  const running = (async () => {
    for (let i = 1; !state.stopped; i += 1) {
      const text = `message ${i}`
      await client.call('sendMessage', { to: to(name), text })
      acknowledged.push(text)
    }
  })()
  return {
    async stop() {
      state.stopped = true
      await running
      return acknowledged
    },
  }
}

async function textsWith(client: Client, name: string): Promise<string[]> {
  const texts: string[] = []
  for await (const page of history(client, to(name))) texts.push(...page.map((message) => message.text))
  return texts
}

test('two of five are killed, the leader first, while people talk: nothing is lost, doubled or reordered', async () => {
  await using cluster = await startCluster()
  const alice = await signUp(cluster, 'alice')
  const bob = await signUp(cluster, 'bob')
  const received: string[] = []
  const { position } = await bob.call('getMe', {})
  const stopReceiving = bob.subscribe(position, (events) => {
    for (const { event } of events) if (event?.$case === 'message') received.push(event.value.text)
  })
  const sending = keepSending(alice, 'bob')

  for (let killed = 0; killed < 2; killed += 1) {
    const leader = await cluster.untilServing()
    await cluster.end(leader, 'SIGKILL')
  }
  await cluster.untilServing()
  await alice.call('sendMessage', { to: to('bob'), text: 'after both' })
  const acknowledged = await sending.stop()

  const stored = await textsWith(bob, 'alice')
  assert.deepEqual(
    stored.filter((text) => text !== 'after both'),
    acknowledged,
  )
  assert.equal(stored.filter((text) => text === 'after both').length, 1)
  await until('bob received all', () => received.length >= stored.length)
  assert.deepEqual(received, stored)

  cluster.start(...cluster.replicas.map(({ id }) => id))
  await cluster.untilServing()
  stopReceiving()
  alice.close()
  bob.close()
  assert.ok((await checkSameState(cluster)) >= 1)
})

test('all replicas stop and start again: sessions and messages are still there', async () => {
  await using cluster = await startCluster({ replicas: 3 })
  const alice = await signUp(cluster, 'alice')
  const bob = await signUp(cluster, 'bob')
  await alice.call('sendMessage', { to: to('bob'), text: 'before' })
  for (const { id } of cluster.replicas) await cluster.end(id, id === 2 ? 'SIGKILL' : 'SIGTERM')
  cluster.start(3, 1)
  await cluster.untilServing()
  await alice.call('sendMessage', { to: to('bob'), text: 'with two of three' })
  cluster.start(2)
  await cluster.untilServing()
  assert.deepEqual(await textsWith(bob, 'alice'), ['before', 'with two of three'])
  alice.close()
  bob.close()
})

/** The limit only keeps a failing test from hanging. */
async function until(what: string, holds: () => boolean): Promise<void> {
  const endMs = performance.now() + 30_000
  while (!holds()) {
    assert.ok(performance.now() < endMs, `${what}: did not happen`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
