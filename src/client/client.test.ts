import assert from 'node:assert/strict'
import { test } from 'node:test'
import { uuidV7TimeMs } from '../base/ids.ts'
import { seededRandom } from '../base/random.ts'
import type { Target } from '../gen/parley/v1/model.ts'
import { createClient } from './client.ts'
import { ParleyError } from './error.ts'
import { FakeNetwork } from './testing.ts'
import type { Client, ClientOptions } from './types.ts'

const bob: Target = { target: { $case: 'account', value: 'bob' } }
const token = Uint8Array.from({ length: 32 }, (_, i) => i)

function signedIn(network: FakeNetwork, options: Partial<ClientOptions> = {}): Client {
  network.chat.addSession(token, 5, 50)
  return createClient({
    addresses: network.addresses,
    token,
    clock: network.clock,
    random: seededRandom(1),
    connect: network.connect,
    ...options,
  })
}

interface Watched<T> {
  readonly value: T | undefined
  readonly error: ParleyError | undefined
}

/** What became of a promise, without waiting for it. */
function watch<T>(promise: Promise<T>): Watched<T> {
  const seen: { value: T | undefined; error: ParleyError | undefined } = {
    value: undefined,
    error: undefined,
  }
  promise.then(
    (value) => {
      seen.value = value
    },
    (error: unknown) => {
      assert.ok(error instanceof ParleyError)
      seen.error = error
    },
  )
  return seen
}

function assertPending(watched: Watched<unknown>): void {
  assert.deepEqual([watched.value, watched.error], [undefined, undefined])
}

function texts(network: FakeNetwork): readonly string[] {
  return network.chat.messages.map((message) => message.text)
}

test('calls of one turn share a frame and take effect in order', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network)
  const sent = ['a', 'b', 'c'].map((text) => watch(client.call('sendMessage', { to: bob, text })))
  await network.clock.pass(100)
  assert.deepEqual(texts(network), ['a', 'b', 'c'])
  assert.deepEqual(
    sent.map((one) => one.value?.seq),
    [1, 2, 3],
  )
  assert.equal(client.position, network.chat.position)
})

test('a replica killed after it took the message in but before it answered: the message is there once', async () => {
  const network = new FakeNetwork(3)
  const client = signedIn(network)
  await network.clock.pass(100)
  network.replica(1).fault = (request) => (request.op?.$case === 'sendMessage' ? 'dieAfter' : null)
  const sent = watch(client.call('sendMessage', { to: bob, text: 'once' }))
  await network.clock.pass(100)
  assert.deepEqual(texts(network), ['once'])
  assert.equal(sent.value?.seq, 1)
  assert.notEqual(client.state.kind === 'connected' && client.state.replica, 1)
})

test('a replica killed before it took the message in: another one gets it', async () => {
  const network = new FakeNetwork(3)
  const client = signedIn(network)
  await network.clock.pass(100)
  network.replica(1).fault = (request) => (request.op?.$case === 'sendMessage' ? 'dieBefore' : null)
  const sent = ['a', 'b'].map((text) => watch(client.call('sendMessage', { to: bob, text })))
  await network.clock.pass(100)
  assert.deepEqual(texts(network), ['a', 'b'])
  assert.deepEqual(
    sent.map((one) => one.value?.seq),
    [1, 2],
  )
})

test('a session is recognised, and the stream resumed, before calls go on after a failover', async () => {
  const network = new FakeNetwork(2)
  const client = signedIn(network)
  client.subscribe(100, () => {})
  await network.clock.pass(2000)
  network.replica(1).kill()
  const sent = watch(client.call('sendMessage', { to: bob, text: 'x' }))
  await network.clock.pass(100)
  assert.equal(sent.value?.seq, 1)
  assert.deepEqual(network.replica(2).seenOps, ['authenticate', 'subscribe', 'sendMessage'])
})

test('after a sound connection the next replica is tried without delay', async () => {
  const network = new FakeNetwork(3)
  const client = signedIn(network)
  await network.clock.pass(5000)
  network.replica(1).kill()
  await network.clock.pass(1)
  assert.equal(client.state.kind, 'reconnecting')
  // Two ways to connect and to be told the state, two to be recognised.
  await network.clock.pass(5)
  assert.equal(client.state.kind, 'connected')
})

