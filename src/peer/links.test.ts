import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { test, type TestContext } from 'node:test'
import type { SnapshotChunk } from '../log/transport.ts'
import { seededRandom } from '../base/random.ts'
import type { Message } from '../raft/types.ts'
import { encodeFrame, maxFrameBytes, maxGreetingBytes, type Frame } from './frames.ts'
import { parseEndpoint, type Refusal, type Sockets } from './links.ts'
import { clusterId, heartbeat, Node, nodes } from './testing.ts'

test('messages arrive in order, and the round trip is measured', async (t) => {
  const [a, b] = [new Node(1), new Node(2)]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  b.links.setPeers([{ id: 1, address: a.address }])
  await a.until(() => a.links.isUp(2))
  for (let round = 0; round < 1000; round += 1) a.links.send(heartbeat(1, 2, round))
  await b.until(() => b.messages.length === 1000)
  assert.deepEqual(
    b.messages.map((message) => message.kind === 'heartbeat' && message.round),
    Array.from({ length: 1000 }, (_, round) => round),
  )
  while (a.links.roundTripUs(2) === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  assert.ok(a.links.roundTripUs(2) < 1_000_000)
})

test('replicas know what each other’s wall clocks show, and take no word of one that was never set', async (t) => {
  const [a, b, c] = [
    new Node(1, { wallMs: () => Date.UTC(2031) }),
    new Node(2, { wallMs: () => Date.UTC(2030) }),
    new Node(3, { wallMs: () => 5000 }),
  ]
  await nodes(t, a, b, c)
  a.links.setPeers([
    { id: 2, address: b.address },
    { id: 3, address: c.address },
  ])
  b.links.setPeers([{ id: 1, address: a.address }])
  c.links.setPeers([{ id: 1, address: a.address }])
  assert.equal(a.links.clockMs(2), null)
  for (const node of [b, c]) await node.until(() => node.links.isUp(1))
  await a.until(() => a.links.isUp(2))
  a.links.send(heartbeat(1, 2, 1))
  b.links.send(heartbeat(2, 1, 1))
  c.links.send(heartbeat(3, 1, 1))
  // Whoever has heard a message of another replica knows its clock: a probe comes first.
  await a.until(() => a.messages.length === 2)
  await b.until(() => b.messages.length === 1)
  const aheadMs = (a.links.clockMs(2) ?? 0) - Date.UTC(2030)
  assert.ok(aheadMs >= 0 && aheadMs < 60_000, `${aheadMs} ms`)
  assert.equal(new Date(b.links.clockMs(1) ?? 0).getUTCFullYear(), 2031)
  assert.equal(a.links.clockMs(3), null)
})

test('chunks and their replies arrive, and messages pass chunks that wait', async (t) => {
  const [a, b] = [new Node(1), new Node(2)]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  b.links.setPeers([{ id: 1, address: a.address }])
  await a.until(() => a.links.isUp(2))
  await b.until(() => b.links.isUp(1))
  const chunk: SnapshotChunk = {
    from: 1,
    to: 2,
    term: 3,
    snapshotId: 's',
    index: 9,
    sizeBytes: 20 * 1024 * 1024,
    engineState: Uint8Array.of(1, 2),
    offset: 0,
    bytes: new Uint8Array(1024 * 1024),
  }
  for (let i = 0; i < 20; i += 1) a.links.sendChunk({ ...chunk, offset: i * 1024 * 1024 })
  a.links.send(heartbeat(1, 2, 7))
  let before = -1
  await b.until(() => {
    if (b.messages.length === 1 && before === -1) before = b.chunks.length
    return b.chunks.length === 20
  })
  assert.ok(before < 20, 'the heartbeat came before the last chunk')
  assert.deepEqual(
    b.chunks.map((received) => received.offset / 1024 / 1024),
    Array.from({ length: 20 }, (_, i) => i),
  )
  b.links.sendChunkReply({ from: 2, to: 1, snapshotId: 's', nextOffset: 5 })
  await a.until(() => a.replies.length === 1)
  assert.equal(a.replies[0]?.nextOffset, 5)
})

test('a replica that is not known yet is answered at the address that it gives', async (t) => {
  const [a, b] = [new Node(1), new Node(2)]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  await b.until(() => b.links.isUp(1))
  b.links.send(heartbeat(2, 1, 1))
  await a.until(() => a.messages.length === 1)
})

test('a replica of another cluster is refused, and both are told why', async (t) => {
  const [a, b] = [new Node(1), new Node(2, { clusterId: new Uint8Array(16) })]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  await a.until(() => a.refusals.length > 0)
  await b.until(() => b.refusals.length > 0)
  assert.deepEqual(summary(a.refusals), [{ peer: 2, by: 'peer', code: 'otherCluster' }])
  assert.deepEqual(summary(b.refusals), [{ peer: 1, by: 'self', code: 'otherCluster' }])
  assert.match(
    a.refusals[0]?.reason ?? '',
    /r1 belongs to another cluster than r2, .* parley serve --peer HOST:PORT/,
  )
  assert.equal(a.links.isUp(2), false)
})

test('an address that leads to another replica is refused', async (t) => {
  const [a, b] = [new Node(1), new Node(2)]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 3, address: b.address }])
  await a.until(() => a.refusals.length > 0)
  assert.deepEqual(summary(a.refusals), [{ peer: 3, by: 'peer', code: 'otherReplica' }])
  assert.match(a.refusals[0]?.reason ?? '', /r1 looks for r3 here, but this is r2/)
})

