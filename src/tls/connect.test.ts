import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer as createPlainServer } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { before, test, type TestContext } from 'node:test'
import { WebSocketServer } from 'ws'
import { createAuthority, issue, type Authority } from './authority.ts'
import { createNodeConnect, fetchAuthority, PinError } from './connect.ts'
import { X509Certificate } from 'node:crypto'
import { fingerprintOf } from './names.ts'

const clusterId = 'ab'.repeat(16)
let authority: Authority
let pin = ''

before(async () => {
  authority = await createAuthority(clusterId, Date.now())
  pin = fingerprintOf(new X509Certificate(authority.certificate))
})

/** A server that sends one byte to each WebSocket; returns its port. */
async function serve(t: TestContext, by = authority, nowMs = Date.now()): Promise<number> {
  const { certificate, key } = await issue(by, { clusterId, replica: 1, hosts: [] }, { nowMs })
  const server = createServer({ cert: certificate + by.certificate, key })
  const sockets = new WebSocketServer({ server, path: '/ws' })
  sockets.on('connection', (socket) => socket.send(Uint8Array.of(7)))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    for (const socket of sockets.clients) socket.terminate()
    server.close()
    server.closeAllConnections()
  })
  return (server.address() as AddressInfo).port
}

/** What comes first over a connection: a byte, or its end. */
function firstWord(address: string, problems: string[] = []): Promise<number | 'closed'> {
  const connect = createNodeConnect((problem) => problems.push(problem))
  return new Promise((resolve) => {
    const connection = connect(address, {
      opened() {},
      received(bytes) {
        resolve(bytes[0] ?? -1)
        connection.close()
      },
      closed: () => resolve('closed'),
    })
  })
}

test('a client talks with a replica whose authority is the one that its address pins', async (t) => {
  const port = await serve(t)
  assert.equal(await firstWord(`parleys://127.0.0.1:${port}#sha256=${pin}`), 7)
  assert.equal(await fetchAuthority(`127.0.0.1:${port}`, pin), authority.certificate)
})

test('a client does not talk with a replica of another authority, and says so', async (t) => {
  const other = await createAuthority(clusterId, Date.now())
  const port = await serve(t, other)
  const problems: string[] = []
  assert.equal(await firstWord(`parleys://127.0.0.1:${port}#sha256=${pin}`, problems), 'closed')
  assert.equal(problems.length, 1)
  assert.match(problems[0] ?? '', /another authority than the one of the address/)
})

test('a certificate that the authority of the address did not sign is refused although that authority is shown with it', async (t) => {
  const other = await createAuthority(clusterId, Date.now())
  const port = await serve(t, { certificate: authority.certificate, key: other.key })
  assert.equal(await firstWord(`parleys://127.0.0.1:${port}#sha256=${pin}`), 'closed')
})

test('a certificate of another time is refused with a word about clocks', async (t) => {
  const port = await serve(t, authority, Date.now() + 3 * 60 * 60 * 1000)
  await assert.rejects(fetchAuthority(`127.0.0.1:${port}`, pin), {
    name: 'PinError',
    message: /valid from .* set the clock that is wrong/,
  })
})

test('a server without TLS is told apart from one that is not there', async (t) => {
  const plain = createPlainServer()
  plain.listen(0, '127.0.0.1')
  await once(plain, 'listening')
  const { port } = plain.address() as AddressInfo
  t.after(() => plain.close())
  await assert.rejects(fetchAuthority(`127.0.0.1:${port}`, pin), /does not speak TLS/)
  plain.close()
  plain.closeAllConnections()
  await once(plain, 'close')
  await assert.rejects(
    fetchAuthority(`127.0.0.1:${port}`, pin),
    (error) => !(error instanceof PinError) && error instanceof Error,
  )
})

test('a replica that cannot be reached closes the connection without a word', async () => {
  const problems: string[] = []
  assert.equal(await firstWord(`parleys://127.0.0.1:1#sha256=${pin}`, problems), 'closed')
  assert.deepEqual(problems, [])
})