test('a lost answer is noticed by silence, and the message is not sent twice', async () => {
  const network = new FakeNetwork(2)
  const client = signedIn(network)
  await network.clock.pass(100)
  const first = network.replica(1)
  first.fault = (request) => {
    if (request.op?.$case !== 'sendMessage') return null
    first.silent = true
    return 'loseAnswer'
  }
  const sent = watch(client.call('sendMessage', { to: bob, text: 'once' }))
  await network.clock.pass(1100)
  assert.equal(sent.value?.seq, 1)
  assert.deepEqual(texts(network), ['once'])
})

test('an idle connection that fell silent is noticed without any call', async () => {
  const network = new FakeNetwork(2)
  const client = signedIn(network)
  await network.clock.pass(100)
  network.replica(1).silent = true
  await network.clock.pass(25_000)
  assert.deepEqual(client.state, { kind: 'connected', replica: 2, address: 'r2:7400' })
})

test('replicas that are too busy to answer are given more and more time', async () => {
  const network = new FakeNetwork(1)
  const openedMs: number[] = []
  const client = signedIn(network, {
    connect: (address, handlers) => {
      openedMs.push(network.clock.monotonicMs())
      // A word of welcome, and nothing after that.
      let heard = false
      return network.connect(address, {
        ...handlers,
        received(bytes) {
          if (!heard) handlers.received(bytes)
          heard = true
        },
      })
    },
  })
  await network.clock.pass(100_000)
  client.close()
  const gapsMs = openedMs.slice(1).map((atMs, i) => atMs - (openedMs[i] ?? 0))
  assert.deepEqual(
    gapsMs.slice(0, 5).map((gapMs) => Math.round(gapMs / 1000)),
    [1, 2, 4, 8, 16],
  )
  assert.ok(gapsMs.every((gapMs) => gapMs < 20_000))
})

test('a stall of the own process is not taken for silence of the replica', async () => {
  const network = new FakeNetwork(2)
  const client = signedIn(network)
  const states: string[] = []
  await network.clock.pass(100)
  client.onState((state) => states.push(state.kind))
  for (let i = 0; i < 5; i += 1) {
    network.clock.stall(60_000)
    await network.clock.pass(1000)
  }
  assert.deepEqual(states, [])
})

test('a call fails when its deadline passes, and says that the outcome is unknown when it was sent', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network)
  await network.clock.pass(100)
  network.replica(1).fault = () => 'loseAnswer'
  const sent = watch(client.call('sendMessage', { to: bob, text: 'x' }, { timeoutMs: 500 }))
  await network.clock.pass(499)
  assertPending(sent)
  await network.clock.pass(1)
  assert.equal(sent.error?.outcome, 'unknown')
  assert.equal(sent.error?.reason, 'REASON_OUTCOME_UNKNOWN')
})

test('a call that was never sent is not done when its deadline passes', async () => {
  const network = new FakeNetwork(1)
  network.replica(1).kill()
  const client = signedIn(network)
  const sent = watch(client.call('sendMessage', { to: bob, text: 'x' }))
  await network.clock.pass(9_999)
  assertPending(sent)
  await network.clock.pass(1)
  assert.equal(sent.error?.outcome, 'notDone')
  assert.match(sent.error?.message ?? '', /no replica could be reached within 10 s/)
})

test('a read whose answer is lost is not done: it changes nothing', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network)
  await network.clock.pass(100)
  network.replica(1).fault = (request) => (request.op?.$case === 'getMe' ? 'loseAnswer' : null)
  const read = watch(client.call('getMe', {}, { timeoutMs: 500 }))
  await network.clock.pass(500)
  assert.equal(read.error?.outcome, 'notDone')
})

test('an answer after the deadline is dropped', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network)
  await network.clock.pass(100)
  let calls = 0
  client.request('sendMessage', { to: bob, text: 'x' }, { timeoutMs: 1 }, () => {
    calls += 1
  })
  await network.clock.pass(100)
  assert.equal(calls, 1)
})

test('a definite rejection comes at once, with its reason', async () => {
  const network = new FakeNetwork(2)
  const client = signedIn(network)
  network.replica(1).fault = (request) =>
    request.op?.$case === 'sendMessage' ? { refuse: 'REASON_ACCOUNT_NOT_FOUND' } : null
  const sent = watch(client.call('sendMessage', { to: bob, text: 'x' }))
  await network.clock.pass(50)
  assert.equal(sent.error?.reason, 'REASON_ACCOUNT_NOT_FOUND')
  assert.equal(sent.error?.outcome, 'notDone')
})