test('an incarnation that is not admitted is refused by whoever was dialled', async (t) => {
  const objection = 'r1 came back with an older disk'
  const [a, b] = [
    new Node(1),
    new Node(2, { admit: (peer) => (peer === 1 ? { code: 'incarnation', reason: objection } : null) }),
  ]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  await a.until(() => a.refusals.length > 0)
  await b.until(() => b.refusals.length > 0)
  assert.deepEqual(a.refusals, [{ peer: 2, by: 'peer', code: 'incarnation', reason: objection }])
  assert.deepEqual(b.refusals, [{ peer: 1, by: 'self', code: 'incarnation', reason: objection }])
})

test('an incarnation that is not admitted is refused by whoever dialled', async (t) => {
  const objection = 'r2 came back with an older disk'
  const [a, b] = [
    new Node(1, { admit: (peer) => (peer === 2 ? { code: 'incarnation', reason: objection } : null) }),
    new Node(2),
  ]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  await a.until(() => a.refusals.length > 0)
  await b.until(() => b.refusals.length > 0)
  assert.deepEqual(a.refusals, [{ peer: 2, by: 'self', code: 'incarnation', reason: objection }])
  assert.ok(b.refusals.some((refusal) => refusal.by === 'peer' && refusal.reason === objection))
  assert.equal(a.links.isUp(2), false)
})

test('a process is known to be dead when nobody listens where it did, or a later one greets', async (t) => {
  const [a, b] = [new Node(1), new Node(2)]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  b.links.setPeers([{ id: 1, address: a.address }])
  await a.until(() => a.certain.includes('r2 run 1 lives'))
  const { port } = b.links
  await b.links.stop()
  await a.until(() => a.certain.includes('r2 run 1 is dead'))
  const again = new Node(2, { incarnation: 2, listen: { host: '127.0.0.1', port } })
  await nodes(t, again)
  await a.until(() => a.certain.includes('r2 run 2 lives'))
  assert.ok(!a.certain.includes('r2 run 2 is dead'))
})

