import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect } from 'node:net'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { after, before, mock, test } from 'node:test'
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire'
import {
  credentials,
  Metadata,
  makeClientConstructor,
  status as codes,
  type Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ServiceError,
} from '@grpc/grpc-js'
import { loadFileDescriptorSetFromBuffer, loadSync, type PackageDefinition } from '@grpc/proto-loader'
import { protoPath as healthProto } from 'grpc-health-check'
import { host, newId, signUp, startTestApi, type TestApi, watchTurns } from './test-support.ts'

type Fields = Readonly<Record<string, unknown>>
type Unary = (
  request: Fields,
  metadata: Metadata,
  options: { readonly deadline?: number },
  done: (error: ServiceError | null, response: Fields) => void,
) => { on(event: 'status', listener: (status: { metadata: Metadata }) => void): unknown }
type Streaming = (request: Fields, metadata: Metadata) => ClientReadableStream<Fields>

let server: TestApi
let address: string
let parley: Client
let ann: Awaited<ReturnType<typeof signUp>>
let bob: Awaited<ReturnType<typeof signUp>>

before(async () => {
  server = await startTestApi()
  address = `${host}:${server.api.grpcPort}`
  ann = await signUp(server.api.httpPort, 'ann')
  bob = await signUp(server.api.httpPort, 'bob')
  parley = clientOf(await describe('parley.v1.Parley'), 'parley.v1.Parley')
})
after(async () => {
  parley.close()
  await server.close()
  assert.deepEqual(server.errors, [])
})

function clientOf(definition: PackageDefinition, name: string): Client {
  const service = definition[name]
  if (service === undefined || 'format' in service) throw new Error(`no service ${name}`)
  return new (makeClientConstructor(service, name))(address, credentials.createInsecure())
}

/** Asks the server for the descriptors of a service, as stock tools do, and makes a definition of them. */
async function describe(symbol: string): Promise<PackageDefinition> {
  const set = new BinaryWriter()
  for (const file of (await reflect({ fileContainingSymbol: symbol })).files) set.uint32(10).bytes(file)
  return loadFileDescriptorSetFromBuffer(Buffer.from(set.finish()), { longs: Number, oneofs: true })
}

async function reflect(request: Fields): Promise<{ files: readonly Buffer[]; services: readonly string[] }> {
  const folder = dirname(createRequire(import.meta.url).resolve('@grpc/reflection/package.json'))
  const client = clientOf(
    loadSync(join(folder, 'build/proto/grpc/reflection/v1/reflection.proto')),
    'grpc.reflection.v1.ServerReflection',
  )
  const open = method<() => ClientDuplexStream<Fields, Fields>>(client, 'ServerReflectionInfo')
  const stream = open()
  stream.write(request)
  const [answer] = (await once(stream, 'data')) as [
    {
      fileDescriptorResponse?: { fileDescriptorProto: readonly Buffer[] }
      listServicesResponse?: { service: readonly { name: string }[] }
    },
  ]
  stream.end()
  client.close()
  return {
    files: answer.fileDescriptorResponse?.fileDescriptorProto ?? [],
    services: answer.listServicesResponse?.service.map(({ name }) => name) ?? [],
  }
}

function method<F>(client: Client, name: string): F {
  const found: unknown = Reflect.get(client, name)
  if (typeof found !== 'function') throw new Error(`no method ${name}`)
  return found.bind(client) as F
}

function bearer(token: Uint8Array, more: Readonly<Record<string, string>> = {}): Metadata {
  const metadata = new Metadata()
  metadata.set('authorization', `Bearer ${Buffer.from(token).toString('base64url')}`)
  for (const [key, value] of Object.entries(more)) metadata.set(key, value)
  return metadata
}

interface Reply {
  readonly error: ServiceError | null
  readonly response: Fields
  readonly trailer: Metadata
}

function ask(
  name: string,
  request: Fields,
  metadata = new Metadata(),
  options: { readonly deadline?: number } = {},
  client = parley,
): Promise<Reply> {
  return new Promise((resolve) => {
    let answer: [ServiceError | null, Fields] | null = null
    let trailer: Metadata | null = null
    const finish = (): void => {
      if (answer !== null && trailer !== null) resolve({ error: answer[0], response: answer[1], trailer })
    }
    const call = method<Unary>(client, name)(request, metadata, options, (error, response) => {
      answer = [error, response]
      finish()
    })
    call.on('status', (status) => {
      trailer = status.metadata
      finish()
    })
  })
}

/** The types of the details and the reason that an error carries. */
function detailsOf(error: ServiceError | null): { readonly types: readonly string[]; readonly text: string } {
  const [bytes] = error?.metadata.get('grpc-status-details-bin') ?? []
  assert.ok(Buffer.isBuffer(bytes), 'there are details')
  const types: string[] = []
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const tag = reader.uint32()
    if (tag !== 26) {
      reader.skip(tag & 7)
      continue
    }
    const detail = new BinaryReader(reader.bytes())
    detail.uint32()
    types.push(detail.string().replace('type.googleapis.com/google.rpc.', ''))
  }
  return { types, text: bytes.toString('latin1') }
}