for (const reason of [
  'REASON_NO_QUORUM',
  'REASON_OVERLOADED',
  'REASON_DRAINING',
  'REASON_NO_SPACE',
  'REASON_OUTCOME_UNKNOWN',
  'REASON_DEADLINE_EXCEEDED',
] as const)
  test(`${reason} is retried with the same id, and nothing overtakes it`, async () => {
    const network = new FakeNetwork(1)
    const client = signedIn(network)
    let refusals = 3
    network.replica(1).fault = (request) => {
      if (request.op?.$case !== 'sendMessage' || request.op.value.text !== 'a' || refusals === 0) return null
      refusals -= 1
      return { refuse: reason }
    }
    const a = watch(client.call('sendMessage', { to: bob, text: 'a' }))
    await network.clock.pass(10)
    const b = watch(client.call('sendMessage', { to: bob, text: 'b' }))
    await network.clock.pass(1000)
    assert.deepEqual(texts(network), ['a', 'b'])
    assert.deepEqual([a.value?.seq, b.value?.seq], [1, 2])
    const ids = network
      .replica(1)
      .seen.flatMap(({ op }) => (op?.$case === 'sendMessage' && op.value.text === 'a' ? [op.value.id] : []))
    assert.equal(ids.length, 4)
    assert.ok(ids.every((id) => Buffer.compare(id, ids[0] ?? id) === 0))
  })

test('a refusal that lasts until the deadline is the error, and nothing was done', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network)
  network.replica(1).fault = (request) =>
    request.op?.$case === 'sendMessage' ? { refuse: 'REASON_NO_SPACE', retryAfterMs: 5000 } : null
  const sent = watch(client.call('sendMessage', { to: bob, text: 'a' }))
  await network.clock.pass(10_000)
  assert.equal(sent.error?.reason, 'REASON_NO_SPACE')
  assert.equal(sent.error?.outcome, 'notDone')
})

test('a call that waits behind a refused one until its deadline is told the same reason', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network, { timeoutMs: 3000 })
  let refuses = true
  network.replica(1).fault = (request) =>
    request.op?.$case === 'sendMessage' && refuses ? { refuse: 'REASON_NO_SPACE', retryAfterMs: 5000 } : null
  for (const text of ['a', 'b', 'c']) {
    const sent = watch(client.call('sendMessage', { to: bob, text }))
    await network.clock.pass(3100)
    assert.deepEqual([sent.error?.reason, sent.error?.outcome], ['REASON_NO_SPACE', 'notDone'], text)
  }
  refuses = false
  const sent = watch(client.call('sendMessage', { to: bob, text: 'd' }, { timeoutMs: 10_000 }))
  await network.clock.pass(6000)
  assert.ok(sent.value !== undefined)
  network.replica(1).fault = () => 'loseAnswer'
  const read = watch(client.call('getMe', {}))
  await network.clock.pass(3100)
  assert.equal(
    read.error?.reason,
    'REASON_DEADLINE_EXCEEDED',
    'what was refused before is no reason any more',
  )
})

test('reads are answered while writes are refused for what concerns only writes', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network)
  let refuses = true
  network.replica(1).fault = (request) =>
    request.op?.$case === 'sendMessage' && refuses ? { refuse: 'REASON_NO_SPACE', retryAfterMs: 500 } : null
  const sent = watch(client.call('sendMessage', { to: bob, text: 'a' }, { timeoutMs: Infinity }))
  const beside = watch(client.call('getMe', {}))
  await network.clock.pass(100)
  assert.ok(beside.value !== undefined)
  // Whether the write waits to be tried again, or is being tried.
  for (let i = 0; i < 20; i += 1) {
    const read = watch(client.call('getMe', {}))
    await network.clock.pass(100)
    assert.ok(read.value !== undefined)
  }
  const tries = network.replica(1).seenOps.filter((name) => name === 'sendMessage').length
  assert.ok(
    tries >= 3 && tries <= 6,
    `${tries} tries: a read that is answered is no reason to ask more often`,
  )
  const behind = watch(client.call('sendMessage', { to: bob, text: 'b' }))
  refuses = false
  await network.clock.pass(1000)
  assert.deepEqual([sent.value?.seq, behind.value?.seq], [1, 2])
})

test('reads wait as well while a replica refuses them', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network)
  network.replica(1).fault = (request) =>
    request.op?.$case === 'getMe' ? { refuse: 'REASON_CATCHING_UP', retryAfterMs: 500 } : null
  const read = watch(client.call('getMe', {}))
  await network.clock.pass(100)
  const next = watch(client.call('getMe', {}))
  await network.clock.pass(100)
  assert.equal(network.replica(1).seenOps.filter((name) => name === 'getMe').length, 1)
  network.replica(1).fault = () => null
  await network.clock.pass(1000)
  assert.ok(read.value !== undefined && next.value !== undefined)
})

