import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { after, before, mock, test } from 'node:test'
import { ClientFrame, ServerFrame, type Request } from '../gen/parley/v1/frames.ts'
import { Reason } from '../gen/parley/v1/model.ts'
import { host, newId, signUp, startTestApi, TestClient, type TestApi, watchTurns } from './test-support.ts'
import { defaultLimits } from './websocket.ts'

let server: TestApi
let port: number
let ann: Awaited<ReturnType<typeof signUp>>
let bob: Awaited<ReturnType<typeof signUp>>

before(async () => {
  server = await startTestApi()
  port = server.api.httpPort
  ann = await signUp(port, 'ann')
  bob = await signUp(port, 'bob')
})
after(async () => {
  await server.close()
  assert.deepEqual(server.errors, [])
})

const toBob = { target: { $case: 'account', value: 'bob' } } as const
const send = (text: string) =>
  ({ $case: 'sendMessage', value: { id: newId(), to: toBob, text } }) as const satisfies Request['op']

/** Other clients are served as before. */
async function assertServing(): Promise<void> {
  assert.equal((await ann.ask(send('still here'))).$case, 'sendMessage')
}

test('the first frame tells the state of the replica, and another one whenever it changes', async () => {
  const client = await new TestClient(port).ready()
  assert.equal(client.state?.replica, 1)
  assert.equal(client.state?.version, 'test')
  assert.equal(client.state?.quorum, true)
  server.setQuorum(false)
  await client.until(() => client.state?.quorum === false)
  server.setQuorum(true)
  await client.until(() => client.state?.quorum === true)
  client.close()
})

test('requests behind an authentication in the same frame are those of the session', async () => {
  const client = await new TestClient(port).ready()
  const parts = [
    client.make({ $case: 'authenticate', value: { token: ann.token } }),
    client.make({ $case: 'getMe', value: {} }),
    client.make({ $case: 'subscribe', value: { cursor: 0 } }),
  ]
  client.send(parts.map(({ request }) => request))
  const results = await Promise.all(parts.map(({ answer }) => answer))
  assert.deepEqual(
    results.map(({ $case }) => $case),
    ['authenticate', 'getMe', 'subscribe'],
  )
  client.close()
})

test('requests of one frame are answered in one frame', async () => {
  const parts = Array.from({ length: 100 }, (_, i) => ann.make(send(`message ${i}`)))
  const before = ann.frames
  ann.send(parts.map(({ request }) => request))
  const results = await Promise.all(parts.map(({ answer }) => answer))
  const seqs = results.map((result) => (result.$case === 'sendMessage' ? result.value.seq : 0))
  const [first = 0] = seqs
  assert.deepEqual(
    seqs,
    seqs.map((_, i) => first + i),
    'in the order in which they were asked',
  )
  assert.equal(ann.frames, before + 1)
})

test('events come in order, once, and resume from a cursor', async () => {
  const other = await new TestClient(port).ready()
  await other.get('authenticate', { token: bob.token })
  const { position } = await other.get('getMe', {})
  await other.get('subscribe', { cursor: position })
  for (const text of ['one', 'two', 'three']) await ann.ask(send(text))
  const texts = (client: TestClient) =>
    client.events.flatMap(({ event }) => (event?.$case === 'message' ? [event.value.text] : []))
  await other.until(() => texts(other).length === 3)
  assert.deepEqual(texts(other), ['one', 'two', 'three'])
  const cursor = other.events.find(
    ({ event }) => event?.$case === 'message' && event.value.text === 'two',
  )?.position
  other.close()
  const again = await new TestClient(port).ready()
  await again.get('authenticate', { token: bob.token })
  await again.get('subscribe', { cursor: cursor ?? 0 })
  await again.until(() => texts(again).length === 1)
  assert.deepEqual(texts(again), ['three'])
  again.close()
})

