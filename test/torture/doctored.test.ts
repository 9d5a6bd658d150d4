// The torture run must be able to fail: each of these clusters lies in one way, and is found out.
import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { after, test } from 'node:test'
import { seededRandom } from '../../src/base/random.ts'
import { createClient, type Client, type ClientOptions } from '../../src/client/index.ts'
import type { Message } from '../../src/gen/parley/v1/model.ts'
import type { Event, ListMessagesResponse, SendMessageResponse } from '../../src/gen/parley/v1/service.ts'
import { People } from '../../src/sim/people.ts'
import { startCluster, type TestCluster } from '../support/cluster.ts'
import { until } from '../support/ledger.ts'
import { checkSameState, newestState } from '../support/state.ts'
import { checkKept, createRealWorld, type Kept } from './world.ts'

const cluster = await startCluster({ replicas: 2 })
after(() => cluster.close())

/** What a cluster that lies makes of what it has to say. */
interface Lie {
  list?(response: ListMessagesResponse): ListMessagesResponse
  sent?(response: SendMessageResponse): SendMessageResponse
  events?(events: readonly Event[]): readonly Event[]
}

test('a cluster that tells the truth breaks no rule', async () => {
  const { broken, kept } = await talk(cluster, {})
  assert.deepEqual(broken, [])
  assert.ok(kept.length > 0)
  assert.deepEqual(await brokenOf(kept), [])
})

test('a message that was acknowledged and is lost is found out', async () => {
  // The third one, once more are there; the others move up.
  const lose = (messages: readonly Message[]): Message[] =>
    messages.filter(({ seq }) => seq !== 3).map((message) => after3(message))
  const { broken } = await talk(cluster, {
    list: (response) =>
      response.lastSeq < 6
        ? response
        : { ...response, lastSeq: response.lastSeq - 1, messages: lose(response.messages) },
  })
  assert.ok(broken.length > 0)
})

test('a message that is there twice is found out', async () => {
  const { broken } = await talk(cluster, {
    list: (response) => ({
      ...response,
      messages: response.messages.flatMap((message) => (message.seq === 2 ? [message, message] : [message])),
    }),
  })
  assert.ok(broken.length > 0)
})

test('a read that is older than what was acknowledged before is found out', async () => {
  const newest = new Map<number, ListMessagesResponse>()
  let reads = 0
  const { broken } = await talk(cluster, {
    list(response) {
      const conversation = response.marks?.conversation ?? 0
      const known = newest.get(conversation)
      newest.set(conversation, response)
      reads += 1
      return known !== undefined && reads % 7 === 0 ? known : response
    },
  })
  assert.ok(broken.length > 0)
})

test('a message that is acknowledged under another number than it has is found out', async () => {
  let sends = 0
  const { broken } = await talk(cluster, {
    sent(response) {
      sends += 1
      return sends === 9 ? { ...response, seq: response.seq + 1 } : response
    },
  })
  assert.ok(broken.includes('linearizability') || broken.includes('read your writes'), broken.join())
})

test('a subscriber that misses a message finds out', async () => {
  const { broken } = await talk(cluster, {
    events: (events) => events.filter(({ event }) => event?.$case !== 'message' || event.value.seq !== 4),
  })
  assert.ok(broken.includes('delivered once, in order, without a gap'), broken.join())
})

test('a subscriber that gets a message twice finds out', async () => {
  let seen = 0
  const { broken } = await talk(cluster, {
    events: (events) =>
      events.flatMap((event) => {
        if (event.event?.$case !== 'message') return [event]
        seen += 1
        return seen > 10 ? [event, event] : [event]
      }),
  })
  assert.ok(broken.includes('delivered once, in order, without a gap'), broken.join())
})

test('a message that changes long after its round is found out', async () => {
  const { kept } = await talk(cluster, {})
  const doctored = kept.map((one, at) => (at === 0 ? { ...one, digest: 'another' } : one))
  assert.deepEqual(await brokenOf(doctored), ['no acknowledged message lost'])
})

test('replicas whose states differ are found out', async () => {
  await cluster.end(2, 'SIGKILL')
  const db = new DatabaseSync(newestState(cluster.dataOf(2)))
  db.exec(`UPDATE account SET name = name || 'x' WHERE id = 1`)
  db.close()
  cluster.start(2)
  await cluster.untilServing()
  await assert.rejects(checkSameState(cluster), /differs at position/)
})

/** People talk for a while with a cluster that lies. */
async function talk(
  { addresses }: TestCluster,
  lie: Lie,
): Promise<{ readonly broken: readonly string[]; readonly kept: readonly Kept[] }> {
  talks += 1
  const broken: string[] = []
  const world = createRealWorld({
    addresses,
    random: seededRandom(talks),
    fail: (rule) => broken.push(rule),
    note: () => undefined,
    create: (options) => lyingClient(options, lie),
  })
  const people = new People(world, {
    people: 3,
    pauseMs: 8,
    prefix: `t${talks}`,
    rooms: ['lobby', 'hall'],
    poison: null,
  })
  try {
    await until(() => people.acknowledged > 120, '120 messages are acknowledged', 30_000)
    people.stop()
    await until(() => people.idle, 'nothing is under way', 30_000)
    if (broken.length === 0) await people.finish()
    people.check()
  } finally {
    people.close()
  }
  return { broken, kept: world.kept }
}

let talks = 0

async function brokenOf(kept: readonly Kept[]): Promise<readonly string[]> {
  const broken: string[] = []
  await checkKept(kept, cluster.addresses, (rule) => broken.push(rule))
  return broken
}

function after3(message: Message): Message {
  return message.seq > 3 ? { ...message, seq: message.seq - 1 } : message
}

function lyingClient(options: ClientOptions, lie: Lie): Client {
  const client = createClient(options)
  const call: Client['call'] = async (name, input, callOptions) => {
    const response = await client.call(name, input, callOptions)
    // The compiler does not see that the response belongs to the name.
    if (name === 'listMessages' && lie.list !== undefined)
      return lie.list(response as ListMessagesResponse) as typeof response
    if (name === 'sendMessage' && lie.sent !== undefined)
      return lie.sent(response as SendMessageResponse) as typeof response
    return response
  }
  const subscribe: Client['subscribe'] = (cursor, receive) =>
    client.subscribe(cursor, (events) => receive(lie.events?.(events) ?? events))
  return new Proxy(client, {
    get(target, key) {
      if (key === 'call') return call
      if (key === 'subscribe') return subscribe
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