test('an outcome that was unknown once stays unknown through later refusals', async () => {
  const network = new FakeNetwork(2)
  const client = signedIn(network)
  await network.clock.pass(100)
  network.replica(1).fault = (request) => (request.op?.$case === 'sendMessage' ? 'dieAfter' : null)
  network.replica(2).fault = (request) =>
    request.op?.$case === 'sendMessage' ? { refuse: 'REASON_NO_QUORUM' } : null
  const sent = watch(client.call('sendMessage', { to: bob, text: 'a' }))
  await network.clock.pass(10_000)
  assert.equal(sent.error?.outcome, 'unknown')
})

test('a call that is made while the library has too much open is refused with words', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network, { maxOpenCalls: 2, maxOpenCharacters: 10 })
  const sent = ['a', 'b', 'c'].map((text) => watch(client.call('sendMessage', { to: bob, text })))
  await network.clock.pass(100)
  assert.deepEqual(
    sent.map((one) => one.error?.reason),
    [undefined, undefined, 'REASON_OVERLOADED'],
  )
  const long = watch(client.call('sendMessage', { to: bob, text: '12345678901' }))
  await network.clock.pass(100)
  assert.match(long.error?.message ?? '', /characters of text are open/)
})

test('more calls than a replica takes on one connection wait here, and all are answered', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network)
  let answered = 0
  for (let i = 0; i < 9000; i += 1)
    client.request('sendMessage', { to: bob, text: String(i) }, {}, (error) => {
      assert.equal(error, null)
      answered += 1
    })
  await network.clock.pass(1000)
  assert.equal(answered, 9000)
  assert.deepEqual(
    texts(network),
    Array.from({ length: 9000 }, (_, i) => String(i)),
  )
})

test('a request that no frame can hold is refused here', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network)
  const sent = watch(client.call('sendMessage', { to: bob, text: 'x'.repeat(200_000) }))
  await network.clock.pass(100)
  assert.equal(sent.error?.reason, 'REASON_MESSAGE_TOO_LARGE')
  assert.equal(client.state.kind, 'connected')
})

test('a replica without quorum is left for one that has it', async () => {
  const network = new FakeNetwork(3)
  network.replica(1).quorum = false
  network.replica(2).quorum = false
  const client = signedIn(network)
  await network.clock.pass(1000)
  assert.deepEqual(client.state, { kind: 'connected', replica: 3, address: 'r3:7400' })
})

test('a connection is moved when its replica loses the quorum and another one has it', async () => {
  const network = new FakeNetwork(2)
  const client = signedIn(network)
  await network.clock.pass(2000)
  network.replica(1).setState({ quorum: false })
  const sent = watch(client.call('sendMessage', { to: bob, text: 'x' }))
  await network.clock.pass(100)
  assert.equal(sent.value?.seq, 1)
  assert.deepEqual(client.state, { kind: 'connected', replica: 2, address: 'r2:7400' })
  assert.equal(network.replica(1).connections, 0)
})

test('a connection is moved away from a replica that is stopping before it is gone', async () => {
  const network = new FakeNetwork(2)
  const client = signedIn(network)
  await network.clock.pass(2000)
  network.replica(1).setState({ draining: true })
  await network.clock.pass(100)
  assert.deepEqual(client.state, { kind: 'connected', replica: 2, address: 'r2:7400' })
})

test('a connection is moved away from a replica that takes no writes, and stays when no other does', async () => {
  const network = new FakeNetwork(2)
  const client = signedIn(network)
  await network.clock.pass(2000)
  network.replica(1).setState({ hindered: true })
  await network.clock.pass(100)
  assert.deepEqual(client.state, { kind: 'connected', replica: 2, address: 'r2:7400' })
  network.replica(2).setState({ hindered: true })
  await network.clock.pass(10_000)
  assert.deepEqual(client.state, { kind: 'connected', replica: 2, address: 'r2:7400' })
  network.replica(1).setState({ hindered: false })
  await network.clock.pass(15_000)
  assert.deepEqual(client.state, { kind: 'connected', replica: 1, address: 'r1:7400' })
})