test('a connection that is signed in anew gets no more events of the session before, and outlives it', async () => {
  const shared = await new TestClient(port).ready()
  const first = await signUp(port, 'first')
  await shared.get('authenticate', { token: first.token })
  await shared.get('subscribe', { cursor: 0 })
  await shared.until(() => shared.events.length > 0)
  await shared.get('authenticate', { token: bob.token })
  const toFirst = { target: { $case: 'account', value: 'first' } } as const
  await ann.get('sendMessage', { id: newId(), to: toFirst, text: 'for the first' })
  await first.get('logOut', { id: newId() })
  assert.equal((await shared.get('getMe', {})).account?.name, 'bob')
  const texts = () =>
    shared.events.flatMap(({ event }) => (event?.$case === 'message' ? [event.value.text] : []))
  await shared.get('subscribe', { cursor: 0 })
  await ann.ask(send('for bob'))
  await shared.until(() => texts().length > 0)
  assert.deepEqual(texts(), ['for bob'])
  // The same session once more changes nothing.
  await shared.get('authenticate', { token: bob.token })
  await ann.ask(send('and another'))
  await shared.until(() => texts().length > 1)
  shared.close()
  first.close()
})

test('two frames in one TCP segment are two', async () => {
  const socket = await upgraded()
  const frames = frameReader(socket)
  const ping = (number: number) => clientFrame(encode([request(number, { $case: 'ping', value: {} })]))
  socket.write(Buffer.concat([ping(1), ping(2)]))
  const numbers: number[] = []
  while (numbers.length < 2)
    numbers.push(...ServerFrame.decode(await frames()).responses.map(({ number }) => number))
  assert.deepEqual(numbers, [1, 2])
  socket.destroy()
})

test('a frame that comes byte by byte is one', async () => {
  const socket = await upgraded()
  const frames = frameReader(socket)
  for (const byte of clientFrame(encode([request(9, { $case: 'ping', value: {} })]))) {
    socket.write(Buffer.of(byte))
    await new Promise((resolve) => setImmediate(resolve))
  }
  let numbers: number[] = []
  while (numbers.length === 0)
    numbers = ServerFrame.decode(await frames()).responses.map(({ number }) => number)
  assert.deepEqual(numbers, [9])
  socket.destroy()
})

test('a client that leaves in the middle of a frame harms nobody', async () => {
  const socket = await upgraded()
  socket.write(clientFrame(encode([request(1, send('half'))])).subarray(0, 40))
  socket.destroy()
  await assertServing()
})

const bad: readonly (readonly [what: string, data: string | Uint8Array, code: number])[] = [
  ['text', 'hello', 1003],
  ['garbage', randomBytes(100).fill(0xff), 1007],
  ['an empty frame', new Uint8Array(0), 1007],
  ['a message without requests', Uint8Array.of(0x50, 1), 1007],
  ['half a message', encode([request(1, send('cut off'))]).subarray(0, 30), 1007],
  ['a name that is not UTF-8', notUtf8(), 1007],
  ['a number above 2^53', Uint8Array.of(0x0a, 11, 0x20, ...Array.from({ length: 9 }, () => 0xff), 1), 1007],
  ['a frame of half a million requests', Buffer.alloc(1_000_000, '\n\0'), 1009],
  ['a frame above the limit', new Uint8Array(defaultLimits.maxFrameBytes + 1), 1009],
]
for (const [what, data, code] of bad)
  test(`${what} closes the connection with ${code}, and others are served on`, async () => {
    const client = await new TestClient(port).ready()
    client.socket.send(data)
    assert.equal((await client.closed).code, code)
    await assertServing()
  })

test('a frame of the largest size is taken', async () => {
  const room = defaultLimits.maxFrameBytes - 64
  const error = await ann.fail({
    $case: 'sendMessage',
    value: { id: newId(), to: toBob, text: 'x'.repeat(room) },
  })
  assert.equal(error.reason, Reason.MESSAGE_TOO_LARGE)
})

test('a frame that breaks the WebSocket protocol closes the connection', async () => {
  const socket = await upgraded()
  const ended = once(socket, 'close')
  // Unmasked, with a reserved opcode.
  socket.write(Buffer.of(0x8f, 0x02, 1, 2))
  socket.resume()
  await ended
  await assertServing()
})