test('a name with several addresses: nobody is dead because nobody listens at another one than where it did', async (t) => {
  let addresses = ['127.0.0.2', '127.0.0.1']
  const dials: string[] = []
  const sockets: Sockets = {
    connect({ host, port }, ready) {
      dials.push(host)
      const found = addresses.map((address) => ({ address, family: 4 }))
      const socket = connect({
        host,
        port,
        lookup: (_host, _options, done) => setImmediate(done, null, found),
      })
      socket.once('connect', () => ready({ kind: 'none' }))
      return socket
    },
    createServer: (accepted) => createServer((socket) => accepted(socket, { kind: 'none' })),
  }
  const [a, b] = [new Node(1, { sockets }), new Node(2)]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: `name:${b.links.port}` }])
  await a.until(() => a.certain.includes('r2 run 1 lives'))
  // The second one cannot be reached any more: no packet leaves for there.
  addresses = ['127.0.0.2', '255.255.255.255']
  dials.length = 0
  await b.links.stop()
  while (dials.length < 3) await new Promise((resolve) => setTimeout(resolve, 5))
  assert.ok(!a.certain.includes('r2 run 1 is dead'))
  addresses = ['255.255.255.255', '127.0.0.1']
  await a.until(() => a.certain.includes('r2 run 1 is dead'))
})

test('a replica that was removed and is gone is refused, and told of, only when it comes back', async (t) => {
  const [a, b] = [new Node(1), new Node(2)]
  await nodes(t, a, b)
  a.links.shutOut(2, 'removed', 'it was removed')
  assert.deepEqual(a.refusals, [])
  b.links.setPeers([{ id: 1, address: a.address }])
  await b.until(() => b.refusals.length > 0)
  assert.deepEqual(summary(b.refusals), [{ peer: 1, by: 'peer', code: 'removed' }])
  assert.deepEqual(summary(a.refusals), [{ peer: 2, by: 'self', code: 'removed' }])
})

test('a replica that is shut out is told the reason and cannot come back', async (t) => {
  const [a, b] = [new Node(1), new Node(2)]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  b.links.setPeers([{ id: 1, address: a.address }])
  await a.until(() => a.links.isUp(2))
  await b.until(() => b.links.isUp(1))
  a.links.shutOut(2, 'regressed', 'its log went back')
  await b.until(() => b.news.includes('r1 silent'))
  assert.deepEqual(b.refusals, [{ peer: 1, by: 'peer', code: 'regressed', reason: 'its log went back' }])
  assert.equal(a.links.isUp(2), false)
})

test('who has started fewer times than is known runs on an old copy of the folder, and is refused', async (t) => {
  const b = new Node(2)
  const [newer, older] = [new Node(1, { incarnation: 5 }), new Node(1, { incarnation: 4 })]
  await nodes(t, b, newer, older)
  newer.links.setPeers([{ id: 2, address: b.address }])
  await newer.until(() => newer.links.isUp(2))
  await newer.links.stop()
  older.links.setPeers([{ id: 2, address: b.address }])
  await older.until(() => older.refusals.length > 0)
  assert.deepEqual(summary(older.refusals), [{ peer: 2, by: 'peer', code: 'incarnation' }])
  assert.match(older.refusals[0]?.reason ?? '', /r1 has started 5 times.* 4 times only.*replica replace r1/)
})

test('of two processes with the same start of a replica the second is refused', async (t) => {
  const b = new Node(2)
  const copy = new Node(1, { random: seededRandom(77) })
  const first = new Node(1)
  await nodes(t, b, first, copy)
  first.links.setPeers([{ id: 2, address: b.address }])
  await b.until(() => b.news.includes('r1 up'))
  // What was heard of the first is in order behind its number.
  first.links.send(heartbeat(1, 2, 1))
  await b.until(() => b.messages.length > 0)
  copy.links.setPeers([{ id: 2, address: b.address }])
  await copy.until(() => copy.refusals.length > 0)
  assert.deepEqual(summary(copy.refusals), [{ peer: 2, by: 'peer', code: 'incarnation' }])
  assert.match(copy.refusals[0]?.reason ?? '', /two processes say that they are start 1 of r1/)
})

