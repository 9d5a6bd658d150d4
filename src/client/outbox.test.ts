import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../base/random.ts'
import type { Target } from '../gen/parley/v1/model.ts'
import { createClient } from './client.ts'
import { memoryStorage } from './outbox.ts'
import { FakeNetwork } from './testing.ts'
import type { Client, OutboxStorage } from './types.ts'

const token = new Uint8Array(32)
const to = (value: string): Target => ({ target: { $case: 'account', value } })

function open(network: FakeNetwork, storage: OutboxStorage = memoryStorage(), account = 5): Client {
  const own = token.slice()
  own[0] = account
  network.chat.addSession(own, account, account * 10)
  return createClient({
    addresses: network.addresses,
    token: own,
    clock: network.clock,
    random: seededRandom(account),
    connect: network.connect,
    storage,
  })
}

function texts(network: FakeNetwork): readonly string[] {
  return network.chat.messages.map((message) => message.text)
}

test('what is queued while nothing can be reached is sent in order when it can', async () => {
  const network = new FakeNetwork(2)
  for (const replica of network.replicas.values()) replica.kill()
  const client = open(network)
  for (const text of ['1', '2', '3']) client.outbox.add(to('bob'), text)
  await network.clock.pass(60_000)
  assert.deepEqual(
    client.outbox.items.map((item) => item.status.kind),
    ['pending', 'pending', 'pending'],
  )
  network.replica(2).up = true
  await network.clock.pass(5000)
  assert.deepEqual(texts(network), ['1', '2', '3'])
  assert.deepEqual(client.outbox.items, [])
})

test('the order of a conversation holds when the first of its messages is refused for a while', async () => {
  const network = new FakeNetwork(1)
  let refusals = 3
  network.replica(1).fault = (request) => {
    if (request.op?.$case !== 'sendMessage' || request.op.value.text !== '1' || refusals === 0) return null
    refusals -= 1
    return { refuse: 'REASON_OVERLOADED' }
  }
  const client = open(network)
  for (const text of ['1', '2', '3']) client.outbox.add(to('Bob'), text)
  await network.clock.pass(1000)
  assert.deepEqual(texts(network), ['1', '2', '3'])
})

test('messages to several people go side by side', async () => {
  const network = new FakeNetwork(1)
  const client = open(network)
  await network.clock.pass(100)
  for (let i = 0; i < 50; i += 1) client.outbox.add(to(`friend${i}`), String(i))
  // To the replica and back once, not fifty times.
  await network.clock.pass(4)
  assert.equal(client.outbox.items.length, 0)
})

test('killing the replica at any message loses none, doubles none and keeps the order', async () => {
  for (const fault of ['dieAfter', 'dieBefore'] as const)
    for (let victim = 1; victim <= 5; victim += 1) {
      const network = new FakeNetwork(2)
      const client = open(network)
      network.replica(1).fault = (request) =>
        request.op?.$case === 'sendMessage' && request.op.value.text === String(victim) ? fault : null
      for (let i = 1; i <= 5; i += 1) client.outbox.add(to('bob'), String(i))
      await network.clock.pass(1000)
      assert.deepEqual(texts(network), ['1', '2', '3', '4', '5'])
      client.close()
    }
})

test('the outbox survives a restart with its order and ids, and what was sent meanwhile is not sent twice', async () => {
  const network = new FakeNetwork(1)
  const storage = memoryStorage()
  const first = open(network, storage)
  await network.clock.pass(100)
  network.replica(1).fault = (request) => (request.op?.$case === 'sendMessage' ? 'loseAnswer' : null)
  for (const text of ['1', '2', '3']) first.outbox.add(to('bob'), text)
  await network.clock.pass(10)
  const before = first.outbox.items.map((item) => item.id)
  first.close()
  assert.deepEqual(texts(network), ['1'])

  network.replica(1).fault = () => null
  const second = open(network, storage)
  second.outbox.add(to('bob'), '4')
  await second.outbox.loaded
  assert.deepEqual(
    second.outbox.items.slice(0, 3).map((item) => item.id),
    before,
  )
  await network.clock.pass(1000)
  assert.deepEqual(texts(network), ['1', '2', '3', '4'])
  assert.deepEqual(await storage.load(), [])
})

test('a storage that fails keeps nothing from being sent', async () => {
  const network = new FakeNetwork(1)
  const load = (): Promise<never> => Promise.reject(new Error('the disk is full'))
  const client = open(network, { ...memoryStorage(), load })
  client.outbox.add(to('bob'), '1')
  await client.outbox.loaded
  await network.clock.pass(1000)
  assert.deepEqual(texts(network), ['1'])
  assert.deepEqual(client.outbox.items, [])
})