test('more open requests than allowed are refused as OVERLOADED, and the others are answered', async () => {
  const small = await startTestApi({ limits: { maxOpenRequests: 10 } })
  const client = await signUp(small.api.httpPort, 'ann')
  await signUp(small.api.httpPort, 'bob')
  small.hold(true)
  const parts = Array.from({ length: 12 }, () => client.make(send('hi')))
  client.send(parts.map(({ request: made }) => made))
  const refused = await Promise.all(parts.slice(10).map(({ answer }) => answer))
  for (const result of refused)
    assert.ok(
      result.$case === 'error' && result.value.reason === Reason.OVERLOADED && result.value.retryAfterMs > 0,
    )
  small.hold(false)
  for (const { answer } of parts.slice(0, 10)) assert.equal((await answer).$case, 'sendMessage')
  await small.close()
})

test('requests that are answered at once count until their answers have left', async () => {
  const small = await startTestApi({ limits: { maxOpenRequests: 10 } })
  const client = await new TestClient(small.api.httpPort).ready()
  const parts = Array.from({ length: 30 }, () => client.make({ $case: 'ping', value: {} }))
  client.send(parts.map(({ request: made }) => made))
  const kinds = (await Promise.all(parts.map(({ answer }) => answer))).map(({ $case }) => $case)
  assert.deepEqual(kinds, [...Array<string>(10).fill('ping'), ...Array<string>(20).fill('error')])
  assert.equal((await client.ask({ $case: 'ping', value: {} })).$case, 'ping')
  await small.close()
})

test('a client that never reads costs a bounded amount of memory, delays nobody, and is cut off', async () => {
  const bounded = await startTestApi()
  const talker = await signUp(bounded.api.httpPort, 'ann')
  const deaf = await signUp(bounded.api.httpPort, 'bob')
  await deaf.get('subscribe', { cursor: 0 })
  deaf.socket.pause()
  const text = 'x'.repeat(16_000)
  let mostBytes = 0
  let isFull = false
  // Until the kernel's buffers are full and then some: three times what may wait.
  for (let sent = 0; sent < 3 * defaultLimits.maxWaitingBytes || !isFull; sent += 20 * text.length) {
    const parts = Array.from({ length: 20 }, () => talker.make(send(text)))
    talker.send(parts.map(({ request: made }) => made))
    for (const { answer } of parts) assert.equal((await answer).$case, 'sendMessage')
    const waiting = await gauge(bounded, 'parley_waiting_bytes')
    if (isFull) assert.equal(waiting, mostBytes, 'nothing is added once it is full')
    isFull = waiting >= defaultLimits.maxWaitingBytes
    mostBytes = waiting
  }
  assert.ok(mostBytes < defaultLimits.maxWaitingBytes + 40 * text.length, `${mostBytes} bytes`)
  // Nor can it make the replica pile up answers by asking for more.
  for (let i = 0; i < 100; i += 1) {
    const { request: made } = deaf.make({
      $case: 'listMessages',
      value: {
        conversation: { target: { $case: 'account', value: 'ann' } },
        beforeSeq: 0,
        afterSeq: 0,
        pageSize: 500,
      },
    })
    deaf.send([made])
  }
  assert.equal(await gauge(bounded, 'parley_waiting_bytes'), mostBytes)
  bounded.clock.advance(defaultLimits.slowMs + defaultLimits.sweepMs)
  await until(async () => (await gauge(bounded, 'parley_waiting_bytes')) === 0)
  deaf.socket.resume()
  assert.notEqual((await deaf.closed).code, 1000)
  await bounded.close()
})

test('a slow client that reads at last gets every event, in order', async () => {
  const talker = await signUp(port, 'talker')
  const slow = await signUp(port, 'slow')
  await slow.get('subscribe', { cursor: 0 })
  slow.socket.pause()
  const text = 'y'.repeat(16_000)
  const toSlow = { target: { $case: 'account', value: 'slow' } } as const
  let count = 0
  do {
    await talker.get('sendMessage', { id: newId(), to: toSlow, text: `${count} ${text}` })
    count += 1
  } while ((await gauge(server, 'parley_waiting_bytes')) < defaultLimits.maxWaitingBytes)
  for (let more = 0; more < 20; more += 1, count += 1)
    await talker.get('sendMessage', { id: newId(), to: toSlow, text: `${count} ${text}` })
  slow.socket.resume()
  const numbers = () =>
    slow.events.flatMap(({ event }) =>
      event?.$case === 'message' ? [Number(event.value.text.split(' ')[0])] : [],
    )
  await slow.until(() => numbers().length === count)
  assert.deepEqual(
    numbers(),
    Array.from({ length: count }, (_, i) => i),
  )
  slow.close()
  talker.close()
})

