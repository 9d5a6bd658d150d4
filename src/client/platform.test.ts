import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { WebSocketServer } from 'ws'
import { ClientFrame, ServerFrame } from '../gen/parley/v1/frames.ts'
import { createClient } from './client.ts'
import { secureRandom } from './platform.ts'

test("a client speaks over the platform's WebSocket at /ws, and leaves when it is closed", async () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', path: '/ws' })
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.on('connection', (socket) => {
    const state = {
      replica: 3,
      clusterId: new Uint8Array(16),
      quorum: true,
      waitingFor: [],
      draining: false,
      hindered: false,
      nowMs: Date.now(),
      addresses: [],
      leader: 3,
      version: 'test',
    }
    socket.send(ServerFrame.encode({ responses: [], events: [], state }).finish())
    socket.on('message', (data: Buffer) => {
      const responses = ClientFrame.decode(data).requests.map(({ number }) => ({
        number,
        position: 0,
        result: { $case: 'lookUpName', value: { exists: true, registrationOpen: false } } as const,
      }))
      socket.send(ServerFrame.encode({ responses, events: [], state: undefined }).finish())
    })
  })
  const client = createClient({ addresses: [`127.0.0.1:${port}`] })
  const answers = await Promise.all(['ann', 'bob'].map((name) => client.call('lookUpName', { name })))
  assert.deepEqual(
    answers.map(({ exists }) => exists),
    [true, true],
  )
  assert.deepEqual(client.state, { kind: 'connected', replica: 3, address: `127.0.0.1:${port}` })
  const [socket] = server.clients
  assert.ok(socket !== undefined)
  const gone = once(socket, 'close')
  client.close()
  await gone
  server.close()
})

test('random numbers of the platform stay below their limit and use all of it', () => {
  const seen = new Set<number>()
  for (let i = 0; i < 5000; i += 1) {
    const value = secureRandom.below(256)
    assert.ok(Number.isInteger(value) && value >= 0 && value < 256)
    seen.add(value)
  }
  assert.equal(seen.size, 256)
})