const toBob = { account: 'bob' }

test('reflection lists Parley and the health service', async () => {
  const { services } = await reflect({ listServices: '' })
  assert.deepEqual([...services].sort(), ['grpc.health.v1.Health', 'parley.v1.Parley'])
})

test('a stock client that knows only what reflection tells registers, signs in and sends', async () => {
  const token = randomBytes(32)
  const registered = await ask('Register', { id: newId(), name: 'carl', password: 'p', token })
  assert.equal(registered.error, null)
  const sent = await ask('SendMessage', { id: newId(), to: toBob, text: 'over gRPC' }, bearer(token))
  assert.equal(sent.error, null)
  assert.equal(sent.response['seq'], 1)
  const [position] = sent.trailer.get('parley-position')
  const listed = await ask(
    'ListMessages',
    { conversation: { account: 'carl' } },
    bearer(bob.token, { 'parley-read': 'local', 'parley-min-position': String(position) }),
  )
  assert.deepEqual(
    (listed.response['messages'] as { text: string }[]).map(({ text }) => text),
    ['over gRPC'],
  )
})

test('errors carry the code of their reason and google.rpc details', async () => {
  const nobody = await ask('GetMe', {})
  assert.equal(nobody.error?.code, codes.UNAUTHENTICATED)
  assert.deepEqual(detailsOf(nobody.error).types, ['ErrorInfo'])
  assert.match(detailsOf(nobody.error).text, /NOT_SIGNED_IN.*parley/s)

  const wrong = await ask('SendMessage', { id: newId(), to: toBob, text: '' }, bearer(ann.token))
  assert.equal(wrong.error?.code, codes.INVALID_ARGUMENT)
  assert.deepEqual(detailsOf(wrong.error).types, ['ErrorInfo', 'BadRequest'])
  assert.match(detailsOf(wrong.error).text, /text/)

  server.setQuorum(false)
  const refused = await ask('SendMessage', { id: newId(), to: toBob, text: 'hi' }, bearer(ann.token))
  server.setQuorum(true)
  assert.equal(refused.error?.code, codes.UNAVAILABLE)
  assert.deepEqual(detailsOf(refused.error).types, ['ErrorInfo', 'RetryInfo'])
})

test('tokens that are foreign or no tokens at all are refused', async () => {
  for (const metadata of [bearer(randomBytes(32)), bearer(randomBytes(3))])
    assert.equal((await ask('GetMe', {}, metadata)).error?.code, codes.UNAUTHENTICATED)
  const basic = new Metadata()
  basic.set('authorization', 'Basic YW5uOnA=')
  assert.equal((await ask('GetPolicy', {}, basic)).error?.code, codes.UNAUTHENTICATED)
})

test('a call ends with its deadline, and a write under way then has an unknown outcome', async () => {
  server.hold(true)
  const { error } = await ask('SendMessage', { id: newId(), to: toBob, text: 'late' }, bearer(ann.token), {
    deadline: Date.now() + 150,
  })
  server.hold(false)
  assert.equal(error?.code, codes.DEADLINE_EXCEEDED)
})

test('an event stream resumes from its cursor, and ends when its session does', async () => {
  const first = await ask('SendMessage', { id: newId(), to: toBob, text: 'one' }, bearer(ann.token))
  await ask('SendMessage', { id: newId(), to: toBob, text: 'two' }, bearer(ann.token))
  const token = randomBytes(32)
  const { session } = await bob.get('logIn', {
    id: newId(),
    name: 'bob',
    password: "bob's password",
    device: '',
    token,
  })
  const [cursor] = first.trailer.get('parley-position')
  const stream = method<Streaming>(parley, 'Subscribe')({ cursor: Number(cursor) }, bearer(token))
  const texts: string[] = []
  stream.on('data', (event: { message?: { text: string } }) => {
    if (event.message !== undefined && event.message !== null) texts.push(event.message.text)
  })
  await ask('SendMessage', { id: newId(), to: toBob, text: 'three' }, bearer(ann.token))
  while (texts.length < 2) await once(stream, 'data')
  assert.deepEqual(texts, ['two', 'three'])
  const failed = once(stream, 'error') as Promise<[ServiceError]>
  await bob.get('revokeSession', { id: newId(), session })
  const [error] = await failed
  assert.equal(error.code, codes.UNAUTHENTICATED)
})

test('subscribing without signing in is refused', async () => {
  const stream = method<Streaming>(parley, 'Subscribe')({ cursor: 0 }, new Metadata())
  const [error] = (await once(stream, 'error')) as [ServiceError]
  assert.equal(error.code, codes.UNAUTHENTICATED)
})