test('a connection on which nobody signs in and nothing is asked for is cut off; one that is signed in is kept', async () => {
  const own = await startTestApi()
  const signedIn = await signUp(own.api.httpPort, 'ann')
  const silent = await new TestClient(own.api.httpPort).ready()
  const asking = await new TestClient(own.api.httpPort).ready()
  own.clock.advance(defaultLimits.silentMs - defaultLimits.sweepMs)
  await asking.get('ping', {})
  own.clock.advance(defaultLimits.sweepMs)
  assert.equal((await silent.closed).code, 4001)
  await asking.get('ping', {})
  await signedIn.get('getMe', {})
  await own.close()
})

test('a quiet client is pinged, and one that does not answer is cut off', async () => {
  const own = await startTestApi()
  const client = await signUp(own.api.httpPort, 'ann')
  const pinged = once(client.socket, 'ping')
  own.clock.advance(defaultLimits.pingAfterMs)
  await pinged
  await client.get('ping', {})
  // A stopped process answers no pings.
  client.socket.pause()
  own.clock.advance(defaultLimits.deadAfterMs)
  await until(async () => (await gauge(own, 'parley_websocket_connections')) === 0)
  client.socket.resume()
  assert.equal((await client.closed).code, 1006)
  await own.close()
})

test('pages of other sites cannot connect; those of the cluster and programs can', async () => {
  const statusFor = (headers: Readonly<Record<string, string>>): Promise<number | undefined> => {
    const client = new TestClient(port, headers)
    return new Promise((resolve) => {
      client.socket.on('unexpected-response', (_request, response) => {
        resolve(response.statusCode)
        client.close()
      })
      client.socket.on('open', () => {
        resolve(101)
        client.close()
      })
    })
  }
  assert.equal(await statusFor({}), 101)
  assert.equal(await statusFor({ origin: `http://${host}:${port}` }), 101)
  assert.equal(await statusFor({ origin: `http://${host}:5173` }), 101)
  assert.equal(await statusFor({ origin: 'http://localhost:5173' }), 101)
  assert.equal(await statusFor({ origin: 'http://evil.example' }), 403)
  assert.equal(await statusFor({ origin: 'null' }), 403)
})

test('2,000 open subscriptions do not keep a send from its answer', async () => {
  const own = await startTestApi()
  const talker = await signUp(own.api.httpPort, 'ann')
  await signUp(own.api.httpPort, 'bob')
  const listeners: TestClient[] = []
  for (let i = 0; i < 20; i += 1) {
    const some = await Promise.all(
      Array.from({ length: 100 }, () => new TestClient(own.api.httpPort).ready()),
    )
    await Promise.all(some.map((client) => client.get('authenticate', { token: talker.token })))
    await Promise.all(some.map((client) => client.get('subscribe', { cursor: 0 })))
    listeners.push(...some)
  }
  const everyone = { target: { $case: 'room', value: 'everyone' } } as const
  await talker.get('sendMessage', { id: newId(), to: everyone, text: 'to all' })
  const isHere = (client: TestClient) =>
    client.events.some(({ event }) => event?.$case === 'message' && event.value.text === 'to all')
  await Promise.all(listeners.map((client) => client.until(() => isHere(client))))
  assert.equal(await gauge(own, 'parley_websocket_connections'), 2002)
  await own.close()
})