test('while a process of a replica is heard, another one has to wait; when it is gone the other one is let in', async (t) => {
  const b = new Node(2, { timing: { pingMs: 20, aliveMs: 10_000 } })
  const first = new Node(1)
  const second = new Node(1, { incarnation: 2, timing: { pingMs: 20, dialMostMs: 50 } })
  await nodes(t, b, first, second)
  first.links.setPeers([{ id: 2, address: b.address }])
  await b.until(() => b.news.includes('r1 up'))
  second.links.setPeers([{ id: 2, address: b.address }])
  await second.until(() => second.refusals.length > 0)
  assert.deepEqual(summary(second.refusals), [{ peer: 2, by: 'peer', code: 'runsAlready' }])
  // It hears so at each attempt, and so can tell whether that still holds.
  await second.until(() => second.refusals.length === 3)
  await first.links.stop()
  await second.until(() => second.links.isUp(2))
})

test('a replica that moved is answered where it says that it is found, whatever the replica set says', async (t) => {
  const [moved, b] = [new Node(1), new Node(2)]
  await nodes(t, moved, b)
  b.links.setPeers([{ id: 1, address: '127.0.0.1:1' }])
  moved.links.setPeers([{ id: 2, address: b.address }])
  await b.until(() => b.links.isUp(1))
  b.links.setPeers([{ id: 1, address: '127.0.0.1:1' }])
  assert.equal(b.links.isUp(1), true)
})

test('replicas of two versions speak the older one, and each knows what the other can speak', async (t) => {
  const [a, b] = [new Node(1), new Node(2, { newestVersion: 1 })]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  b.links.setPeers([{ id: 1, address: a.address }])
  assert.deepEqual([a.links.version(1), a.links.version(2)], [2, 0])
  await a.until(() => a.links.isUp(2))
  await b.until(() => b.links.isUp(1))
  assert.deepEqual([a.links.version(2), b.links.version(1), b.links.version(2)], [1, 1, 1])
})

test('what a replica of an earlier version could not read is not sent to it, and what comes on such a link all the same breaks it', async (t) => {
  const [a, b] = [new Node(1), new Node(2, { newestVersion: 1 })]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  await a.until(() => a.links.isUp(2))
  const later = { from: 1, to: 2, term: 1 } as const
  const configuration = { faultModel: 'majority', members: [], highestId: 3 } as const
  const point = { index: 1, term: 1, configuration }
  const entries = [{ kind: 'configuration', term: 1, index: 1, configuration }] as const
  const messages: readonly Message[] = [
    { ...later, kind: 'change', id: 1, change: { kind: 'remove', id: 3 } },
    { ...later, kind: 'changeReply', id: 1, index: 0, refused: null },
    { ...later, kind: 'transfer', successor: 2 },
    { ...later, kind: 'snapshot', point },
    { ...later, kind: 'append', prevIndex: 0, prevTerm: 0, commit: 0, entries },
  ]
  for (const message of messages) a.links.send(message)
  a.links.send(heartbeat(1, 2, 7))
  await b.until(() => b.messages.length > 0)
  assert.deepEqual(b.messages, [heartbeat(1, 2, 7)])
  assert.deepEqual(b.refusals, [])
  for (const message of messages) {
    const socket = await dial(t, b)
    send(socket, {
      kind: 'hello',
      oldestVersion: 1,
      newestVersion: 1,
      clusterId,
      from: 3,
      to: 2,
      incarnation: 1,
      address: '127.0.0.1:1',
    })
    send(socket, { kind: 'message', message: { ...message, from: 3 } })
    assert.match((await readAll(socket)).join(), /a frame of version 2 on a link of version 1/)
  }
  assert.equal(b.messages.length, 1)
})

test('a replica that does not know the version that the cluster uses is refused, whoever dials', async (t) => {
  const [a, b] = [new Node(1, { versionInUse: () => 2 }), new Node(2, { newestVersion: 1 })]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  b.links.setPeers([{ id: 1, address: a.address }])
  await a.until(() => new Set(a.refusals.map(({ by }) => by)).size === 2)
  for (const { code } of [...a.refusals, ...b.refusals]) assert.equal(code, 'version')
  assert.ok(!a.links.isUp(2) && !b.links.isUp(1))
})

