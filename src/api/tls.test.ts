import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { get } from 'node:https'
import { connect as connectPlain } from 'node:net'
import { after, before, test } from 'node:test'
import { text } from 'node:stream/consumers'
import { connect } from 'node:tls'
import { credentials, makeClientConstructor } from '@grpc/grpc-js'
import { createClient } from '../client/index.ts'
import { createAuthority, issue, type Authority, type Issued } from '../tls/authority.ts'
import { createNodeConnect } from '../tls/connect.ts'
import { fingerprintOf } from '../tls/names.ts'
import { host, startTestApi, type TestApi } from './test-support.ts'
import type { ServerTls } from './start.ts'
import { X509Certificate } from 'node:crypto'

const subject = { clusterId: '07'.repeat(16), replica: 1, hosts: [] }
let authority: Authority
let server: TestApi
let tls: Renewable
let leftMs = 90_000

class Renewable implements ServerTls {
  current: Issued
  private readonly listeners: (() => void)[] = []

  constructor(first: Issued) {
    this.current = first
  }

  onRenewed(listener: () => void): void {
    this.listeners.push(listener)
  }

  renew(next: Issued): void {
    this.current = next
    for (const listener of this.listeners) listener()
  }
}

/** A certificate with the authority's behind it. */
async function fresh(): Promise<Issued> {
  const { certificate, key } = await issue(authority, subject, { nowMs: Date.now() })
  return { certificate: certificate + authority.certificate, key }
}

before(async () => {
  authority = await createAuthority(subject.clusterId, Date.now())
  tls = new Renewable(await fresh())
  server = await startTestApi({ tls, certificateLeftMs: () => leftMs })
})
after(async () => {
  await server.close()
  assert.deepEqual(server.errors, [])
})

/** The serial number of the certificate that a port shows. */
async function shown(port: number): Promise<string | undefined> {
  const socket = connect({ host, port, ca: authority.certificate, ALPNProtocols: ['h2', 'http/1.1'] })
  await once(socket, 'secureConnect')
  const serial = socket.getPeerX509Certificate()?.serialNumber
  socket.destroy()
  return serial
}

test('the HTTP port speaks TLS, and the page that it serves may open WebSockets', async () => {
  const { httpPort } = server.api
  const status = await new Promise<number | undefined>((resolve, reject) => {
    get({ host, port: httpPort, path: '/livez', ca: authority.certificate, agent: false }, (response) => {
      response.resume()
      resolve(response.statusCode)
    }).on('error', reject)
  })
  assert.equal(status, 200)
  const pin = fingerprintOf(new X509Certificate(authority.certificate))
  const client = createClient({
    addresses: [`parleys://${host}:${httpPort}#sha256=${pin}`],
    connect: createNodeConnect(assert.fail),
  })
  const answer = await client.call('lookUpName', { name: 'ann' })
  assert.equal(answer.exists, false)
  client.close()
})

test('an https page of the cluster may open WebSockets, and another one may not', async () => {
  const upgrade = async (origin: string): Promise<string> => {
    const socket = connect({ host, port: server.api.httpPort, ca: authority.certificate })
    socket.write(
      `GET /ws HTTP/1.1\r\nhost: ${host}:${server.api.httpPort}\r\norigin: ${origin}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`,
    )
    const [bytes] = (await once(socket, 'data')) as [Buffer]
    socket.destroy()
    return bytes.toString('latin1').split('\r\n')[0] ?? ''
  }
  assert.match(await upgrade(`https://${host}:${server.api.httpPort}`), /101/)
  assert.match(await upgrade('https://elsewhere.example'), /403/)
})

test('the gRPC port speaks TLS', async () => {
  const Client = makeClientConstructor({}, 'parley')
  const client = new Client(
    `${host}:${server.api.grpcPort}`,
    credentials.createSsl(Buffer.from(authority.certificate)),
    // grpc-js as a client checks names only, and no IP addresses.
    { 'grpc.ssl_target_name_override': 'localhost' },
  )
  await new Promise<void>((resolve, reject) => {
    client.waitForReady(Date.now() + 10_000, (error) => (error === undefined ? resolve() : reject(error)))
  })
  client.close()
})

test('both ports show a renewed certificate without a restart', async () => {
  const { httpPort, grpcPort } = server.api
  const before = await shown(httpPort)
  assert.equal(await shown(grpcPort), before)
  tls.renew(await fresh())
  const now = await shown(httpPort)
  assert.notEqual(now, before)
  assert.equal(await shown(grpcPort), now)
})

test('/metrics tells how many seconds the certificate is still good', async () => {
  assert.match(await metrics(), /^parley_certificate_seconds 90$/m)
  leftMs = -5000
  assert.match(await metrics(), /^parley_certificate_seconds -5$/m)
})

async function metrics(): Promise<string> {
  const { httpPort } = server.api
  const request = get({ host, port: httpPort, path: '/metrics', ca: authority.certificate, agent: false })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  return text(response)
}

test('who does not speak TLS is cut off, and others are served on', async () => {
  for (const port of [server.api.httpPort, server.api.grpcPort]) {
    const socket = connectPlain({ host, port })
    socket.on('error', () => undefined)
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    socket.resume()
    await once(socket, 'close')
    assert.notEqual(await shown(port), undefined)
  }
})

test('connections that never shake hands do not keep a replica from its end', async () => {
  const other = await startTestApi({ tls })
  const sockets = [other.api.httpPort, other.api.grpcPort].map((port) => connectPlain({ host, port }))
  for (const socket of sockets) {
    socket.on('error', () => undefined)
    await once(socket, 'connect')
  }
  // A later connection has been taken in, so the earlier ones have been too.
  await shown(other.api.httpPort)
  await shown(other.api.grpcPort)
  await other.close()
  for (const socket of sockets) socket.destroy()
})