test('a replica that stops says so, answers what it took in, and says goodbye', async () => {
  const own = await startTestApi()
  const client = await signUp(own.api.httpPort, 'ann')
  await signUp(own.api.httpPort, 'bob')
  own.hold(true)
  const { request: made, answer } = client.make(send('last words'))
  client.send([made])
  await client.get('ping', {})
  const closing = own.api.close(10_000)
  await client.until(() => client.state?.draining === true)
  own.hold(false)
  assert.equal((await answer).$case, 'sendMessage')
  assert.deepEqual(await client.closed, { code: 1001, reason: 'DRAINING' })
  await closing
  await own.close().catch(() => undefined)
})

function request(number: number, op: Request['op']): Request {
  return { number, timeoutMs: 0, local: false, minPosition: 0, op }
}

function encode(requests: readonly Request[]): Uint8Array {
  return ClientFrame.encode({ requests }).finish()
}

function notUtf8(): Uint8Array {
  const bytes = encode([request(1, { $case: 'lookUpName', value: { name: 'QQQ' } })])
  return bytes.map((byte) => (byte === 0x51 ? 0xff : byte))
}

/** A socket that has been upgraded to the WebSocket protocol by hand. */
async function upgraded(): Promise<Socket> {
  const socket = connect(port, host)
  socket.write(
    `GET /ws HTTP/1.1\r\nhost: ${host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: ${randomBytes(16).toString('base64')}\r\n\r\n`,
  )
  let head = ''
  while (!head.includes('\r\n\r\n')) {
    const chunk: Buffer | null = socket.read()
    if (chunk === null) await once(socket, 'readable')
    else {
      const text = chunk.toString('latin1')
      const end = text.indexOf('\r\n\r\n')
      head += text
      if (end >= 0) socket.unshift(chunk.subarray(end + 4))
    }
  }
  assert.match(head, /^HTTP\/1.1 101 /)
  return socket
}

/** A masked binary frame below 64 KiB. */
function clientFrame(payload: Uint8Array): Buffer {
  const mask = randomBytes(4)
  const length =
    payload.length < 126 ? [0x80 | payload.length] : [0xfe, payload.length >> 8, payload.length & 0xff]
  return Buffer.concat([
    Buffer.of(0x82, ...length),
    mask,
    payload.map((byte, i) => byte ^ (mask[i % 4] ?? 0)),
  ])
}

/** Reads the payloads of the server's frames, one after another. */
function frameReader(socket: Socket): () => Promise<Uint8Array> {
  let bytes = Buffer.alloc(0)
  return async () => {
    for (;;) {
      const short = (bytes[1] ?? 0) & 0x7f
      const start = short === 126 ? 4 : 2
      const length = short === 126 && bytes.length >= 4 ? bytes.readUInt16BE(2) : short
      if (bytes.length >= start + length && bytes.length >= 2) {
        const payload = bytes.subarray(start, start + length)
        bytes = bytes.subarray(start + length)
        return payload
      }
      const chunk: Buffer | null = socket.read()
      if (chunk === null) await once(socket, 'readable')
      else bytes = Buffer.concat([bytes, chunk])
    }
  }
}

async function gauge(api: TestApi, name: string): Promise<number> {
  const text = await (await fetch(`http://${host}:${api.api.httpPort}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve))
}

test('thousands of large requests at once are answered a few in each turn, whoever asks: the replica hears the others in between', async () => {
  const clients = await Promise.all([1, 2, 3].map(() => new TestClient(port).ready()))
  const status = mock.method(server.replica, 'status')
  const mostInOneTurn = watchTurns(() => status.mock.callCount())
  const parts = clients.map((client) =>
    Array.from({ length: 1000 }, () => client.make({ $case: 'getStatus', value: {} })),
  )
  for (const [i, client] of clients.entries()) client.send((parts[i] ?? []).map(({ request }) => request))
  const results = await Promise.all(parts.flat().map(({ answer }) => answer))
  const most = mostInOneTurn()
  assert.equal(status.mock.callCount(), 3000)
  status.mock.restore()
  assert.ok(results.every(({ $case }) => $case === 'getStatus'))
  // What comes in, and what goes on, may each begin as many in one turn.
  assert.ok(most <= 32, `${most} in one turn`)
  for (const client of clients) client.close()
})
