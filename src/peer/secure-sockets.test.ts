import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect as connectPlain } from 'node:net'
import { before, test, type TestContext } from 'node:test'
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls'
import { toHex } from '../base/bytes.ts'
import { createAuthority, issue, type Authority, type Issued } from '../tls/authority.ts'
import { secureSockets, type PeerCredentials } from './secure-sockets.ts'
import { clusterId, heartbeat, Node, nodes } from './testing.ts'

const cluster = toHex(clusterId)
let authority: Authority
let otherAuthority: Authority

before(async () => {
  authority = await createAuthority(cluster, Date.now())
  otherAuthority = await createAuthority(cluster, Date.now())
})

class Credentials implements PeerCredentials {
  readonly clusterId = cluster
  readonly authority: string
  current: Issued
  private readonly listeners: (() => void)[] = []

  constructor(authority: string, current: Issued) {
    this.authority = authority
    this.current = current
  }

  onRenewed(listener: () => void): void {
    this.listeners.push(listener)
  }

  renew(current: Issued): void {
    this.current = current
    for (const listener of this.listeners) listener()
  }
}

async function credentials(replica: number, by = authority, nowMs = Date.now()): Promise<Credentials> {
  return new Credentials(
    by.certificate,
    await issue(by, { clusterId: cluster, replica, hosts: [] }, { nowMs }),
  )
}

async function secureNode(self: number, own?: PeerCredentials): Promise<Node> {
  return new Node(self, { sockets: secureSockets(own ?? (await credentials(self))) })
}

test('links run over TLS 1.3 when both replicas have certificates of the authority, and a dead process is noticed', async (t) => {
  const [a, b] = [await secureNode(1), await secureNode(2)]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  await b.until(() => b.links.isUp(1))
  for (let round = 0; round < 100; round += 1) b.links.send(heartbeat(2, 1, round))
  await a.until(() => a.messages.length === 100)
  await a.links.stop()
  await b.until(() => b.news.includes('r1 died'))
})

test('a certificate of another authority is refused on both sides, and both are told why', async (t) => {
  const [a, b] = [await secureNode(1), await secureNode(2, await credentials(2, otherAuthority))]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  b.links.setPeers([{ id: 1, address: a.address }])
  await a.until(() => a.refusals.length >= 2)
  await b.until(() => b.refusals.length >= 2)
  for (const { refusals } of [a, b]) {
    assert.ok(refusals.every(({ code }) => code === 'certificate'))
    assert.ok(
      refusals.some(({ by, reason }) => by === 'self' && /not of this cluster's authority/.test(reason)),
    )
  }
  assert.equal(a.links.isUp(2) || b.links.isUp(1), false)
})

test('a replica that has the certificate of another one is refused by whoever it dials', async (t) => {
  const [a, b] = [await secureNode(1), await secureNode(2, await credentials(3))]
  await nodes(t, a, b)
  b.links.setPeers([{ id: 1, address: a.address }])
  await a.until(() => a.refusals.length > 0)
  await b.until(() => b.refusals.length > 0)
  assert.match(a.refusals[0]?.reason ?? '', /calls itself r2 has the certificate of r3/)
  assert.equal(b.refusals[0]?.by, 'peer')
  assert.equal(a.links.isUp(2) || b.links.isUp(1), false)
})

test('a replica that has the certificate of another one is refused by whoever dials it', async (t) => {
  const [a, b] = [await secureNode(1), await secureNode(2, await credentials(3))]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  await a.until(() => a.refusals.length > 0)
  assert.match(a.refusals[0]?.reason ?? '', /r2 is looked for at .* has the certificate of r3/)
  assert.ok(a.refusals.every(({ by, code }) => by === 'self' && code === 'certificate'))
  // Before any greeting: its certificate says who it is that refuses.
  await b.until(() => b.refusals.length > 0)
  assert.deepEqual(
    b.refusals.map(({ peer, by, code }) => [peer, by, code]),
    [[1, 'peer', 'certificate']],
  )
  assert.equal(a.links.isUp(2) || b.links.isUp(1), false)
})

test('nobody without a certificate is listened to', async (t) => {
  const a = await secureNode(1)
  await nodes(t, a)
  const socket = await dial(t, a, {})
  const words: Buffer[] = []
  socket.on('data', (bytes: Buffer) => words.push(bytes))
  await once(socket, 'close')
  assert.match(Buffer.concat(words).toString('latin1'), /has no certificate/)
  assert.deepEqual(
    a.refusals.map(({ code, by }) => [code, by]),
    [['certificate', 'self']],
  )
})

test('a certificate that is not valid yet, or not any more, is refused with a word about clocks', async (t) => {
  const year = 365 * 24 * 60 * 60 * 1000
  for (const [nowMs, words] of [
    [Date.now() + year, /not valid yet: the clock/],
    [Date.now() - year / 4, /out of date: the clock/],
  ] as const) {
    const a = await secureNode(1)
    const b = await secureNode(2, await credentials(2, authority, nowMs))
    await nodes(t, a, b)
    b.links.setPeers([{ id: 1, address: a.address }])
    await a.until(() => a.refusals.length > 0)
    assert.match(a.refusals[0]?.reason ?? '', words)
  }
})

test('an older version of TLS, and no TLS at all, get nowhere', async (t) => {
  const a = await secureNode(1)
  await nodes(t, a)
  const { certificate: cert, key } = (await credentials(2)).current
  await assert.rejects(dial(t, a, { cert, key, maxVersion: 'TLSv1.2' }))
  const plain = connectPlain({ host: '127.0.0.1', port: a.links.port })
  t.after(() => plain.destroy())
  plain.on('error', () => {})
  plain.write(Buffer.from([0, 0, 0, 5, 1, 2, 3, 4, 5]))
  plain.resume()
  await once(plain, 'close')
  assert.equal(a.refusals.length, 0)
})

test('a certificate is renewed without a restart and without an interruption', async (t) => {
  const own = await credentials(1)
  const [a, b] = [await secureNode(1, own), await secureNode(2)]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  b.links.setPeers([{ id: 1, address: a.address }])
  await a.until(() => a.links.isUp(2))
  await b.until(() => b.links.isUp(1))
  const { certificate: cert, key } = (await credentials(2)).current
  const first = await shown(t, a, { cert, key })
  own.renew((await credentials(1)).current)
  const second = await shown(t, a, { cert, key })
  assert.notEqual(first, second)
  b.links.send(heartbeat(2, 1, 1))
  await a.until(() => a.messages.length === 1)
  assert.deepEqual([...a.news, ...b.news], ['r2 up', 'r1 up'])
})

/** The serial number of the certificate that a replica shows now. */
async function shown(t: TestContext, node: Node, options: ConnectionOptions): Promise<string | undefined> {
  const socket = await dial(t, node, options)
  const serial = socket.getPeerX509Certificate()?.serialNumber
  socket.destroy()
  return serial
}

async function dial(t: TestContext, node: Node, options: ConnectionOptions): Promise<TLSSocket> {
  const socket = connect({
    host: '127.0.0.1',
    port: node.links.port,
    ca: authority.certificate,
    checkServerIdentity: () => undefined,
    ...options,
  })
  t.after(() => socket.destroy())
  await once(socket, 'secureConnect')
  socket.on('error', () => {})
  return socket
}
