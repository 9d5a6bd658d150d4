import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import { credentials, makeClientConstructor, type Client } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { protoPath } from 'grpc-health-check'
import { Reason } from '../src/gen/parley/v1/model.ts'
import { newId, TestClient } from '../src/api/test-support.ts'
import { startCluster, type TestCluster } from './support/cluster.ts'

let cluster: TestCluster

before(async () => {
  cluster = await startCluster()
})
after(async () => {
  await cluster.close()
})

function portsOf(replica: number): { readonly http: number; readonly grpc: number; readonly peer: number } {
  const found = cluster.replicas.find(({ id }) => id === replica)
  const port = (address: string | undefined): number => Number(address?.split(':').at(-1))
  return { http: port(found?.http), grpc: port(found?.grpc), peer: port(found?.peer) }
}

const ids = () => cluster.replicas.map(({ id }) => id)

async function signIn(replica: number, token: Uint8Array): Promise<TestClient> {
  const client = await new TestClient(portsOf(replica).http).ready()
  await client.get('authenticate', { token })
  return client
}

/** Registers on a replica and returns the token. */
async function register(replica: number, name: string): Promise<Uint8Array> {
  const client = await new TestClient(portsOf(replica).http).ready()
  const token = randomBytes(32)
  await client.get('register', { id: newId(), name, password: 'p', device: 'test', token })
  client.close()
  return token
}

async function healthOf(replica: number): Promise<string> {
  const service = loadSync(protoPath, { enums: String })['grpc.health.v1.Health']
  if (service === undefined || 'format' in service) throw new Error('no health service')
  const client: Client = new (makeClientConstructor(service, 'Health'))(
    `127.0.0.1:${portsOf(replica).grpc}`,
    credentials.createInsecure(),
  )
  const check: unknown = Reflect.get(client, 'Check')
  if (typeof check !== 'function') throw new Error('no Check')
  const status = await new Promise<string>((resolve, reject) => {
    check.call(client, { service: 'parley.v1.Parley' }, (error: Error | null, reply: { status: string }) =>
      error === null ? resolve(reply.status) : reject(error),
    )
  })
  client.close()
  return status
}

async function readiness(replica: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${portsOf(replica).http}/readyz`)
  return `${response.status} ${(await response.text()).trim()}`
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20))
}

const everyone = { target: { $case: 'room', value: 'everyone' } } as const

test('a session that was made on one replica is known at once on every other one', async () => {
  const token = await register(1, 'ann')
  const clients = await Promise.all(ids().map((replica) => signIn(replica, token)))
  for (const client of clients) assert.equal((await client.get('getMe', {})).account?.name, 'ann')
  for (const client of clients) client.close()
})

test('the same request sent to every replica takes effect once and gets the same answer from each', async () => {
  const token = await register(2, 'bob')
  const clients = await Promise.all(ids().map((replica) => signIn(replica, token)))
  const value = { id: newId(), to: everyone, text: 'once' }
  const answers = await Promise.all(clients.map((client) => client.get('sendMessage', value)))
  for (const answer of answers) assert.deepEqual(answer, answers[0])
  for (const client of clients) client.close()
})

test('an event stream goes on from its cursor on another replica, without a gap or a repetition', async () => {
  const token = await register(3, 'carl')
  const talker = await signIn(4, token)
  const send = (text: string) => talker.get('sendMessage', { id: newId(), to: everyone, text })
  const seen: string[] = []
  let cursor = (await talker.get('getMe', {})).position
  let next = 0
  for (const replica of ids()) {
    const listener = await signIn(replica, token)
    await listener.get('subscribe', { cursor })
    for (let i = 0; i < 5; i += 1, next += 1) await send(`line ${next}`)
    const mine = () =>
      listener.events.flatMap(({ event, position }) =>
        event?.$case === 'message' && event.value.text.startsWith('line')
          ? [{ text: event.value.text, position }]
          : [],
      )
    await listener.until(() => mine().length >= 5)
    // Leaves in the middle: what it has not seen must come from the next replica.
    for (const { text, position } of mine().slice(0, 5)) {
      seen.push(text)
      cursor = position
    }
    listener.close()
  }
  assert.deepEqual(
    seen,
    Array.from({ length: next }, (_, i) => `line ${i}`),
  )
  talker.close()
})

test('garbage on every port of every replica ends no process and keeps nobody from being served', async () => {
  const pids = new Map(cluster.running)
  const kinds = [
    randomBytes(3000),
    Buffer.alloc(3000),
    Buffer.alloc(3000, 0xff),
    Buffer.from('GET / HTTP/1.1\r\n'),
  ]
  const attacks = ids().flatMap((replica) =>
    Object.values(portsOf(replica)).flatMap((port) =>
      kinds.map(async (bytes) => {
        const socket = connect(port, '127.0.0.1')
        socket.on('error', () => undefined)
        socket.resume()
        socket.end(bytes)
        await once(socket, 'close')
      }),
    ),
  )
  await Promise.all(attacks)
  const client = await signIn(5, await register(1, 'dora'))
  await client.get('sendMessage', { id: newId(), to: everyone, text: 'still here' })
  client.close()
  assert.deepEqual(new Map(cluster.running), pids)
})

test('a replica that is told to stop says so to its clients before it goes', async () => {
  const leader = await cluster.untilServing()
  const replica = ids().find((id) => id !== leader) ?? 0
  const client = await signIn(replica, await register(leader, 'eve'))
  const ended = cluster.end(replica, 'SIGTERM')
  await client.until(() => client.state?.draining === true)
  assert.equal((await client.closed).code, 1001)
  await ended
  cluster.start(replica)
  await cluster.untilServing()
})

test('without a quorum every sign says so, what is stored can be read, and all is well again when replicas are back', async () => {
  const token = await register(await cluster.untilServing(), 'fay')
  for (const replica of ids()) {
    assert.equal(await healthOf(replica), 'SERVING')
    assert.equal(await readiness(replica), '200 ok')
  }
  const leader = cluster.leader()
  const killed = [leader, ...ids().filter((id) => id !== leader)].slice(0, 3)
  const survivor = ids().find((id) => !killed.includes(id)) ?? 0
  const client = await signIn(survivor, token)
  await client.get('sendMessage', { id: newId(), to: everyone, text: 'before' })
  await Promise.all(killed.map((id) => cluster.end(id, 'SIGKILL')))
  await client.until(() => client.state?.quorum === false)
  await until(async () => (await healthOf(survivor)) === 'NOT_SERVING')
  assert.match(await readiness(survivor), /^503 no quorum/)
  const send = { $case: 'sendMessage', value: { id: newId(), to: everyone, text: 'after' } } as const
  assert.equal((await client.fail(send)).reason, Reason.NO_QUORUM)
  const read = await client.ask(
    { $case: 'listMessages', value: { conversation: everyone, beforeSeq: 0, afterSeq: 0, pageSize: 1 } },
    { local: true },
  )
  assert.ok(read.$case === 'listMessages' && read.value.messages[0]?.text === 'before')
  cluster.start(...killed)
  await client.until(() => client.state?.quorum === true)
  await until(async () => (await healthOf(survivor)) === 'SERVING')
  assert.equal((await client.ask(send)).$case, 'sendMessage')
  client.close()
})