test('a rejected message fails, the others go on; it can be retried with a new id or discarded', async () => {
  const network = new FakeNetwork(1)
  const storage = memoryStorage()
  const client = open(network, storage)
  let refuse = true
  network.replica(1).fault = (request) =>
    request.op?.$case === 'sendMessage' && request.op.value.text.startsWith('bad') && refuse
      ? { refuse: 'REASON_NOT_A_MEMBER' }
      : null
  const changes: string[] = []
  client.outbox.onChange((change) =>
    changes.push('item' in change ? `${change.kind} ${change.item.text}` : change.kind),
  )
  const bad = client.outbox.add(to('bob'), 'bad')
  client.outbox.add(to('bob'), 'bad too')
  client.outbox.add(to('bob'), 'good')
  await network.clock.pass(1000)
  assert.deepEqual(texts(network), ['good'])
  assert.deepEqual(
    (await storage.load()).map((item) => item.failed?.reason),
    ['REASON_NOT_A_MEMBER', 'REASON_NOT_A_MEMBER'],
  )
  const other = client.outbox.items[1]?.key ?? ''
  assert.equal(client.outbox.discard(other), true)
  refuse = false
  client.outbox.retry(bad.key)
  await network.clock.pass(1000)
  assert.deepEqual(texts(network), ['good', 'bad'])
  assert.notDeepEqual(network.chat.messages[1]?.id, bad.id)
  assert.deepEqual(changes, [
    'added bad',
    'added bad too',
    'added good',
    'loaded',
    'accountChanged',
    'failed bad',
    'failed bad too',
    'sent good',
    'discarded bad too',
    'retried bad',
    'sent bad',
  ])
})

test('discarding a message that is under way says that it may have been sent', async () => {
  const network = new FakeNetwork(1)
  const client = open(network)
  await network.clock.pass(100)
  const item = client.outbox.add(to('bob'), '1')
  const waiting = client.outbox.add(to('bob'), '2')
  await network.clock.pass(1)
  assert.equal(client.outbox.discard(item.key), false)
  assert.equal(client.outbox.discard(waiting.key), true)
  await network.clock.pass(100)
  assert.deepEqual(client.outbox.items, [])
  assert.ok(!texts(network).includes('2'))
})

test('what one account queued is never sent by another', async () => {
  const network = new FakeNetwork(1)
  const storage = memoryStorage()
  const ann = open(network, storage, 5)
  await network.clock.pass(100)
  network.replica(1).kill()
  ann.outbox.add(to('bob'), 'from ann')
  ann.close()
  network.replica(1).up = true
  const eve = open(network, storage, 6)
  eve.outbox.add(to('bob'), 'from eve')
  await network.clock.pass(1000)
  assert.deepEqual(texts(network), ['from eve'])
  eve.close()
  const again = open(network, storage, 5)
  await network.clock.pass(1000)
  assert.deepEqual(texts(network), ['from eve', 'from ann'])
  again.close()
})

test('who is signed in sees, tries again and discards nothing that another account has left', async () => {
  const network = new FakeNetwork(1)
  const storage = memoryStorage()
  network.chat.passwords.set('ann', 'secret').set('bob', 'secret')
  network.replica(1).fault = (request) =>
    request.op?.$case === 'sendMessage' ? { refuse: 'REASON_MESSAGE_TOO_LARGE' } : null
  const { clock, connect, addresses } = network
  const client = createClient({ addresses, clock, connect, storage, random: seededRandom(1) })
  const seen: string[] = []
  client.outbox.onChange(({ kind }) =>
    seen.push(`${kind}: ${client.outbox.items.map((item) => item.text).join()}`),
  )
  const signIn = async (name: string): Promise<void> => {
    void client.logIn({ name, password: 'secret' })
    await clock.pass(1000)
  }
  await signIn('ann')
  const { key } = client.outbox.add(to('carol'), 'from ann')
  await clock.pass(1000)
  void client.logOut()
  await clock.pass(1000)
  const stored = await storage.load()

  await signIn('bob')
  assert.deepEqual(client.outbox.items, [])
  client.outbox.retry(key)
  assert.equal(client.outbox.discard(key), true)
  await clock.pass(1000)
  network.replica(1).setState({ quorum: false })
  await clock.pass(10)
  assert.equal(client.state.kind === 'noQuorum' && client.state.queued, 0)
  network.replica(1).setState({ quorum: true })
  await clock.pass(1000)
  assert.deepEqual(await storage.load(), stored)
  void client.logOut()
  await clock.pass(1000)

  network.replica(1).fault = () => null
  await signIn('ann')
  client.outbox.retry(key)
  await clock.pass(1000)
  assert.deepEqual(texts(network), ['from ann'])
  assert.deepEqual(seen, [
    'loaded: ',
    'accountChanged: ',
    'added: from ann',
    'failed: from ann',
    'accountChanged: from ann',
    'accountChanged: ',
    'accountChanged: from ann',
    'accountChanged: from ann',
    'retried: from ann',
    'sent: ',
  ])
  client.close()
})

test('a session that ends leaves the outbox as it is, for the next sign-in', async () => {
  const network = new FakeNetwork(1)
  const client = open(network)
  await network.clock.pass(100)
  network.chat.tokens.clear()
  network.chat.passwords.set('ann', 'secret')
  network.replica(1).kill()
  network.replica(1).up = true
  client.outbox.add(to('bob'), 'x')
  await network.clock.pass(1000)
  assert.equal(client.state.kind, 'signedOut')
  assert.equal(client.outbox.items[0]?.status.kind, 'pending')
  void client.logIn({ name: 'ann', password: 'secret' })
  await network.clock.pass(1000)
  assert.deepEqual(texts(network), ['x'])
})