test('2,000 open streams on one connection do not keep a send from its answer', async () => {
  const streams = Array.from({ length: 2000 }, () =>
    method<Streaming>(parley, 'Subscribe')({ cursor: 0 }, bearer(bob.token)),
  )
  await Promise.all(streams.map((stream) => once(stream, 'metadata')))
  const arrived = streams.map(
    (stream) =>
      new Promise<void>((resolve) => {
        stream.on('data', (event: { message?: { text: string } | null }) => {
          if (event.message?.text === 'to many') resolve()
        })
      }),
  )
  const sent = await ask('SendMessage', { id: newId(), to: toBob, text: 'to many' }, bearer(ann.token))
  assert.equal(sent.error, null)
  await Promise.all(arrived)
  for (const stream of streams) {
    stream.on('error', () => undefined)
    stream.cancel()
  }
})

test('a client that never reads its stream gets no more than fits and is given up after a while', async () => {
  // grpc-js itself reads whatever comes: this client leaves the window of its HTTP/2 stream full.
  const session = connectHttp2(`http://${address}`)
  const stream = session.request({
    ':method': 'POST',
    ':path': '/parley.v1.Parley/Subscribe',
    'content-type': 'application/grpc',
    te: 'trailers',
    authorization: `Bearer ${Buffer.from(bob.token).toString('base64url')}`,
  })
  stream.end(Buffer.alloc(5))
  await once(stream, 'response')
  const text = 'x'.repeat(16_000)
  const send = async (): Promise<void> => {
    assert.equal((await ask('SendMessage', { id: newId(), to: toBob, text }, bearer(ann.token))).error, null)
  }
  let kept = 0
  for (; (await gauge('parley_grpc_streams_stopped')) === 0; kept += 1) await send()
  // However many follow, none of them is kept for it.
  for (let more = 0; more < 50; more += 1) await send()
  server.clock.advance(60_000)
  assert.equal(await gauge('parley_grpc_streams'), 0)
  const trailers = once(stream, 'trailers') as Promise<[Readonly<Record<string, string>>]>
  let bytes = 0
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length
  })
  assert.equal((await trailers)[0]['grpc-status'], String(codes.RESOURCE_EXHAUSTED))
  assert.ok(bytes <= kept * (text.length + 1000), `${bytes} bytes of ${kept} messages`)
  session.close()
})

test('the health service follows the quorum', async () => {
  const health = clientOf(loadSync(healthProto, { enums: String }), 'grpc.health.v1.Health')
  const statusOf = async (service: string) =>
    (await ask('Check', { service }, new Metadata(), {}, health)).response['status']
  assert.equal(await statusOf(''), 'SERVING')
  assert.equal(await statusOf('parley.v1.Parley'), 'SERVING')
  const watch = method<Streaming>(health, 'Watch')({ service: '' }, new Metadata())
  await once(watch, 'data')
  const changed = once(watch, 'data')
  server.setQuorum(false)
  assert.deepEqual(await changed, [{ status: 'NOT_SERVING' }])
  assert.equal(await statusOf('parley.v1.Parley'), 'NOT_SERVING')
  server.setQuorum(true)
  watch.on('error', () => undefined)
  watch.cancel()
  health.close()
})

test('a message above the limit and bytes that are no message are refused', async () => {
  const large = await ask(
    'SendMessage',
    { id: newId(), to: toBob, text: 'x'.repeat(1_100_000) },
    bearer(ann.token),
  )
  assert.equal(large.error?.code, codes.RESOURCE_EXHAUSTED)
  const bytes = await new Promise<ServiceError | null>((resolve) => {
    parley.makeUnaryRequest(
      '/parley.v1.Parley/SendMessage',
      (value: Buffer) => value,
      (value: Buffer) => value,
      Buffer.of(0x0a, 0x40, 1, 2),
      bearer(ann.token),
      (error) => resolve(error),
    )
  })
  assert.equal(bytes?.code, codes.INVALID_ARGUMENT)
})

test('garbage on the port harms nobody', async () => {
  const socket = connect(server.api.grpcPort, host)
  socket.on('error', () => undefined)
  socket.write(randomBytes(2000))
  socket.resume()
  await once(socket, 'close')
  const preface = connect(server.api.grpcPort, host)
  preface.on('error', () => undefined)
  preface.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  preface.write(randomBytes(2000))
  preface.resume()
  await once(preface, 'close')
  assert.equal((await ask('GetPolicy', {})).error, null)
})

async function gauge(name: string): Promise<number> {
  const text = await (await fetch(`http://${host}:${server.api.httpPort}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
}

test('thousands of calls with large answers at once are answered a few in each turn: the replica hears the others in between', async () => {
  const status = mock.method(server.replica, 'status')
  const mostInOneTurn = watchTurns(() => status.mock.callCount())
  const answers = await Promise.all(Array.from({ length: 1000 }, () => ask('getStatus', {})))
  const most = mostInOneTurn()
  assert.equal(status.mock.callCount(), 1000)
  status.mock.restore()
  assert.ok(answers.every(({ error, response }) => error === null && response['replica'] === 1))
  // What comes in, and what goes on, may each begin as many in one turn.
  assert.ok(most <= 32, `${most} in one turn`)
})