test('a later version of the protocol is refused in words', async (t) => {
  const b = new Node(2)
  await nodes(t, b)
  const socket = await dial(t, b)
  send(socket, {
    kind: 'hello',
    oldestVersion: 7,
    newestVersion: 9,
    clusterId,
    from: 1,
    to: 2,
    incarnation: 1,
    address: '127.0.0.1:1',
  })
  const [answer] = await readAll(socket)
  assert.match(
    answer ?? '',
    /r2 speaks versions 1 to 2 of the peer protocol, r1 7 to 9: start the older one with a later version/,
  )
  assert.deepEqual(summary(b.refusals), [{ peer: 1, by: 'self', code: 'version' }])
})

test('garbage is cut off with a reason and harms nobody', async (t) => {
  const [a, b] = [new Node(1), new Node(2)]
  await nodes(t, a, b)
  for (const garbage of [
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    Buffer.from([0, 0, 0, 1, 99]),
    Buffer.from([0, 0, 0, 0]),
    Buffer.concat(encodeFrame({ kind: 'ping', sentMs: 1 })),
    Buffer.concat(encodeFrame({ kind: 'message', message: heartbeat(1, 2, 1) })),
    Buffer.concat(encodeFrame({ kind: 'welcome', version: 1, incarnation: 1 })),
  ]) {
    const socket = await dial(t, b)
    socket.write(garbage)
    await readAll(socket)
  }
  assert.ok(b.refusals.every((refusal) => refusal.code === 'malformed' && refusal.by === 'self'))
  assert.equal(b.messages.length, 0)
  a.links.setPeers([{ id: 2, address: b.address }])
  await a.until(() => a.links.isUp(2))
})

test('a stranger that has not greeted has no say, whatever it refuses this replica for', async (t) => {
  const b = new Node(2)
  await nodes(t, b)
  for (const code of ['removed', 'certificate'] as const) {
    const socket = await dial(t, b)
    send(socket, { kind: 'refused', code, reason: 'so there' })
    await readAll(socket)
  }
  assert.deepEqual(summary(b.refusals), [{ peer: 0, by: 'self', code: 'malformed' }])
})

test('who shuts out a replica that it is just dialling says nothing before it has greeted', async (t) => {
  const [a, b] = [new Node(1), new Node(2)]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  a.links.shutOut(2, 'removed', 'it was removed')
  b.links.setPeers([{ id: 1, address: a.address }])
  await b.until(() => b.refusals.length > 0)
  assert.deepEqual(summary(b.refusals), [{ peer: 1, by: 'peer', code: 'removed' }])
})

test('a message in the name of another replica is cut off', async (t) => {
  const b = new Node(2)
  await nodes(t, b)
  const socket = await dial(t, b)
  send(socket, hello(1, 2))
  send(socket, { kind: 'message', message: heartbeat(3, 2, 1) })
  await readAll(socket)
  assert.equal(b.messages.length, 0)
  assert.deepEqual(summary(b.refusals), [{ peer: 1, by: 'self', code: 'malformed' }])
})

test('frames above the limits are cut off: small before the greeting, large after it', async (t) => {
  const b = new Node(2)
  await nodes(t, b)
  const stranger = await dial(t, b)
  stranger.write(lengthOf(maxGreetingBytes + 1))
  await readAll(stranger)
  const friend = await dial(t, b)
  send(friend, hello(1, 2))
  friend.write(lengthOf(maxFrameBytes + 1))
  await readAll(friend)
  assert.deepEqual(
    b.refusals.map((refusal) => refusal.peer),
    [0, 1],
  )
})