test('without any quorum reads are answered by the replica at hand, writes wait, and all goes on when it is back', async () => {
  const network = new FakeNetwork(3)
  for (const replica of network.replicas.values()) replica.quorum = false
  const client = signedIn(network)
  client.outbox.add(bob, 'queued')
  client.outbox.add(bob, 'queued too')
  const best = watch(client.call('getMe', {}, { read: 'best' }))
  const sure = watch(client.call('getMe', {}))
  await network.clock.pass(1000)
  assert.equal(best.value?.position, network.chat.position)
  assertPending(sure)
  assert.equal(client.state.kind, 'noQuorum')
  assert.equal(client.state.kind === 'noQuorum' && client.state.queued, 2)
  const serving = network.replica(client.state.kind === 'noQuorum' ? client.state.replica : 0)
  serving.setState({ quorum: true })
  await network.clock.pass(100)
  assert.equal(sure.value?.position, 100)
  assert.deepEqual(texts(network), ['queued', 'queued too'])
  assert.equal(client.state.kind, 'connected')
})

test('a best read that is refused for want of a quorum is asked for again locally', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network)
  network.replica(1).fault = (request) =>
    request.op?.$case === 'getMe' && !request.local ? { refuse: 'REASON_NO_QUORUM' } : null
  const best = watch(client.call('getMe', {}, { read: 'best' }))
  await network.clock.pass(100)
  assert.equal(best.value?.position, 100)
})

test('a local read asks for at least what this client has seen', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network)
  watch(client.call('sendMessage', { to: bob, text: 'x' }))
  await network.clock.pass(100)
  watch(client.call('getMe', {}, { read: 'local' }))
  await network.clock.pass(100)
  const read = network.replica(1).seen.find((request) => request.op?.$case === 'getMe')
  assert.deepEqual([read?.local, read?.minPosition], [true, 101])
})

test('a local read asks for at least what an earlier client has seen, when that is told', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network, { position: 77 })
  watch(client.call('getMe', {}, { read: 'local' }))
  await network.clock.pass(100)
  assert.equal(network.replica(1).seen.find((request) => request.op?.$case === 'getMe')?.minPosition, 77)
})

test('addresses are learned from the replicas', async () => {
  const network = new FakeNetwork(3)
  for (const replica of network.replicas.values()) replica.addresses = network.addresses
  const client = signedIn(network, { addresses: ['r2:7400'] })
  await network.clock.pass(2000)
  assert.equal(client.addresses.length, 3)
  network.replica(2).kill()
  await network.clock.pass(100)
  assert.equal(client.state.kind, 'connected')
})

test('a client that is told not to discover stays with what it was given', async () => {
  const network = new FakeNetwork(2)
  network.replica(1).addresses = network.addresses
  network.replica(1).quorum = false
  const client = signedIn(network, { addresses: ['r1:7400'], discover: false })
  await network.clock.pass(5000)
  assert.deepEqual(client.addresses, ['r1:7400'])
  assert.equal(client.state.kind, 'noQuorum')
  assert.equal(network.replica(2).seen.length, 0)
})

test('a replica that does not answer holds up the search for a quarter of a second only', async () => {
  const network = new FakeNetwork(3)
  network.replica(1).silent = true
  const client = signedIn(network)
  await network.clock.pass(300)
  assert.deepEqual(client.state, { kind: 'connected', replica: 2, address: 'r2:7400' })
})

test('the longer replicas take to answer, the fewer connections are made beside each other', async () => {
  const network = new FakeNetwork(5)
  for (const replica of network.replicas.values()) replica.silent = true
  const attempts: number[] = []
  signedIn(network, {
    connect: (address, handlers) => {
      attempts.push(network.clock.monotonicMs())
      return network.connect(address, handlers)
    },
  })
  await network.clock.pass(4500)
  assert.deepEqual(
    attempts.slice(1).map((atMs, i) => atMs - (attempts[i] ?? 0)),
    [250, 500, 1000, 2000],
  )
})

test('replicas that refuse at once do not slow down the search for one that answers', async () => {
  const network = new FakeNetwork(5)
  for (const id of [1, 2, 3]) network.replica(id).kill()
  network.replica(4).silent = true
  const client = signedIn(network)
  await network.clock.pass(270)
  assert.deepEqual(client.state, { kind: 'connected', replica: 5, address: 'r5:7400' })
})

