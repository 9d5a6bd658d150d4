import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeNetwork } from '../client/testing.ts'
import { readSettings } from './config.ts'
import type { Io } from './io.ts'
import { openSession, type SavedSession } from './session.ts'
import { FakeProcess } from './testing.ts'

const ann: SavedSession = { name: 'ann', token: new Uint8Array(32).fill(1) }
const bob: SavedSession = { name: 'bob', token: new Uint8Array(32).fill(2) }

function start(): { readonly network: FakeNetwork; readonly io: Io; readonly kept: () => string | null } {
  const network = new FakeNetwork(2)
  const fake = new FakeProcess(network)
  fake.environment['PARLEY_SERVER'] = 'r1:7400'
  network.replica(1).addresses = network.addresses
  network.chat.addSession(ann.token, 5, 50)
  return { network, io: fake.io, kept: () => [...fake.files.values()][0] ?? null }
}

test('a session that has ended takes nothing from the one that was kept after it', () => {
  const { io, kept } = start()
  const settings = readSettings({}, io.environment, io.files)
  const first = openSession(settings, io, true)
  first.save(ann)
  const second = openSession(settings, io, true)
  second.save(bob)
  first.forget()
  assert.match(kept() ?? '', /"name":"bob"/)
  second.forget()
  assert.equal(kept(), null)
  first.close()
  second.close()
  assert.equal(kept(), null)
})

test('a disk that takes nothing does not spoil what was done: only where the replicas are is not kept', async () => {
  const { network, io, kept } = start()
  const settings = readSettings({}, io.environment, io.files)
  openSession(settings, io, true).save(ann)
  const before = kept()
  const full: Io = {
    ...io,
    files: {
      ...io.files,
      writePrivate() {
        throw new Error('ENOSPC: no space left on device')
      },
    },
  }
  const session = openSession(settings, full)
  await network.clock.pass(1000)
  assert.deepEqual(session.client.addresses, network.addresses)
  session.close()
  assert.equal(kept(), before)
})