test('a half greeting is given up after a while, and a frame cut in two by the network is not', async (t) => {
  const b = new Node(2, { timing: { pingMs: 20, greetingMs: 30 } })
  await nodes(t, b)
  const silent = await dial(t, b)
  silent.write(Uint8Array.of(0, 0, 0))
  await readAll(silent)
  const slow = await dial(t, b)
  send(slow, hello(1, 2))
  const bytes = Buffer.concat(encodeFrame({ kind: 'message', message: heartbeat(1, 2, 5) }))
  slow.write(bytes.subarray(0, 7))
  await new Promise((resolve) => setImmediate(resolve))
  slow.write(bytes.subarray(7))
  await b.until(() => b.messages.length === 1)
})

test('only so many strangers are listened to at once', async (t) => {
  const b = new Node(2)
  await nodes(t, b)
  const sockets = await Promise.all(Array.from({ length: 80 }, () => dial(t, b)))
  const closed = sockets.map(async (socket) => {
    await once(socket, 'close')
    return true
  })
  await Promise.race(closed)
  for (const socket of sockets) socket.destroy()
  await Promise.all(closed)
})

test(
  'only so many connections are open at once, also of those whose TLS handshake never ends',
  { timeout: 20_000 },
  async (t) => {
    const open = new Set<Socket>()
    const sockets: Sockets = {
      connect: ({ host, port }) => connect({ host, port }),
      createServer: () => createServer((socket) => open.add(socket)),
    }
    t.after(() => open.forEach((socket) => socket.destroy()))
    const b = new Node(2, { sockets })
    await nodes(t, b)
    const dialled: Socket[] = []
    for (let round = 0; round < 6; round += 1)
      dialled.push(...(await Promise.all(Array.from({ length: 100 }, () => dial(t, b)))))
    await Promise.race(dialled.map((socket) => once(socket, 'close')))
    assert.ok(open.size < 600)
  },
)