test('back-off between rounds grows and is bounded, and waking up tries at once', async () => {
  const network = new FakeNetwork(1)
  const attempts: number[] = []
  network.replica(1).kill()
  const client = signedIn(network, {
    connect: (address, handlers) => {
      attempts.push(network.clock.monotonicMs())
      return network.connect(address, handlers)
    },
  })
  await network.clock.pass(60_000)
  const gaps = attempts.slice(1).map((at, i) => at - (attempts[i] ?? 0))
  assert.ok((gaps[0] ?? 0) <= 60)
  assert.ok(gaps.every((gap) => gap <= 3010))
  assert.ok(attempts.length > 20 && attempts.length < 60, `${attempts.length} attempts`)
  network.replica(1).up = true
  client.wake()
  await network.clock.pass(5)
  assert.equal(client.state.kind, 'connected')
})

test('a replica that accepts and dies at once is not retried in a tight loop', async () => {
  const network = new FakeNetwork(1)
  const replica = network.replica(1)
  replica.fault = (request) => {
    if (request.op?.$case !== 'authenticate') return null
    replica.kill()
    replica.up = true
    return null
  }
  signedIn(network)
  await network.clock.pass(30_000)
  assert.ok(replica.seen.length < 40, `${replica.seen.length} attempts`)
})

test('ids carry the time of the cluster, not that of a wrong clock', async () => {
  const network = new FakeNetwork(1)
  network.clockAheadMs = 40 * 24 * 3600 * 1000
  const client = signedIn(network)
  watch(client.call('sendMessage', { to: bob, text: 'x' }))
  await network.clock.pass(100)
  const id = network.chat.messages[0]?.id ?? new Uint8Array()
  const offMs = Math.abs((uuidV7TimeMs(id) ?? 0) - (network.clock.wallMs() + network.clockAheadMs))
  assert.ok(offMs < 200, `${offMs} ms off`)
})

test('signing in uses the new session; its calls come after it was recognised', async () => {
  const network = new FakeNetwork(2)
  network.chat.passwords.set('ann', 'secret')
  const client = createClient({
    addresses: network.addresses,
    clock: network.clock,
    random: seededRandom(1),
    connect: network.connect,
  })
  const seen = watch(client.call('lookUpName', { name: 'ann' }))
  const wrong = watch(client.logIn({ name: 'ann', password: 'wrong' }))
  await network.clock.pass(100)
  assert.equal(seen.value?.exists, true)
  assert.equal(wrong.error?.reason, 'REASON_WRONG_CREDENTIALS')
  const right = watch(
    client.logIn({ name: 'ann', password: 'secret' }).then(async (response) => {
      await client.call('sendMessage', { to: bob, text: 'hello' })
      return response
    }),
  )
  await network.clock.pass(100)
  assert.equal(right.value?.inbox, 3)
  assert.equal(client.account?.id, 5)
  assert.deepEqual(texts(network), ['hello'])
  // The session survives the failover.
  network.replica(1).kill()
  const again = watch(client.call('sendMessage', { to: bob, text: 'again' }))
  await network.clock.pass(100)
  assert.equal(again.value?.seq, 2)
})

test('a session that is no more is told once, and open calls of it fail', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network)
  await network.clock.pass(100)
  network.chat.tokens.clear()
  network.replica(1).kill()
  network.replica(1).up = true
  const sent = watch(client.call('sendMessage', { to: bob, text: 'x' }))
  await network.clock.pass(500)
  assert.equal(sent.error?.reason, 'REASON_NOT_SIGNED_IN')
  assert.deepEqual(client.state, { kind: 'signedOut', reason: 'REASON_NOT_SIGNED_IN' })
  assert.equal(client.account, null)
})

test('logging out whose answer was lost still counts', async () => {
  const network = new FakeNetwork(2)
  const client = signedIn(network)
  await network.clock.pass(100)
  network.replica(1).fault = (request) => (request.op?.$case === 'logOut' ? 'dieAfter' : null)
  let done = false
  void client.logOut().then(() => {
    done = true
  })
  await network.clock.pass(1000)
  assert.ok(done)
  assert.equal(client.state.kind, 'signedOut')
})

test('closing ends the connection and fails what is open', async () => {
  const network = new FakeNetwork(1)
  const client = signedIn(network)
  await network.clock.pass(100)
  const sent = watch(client.call('sendMessage', { to: bob, text: 'x' }))
  client.close()
  await network.clock.pass(100)
  assert.equal(sent.error?.outcome, 'notDone')
  assert.equal(network.replica(1).connections, 0)
  assert.equal(client.state.kind, 'closed')
  await assert.rejects(
    Promise.all([client.call('getMe', {}), network.clock.pass(10)]),
    /the client is closed/,
  )
})
