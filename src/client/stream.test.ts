import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { seededRandom } from '../base/random.ts'
import type { Event } from '../gen/parley/v1/service.ts'
import { createClient } from './client.ts'
import { EventStream } from './stream.ts'
import { FakeNetwork } from './testing.ts'

const token = new Uint8Array(32)

function event(position: number, seq: number): Event {
  return { position, event: { $case: 'conversationLeft', value: { conversation: seq } } }
}

test('whatever the connection breaks between, each event comes once and in order', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 12 }),
      fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 6 }),
      fc.boolean(),
      (sizes, breaks, withProgress) => {
        const all = sizes.flatMap((size, i) => {
          const events = Array.from({ length: size }, (_, seq) => event(i + 11, seq))
          return withProgress && i % 3 === 0
            ? [...events, { position: i + 11, event: { $case: 'progress', value: {} } } as const]
            : events
        })
        const stream = new EventStream(10)
        const got: Event[] = []
        for (const length of [...breaks, all.length + 1]) {
          const cursor = stream.resume()
          got.push(...stream.accept(all.filter((one) => one.position > cursor).slice(0, length)))
        }
        assert.deepEqual(
          got.filter((one) => one.event?.$case !== 'progress'),
          all.filter((one) => one.event?.$case !== 'progress'),
        )
      },
    ),
  )
})

test('after a resync the stream goes on from its position', () => {
  const stream = new EventStream(10)
  stream.accept([event(11, 1)])
  const resync = { position: 50, event: { $case: 'resync', value: {} } } as const
  assert.deepEqual(stream.accept([resync, event(51, 1)]), [resync, event(51, 1)])
  assert.equal(stream.resume(), 50)
})

test('the progress of a replica that lags behind the one before brings nothing again', () => {
  const stream = new EventStream(10)
  assert.deepEqual(stream.accept([event(13, 1), event(13, 2)]), [event(13, 1), event(13, 2)])
  assert.equal(stream.resume(), 10)
  const progress = { position: 11, event: { $case: 'progress', value: {} } } as const
  assert.deepEqual(stream.accept([progress]), [])
  assert.deepEqual(stream.accept([event(13, 1), event(13, 2), event(13, 3)]), [event(13, 3)])
  assert.equal(stream.resume(), 11)
})

test('a client that fails over in the middle of a position sees every event once', async () => {
  for (let breakAfter = 0; breakAfter <= 6; breakAfter += 1) {
    const network = new FakeNetwork(3)
    network.chat.addSession(token, 5, 50)
    const client = createClient({
      addresses: network.addresses,
      token,
      clock: network.clock,
      random: seededRandom(breakAfter),
      connect: network.connect,
    })
    const seen: number[] = []
    client.subscribe(100, (events) => {
      for (const { event } of events)
        if (event?.$case === 'conversationLeft') seen.push(event.value.conversation)
    })
    network.breakAfterEvents = breakAfter
    await network.clock.pass(100)
    const deleted = (seq: number): NonNullable<Event['event']> => ({
      $case: 'conversationLeft',
      value: { conversation: seq },
    })
    network.chat.happen(deleted(1), deleted(2), deleted(3))
    network.chat.happen(deleted(4), deleted(5), deleted(6))
    await network.clock.pass(1000)
    assert.deepEqual(seen, [1, 2, 3, 4, 5, 6])
    client.close()
  }
})

test('a stream from now on resumes from where its first event says that it began', async () => {
  const network = new FakeNetwork(2)
  network.chat.addSession(token, 5, 50)
  const client = createClient({
    addresses: network.addresses,
    token,
    clock: network.clock,
    random: seededRandom(1),
    connect: network.connect,
  })
  network.chat.happen({ $case: 'conversationLeft', value: { conversation: 1 } })
  const seen: number[] = []
  client.subscribe(0, (events) => {
    for (const { event } of events)
      if (event?.$case === 'conversationLeft') seen.push(event.value.conversation)
  })
  await network.clock.pass(100)
  network.replica(1).kill()
  network.chat.happen({ $case: 'conversationLeft', value: { conversation: 2 } })
  await network.clock.pass(1000)
  assert.deepEqual(seen, [2])
})

test('a second stream on the same connection gets nothing of the first', async () => {
  const network = new FakeNetwork(1)
  network.chat.addSession(token, 5, 50)
  const client = createClient({
    addresses: network.addresses,
    token,
    clock: network.clock,
    random: seededRandom(1),
    connect: network.connect,
  })
  await network.clock.pass(100)
  const seen: string[] = []
  const follow = (name: string) =>
    client.subscribe(100, (events) => {
      for (const { event } of events)
        if (event?.$case === 'conversationLeft') seen.push(`${name}${event.value.conversation}`)
    })
  follow('a')
  await network.clock.pass(10)
  network.chat.happen({ $case: 'conversationLeft', value: { conversation: 1 } })
  network.chat.happen({ $case: 'conversationLeft', value: { conversation: 2 } })
  follow('b')
  await network.clock.pass(100)
  assert.deepEqual(seen, ['b1', 'b2'])
})

test('the end of the own session arrives as an event', async () => {
  const network = new FakeNetwork(1)
  network.chat.addSession(token, 5, 50)
  const client = createClient({
    addresses: network.addresses,
    token,
    clock: network.clock,
    random: seededRandom(1),
    connect: network.connect,
  })
  client.subscribe(100, () => {})
  await network.clock.pass(100)
  network.chat.happen({ $case: 'sessionEnded', value: { session: 49, reason: 'REASON_NOT_SIGNED_IN' } })
  await network.clock.pass(100)
  assert.equal(client.state.kind, 'connected')
  network.chat.happen({ $case: 'sessionEnded', value: { session: 50, reason: 'REASON_SESSION_EXPIRED' } })
  await network.clock.pass(100)
  assert.deepEqual(client.state, { kind: 'signedOut', reason: 'REASON_SESSION_EXPIRED' })
})