test('a link that the other side does not read is cut when too much waits on it', async (t) => {
  const server = createServer((socket) => {
    t.after(() => socket.destroy())
    socket.once('data', () => {
      socket.pause()
      send(socket, { kind: 'welcome', version: 1, incarnation: 1 })
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  const a = new Node(1, { maxQueuedBytes: 1024 * 1024, timing: { pingMs: 10_000 } })
  await nodes(t, a)
  a.links.setPeers([{ id: 2, address: `127.0.0.1:${address.port}` }])
  await a.until(() => a.links.isUp(2))
  const data = [new Uint8Array(512 * 1024)]
  for (let i = 0; i < 100 && a.links.isUp(2); i += 1) {
    a.links.send({ kind: 'propose', from: 1, to: 2, term: 1, number: 1, data })
    await new Promise((resolve) => setImmediate(resolve))
  }
  assert.deepEqual(a.news, ['r2 up', 'r2 silent'])
})

test('a link on which nothing comes back is silent, not dead', async (t) => {
  const server = createServer((socket) => {
    t.after(() => socket.destroy())
    socket.once('data', () => send(socket, { kind: 'welcome', version: 1, incarnation: 1 }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  const a = new Node(1)
  await nodes(t, a)
  a.links.setPeers([{ id: 2, address: `127.0.0.1:${address.port}` }])
  await a.until(() => a.news.length >= 2)
  assert.deepEqual(a.news.slice(0, 2), ['r2 up', 'r2 silent'])
})

test('the end of a killed process is noticed, and so is its return', async (t) => {
  const a = new Node(1, { timing: { pingMs: 500 } })
  await nodes(t, a)
  const first = await startChild(t, 0)
  a.links.setPeers([{ id: 2, address: `127.0.0.1:${first.port}` }])
  await a.until(() => a.links.isUp(2))
  first.kill()
  await a.until(() => a.news.length === 2)
  assert.deepEqual(a.news, ['r2 up', 'r2 died'])
  await startChild(t, first.port)
  await a.until(() => a.links.isUp(2))
})

test('a replica that was never there refuses connections: it is dead', async (t) => {
  const a = new Node(1)
  const b = await new Node(2).start()
  const address = b.address
  await b.links.stop()
  await nodes(t, a)
  a.links.setPeers([{ id: 2, address }])
  await a.until(() => a.news.length > 0)
  assert.deepEqual(a.news, ['r2 died'])
})

test('a replica that moves is found at its new address', async (t) => {
  const [a, b, moved] = [new Node(1), new Node(2), new Node(2, { incarnation: 2 })]
  await nodes(t, a, b, moved)
  a.links.setPeers([{ id: 2, address: b.address }])
  await a.until(() => a.links.isUp(2))
  await b.links.stop()
  a.links.setPeers([{ id: 2, address: moved.address }])
  await a.until(() => a.news.filter((news) => news === 'r2 up').length === 2)
  a.links.send(heartbeat(1, 2, 3))
  await moved.until(() => moved.messages.length === 1)
})

test('a replica that is no member any more is let go when its process ends', async (t) => {
  const [a, b] = [new Node(1), new Node(2)]
  await nodes(t, a, b)
  a.links.setPeers([{ id: 2, address: b.address }])
  b.links.setPeers([{ id: 1, address: a.address }])
  await a.until(() => a.links.isUp(2))
  await b.until(() => b.links.isUp(1))
  a.links.setPeers([])
  a.links.send(heartbeat(1, 2, 1))
  await b.until(() => b.messages.length === 1)
  await b.links.stop()
  await a.until(() => a.news.includes('r2 died'))
})

test('addresses are host:port, with IPv6 in brackets', () => {
  assert.deepEqual(parseEndpoint('example.org:7600'), { host: 'example.org', port: 7600 })
  assert.deepEqual(parseEndpoint('[::1]:7600'), { host: '::1', port: 7600 })
  for (const wrong of ['', 'example.org', ':7600', '::1:7600', 'a:0', 'a:65536', 'a:7600x'])
    assert.equal(parseEndpoint(wrong), null, wrong)
})

function summary(refusals: readonly Refusal[]): unknown {
  return refusals.map(({ peer, by, code }) => ({ peer, by, code }))
}

function hello(from: number, to: number): Frame {
  return {
    kind: 'hello',
    oldestVersion: 1,
    newestVersion: 1,
    clusterId,
    from,
    to,
    incarnation: 1,
    address: 'nowhere',
  }
}

function lengthOf(bytes: number): Uint8Array {
  const header = Buffer.alloc(4)
  header.writeUInt32BE(bytes)
  return header
}

function send(socket: Socket, frame: Frame): void {
  for (const part of encodeFrame(frame)) socket.write(part)
}

async function dial(t: TestContext, node: Node): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port: node.links.port })
  socket.on('error', () => {})
  t.after(() => socket.destroy())
  await once(socket, 'connect')
  return socket
}

/** What comes until the other side closes, as text. */
async function readAll(socket: Socket): Promise<string[]> {
  const parts: Buffer[] = []
  socket.on('data', (bytes) => {
    if (typeof bytes !== 'string') parts.push(bytes)
  })
  if (!socket.destroyed) await once(socket, 'close')
  return [Buffer.concat(parts).toString('latin1')]
}

/** The links of replica 2 in a process of its own, killed at the end of the test. */
async function startChild(t: TestContext, port: number): Promise<{ port: number; kill(): void }> {
  const code = `
    import { createPeerLinks } from ${JSON.stringify(import.meta.resolve('./links.ts'))}
    import { seededRandom } from ${JSON.stringify(import.meta.resolve('../base/random.ts'))}
    import { silentLogger } from ${JSON.stringify(import.meta.resolve('../base/logger.ts'))}
    const links = createPeerLinks({ self: 2, clusterId: Uint8Array.from({ length: 16 }, (_, i) => i), incarnation: 1,
      listen: { host: '127.0.0.1', port: ${port} }, random: seededRandom(2), logger: silentLogger, onRefused() {}, admit: () => null })
    await links.start({ message() {}, chunk() {}, chunkReply() {}, up() {}, down() {}, incarnation() {} })
    console.log(links.port)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  return { port: Number(line.toString()), kill: () => child.kill('SIGKILL') }
}
