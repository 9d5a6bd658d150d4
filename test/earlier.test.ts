// What earlier versions of Parley wrote to disks, to other replicas and to clients must be understood for good: test/fixtures holds it.
import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test, type TestContext } from 'node:test'
import { openChat } from '../src/chat/machine.ts'
import { createClient } from '../src/client/index.ts'
import { ClientFrame, ServerFrame } from '../src/gen/parley/v1/frames.ts'
import { decodeFrame, encodeFrame } from '../src/peer/frames.ts'
import { replicaFolder } from '../src/server/cluster-file.ts'
import { createSupervisor } from '../src/server/supervisor.ts'
import { readPieces, unpackFolder, readExpected } from './support/fixture.ts'
import { until } from './support/ledger.ts'
import type { Recorded } from './support/recorded.ts'
import { newestState } from './support/state.ts'

const versions = readdirSync(join(import.meta.dirname, 'fixtures')).filter((name) => /^[0-9]/.test(name))

function fromHex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'hex'))
}

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'parley-earlier-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

for (const version of versions) {
  test(`every frame that replicas of ${version} sent each other is read, and would be written the same`, () => {
    const kinds = new Set<string>()
    for (const { name, bytes } of readPieces(`${version}/peer-frames`)) {
      const frame = decodeFrame(bytes.subarray(4))
      kinds.add(frame.kind === 'message' ? frame.message.kind : frame.kind)
      assert.deepEqual(Buffer.concat(encodeFrame(frame)), Buffer.from(bytes), `${name}: ${frame.kind}`)
    }
    for (const kind of ['hello', 'welcome', 'chunk', 'vote', 'append', 'heartbeat', 'propose', 'snapshot'])
      assert.ok(kinds.has(kind), `a ${kind} was recorded`)
  })

  test(`every frame between clients and replicas of ${version} is read, and would be written the same`, () => {
    for (const { name, bytes } of readPieces(`${version}/client-frames`)) {
      const frame = name.startsWith('from ')
        ? ClientFrame.encode(ClientFrame.decode(bytes)).finish()
        : ServerFrame.encode(ServerFrame.decode(bytes)).finish()
      assert.deepEqual(Buffer.from(frame), Buffer.from(bytes), name)
    }
  })

  test(`a state of ${version} holds what it held`, (t) => {
    const recorded = readExpected<Recorded>(version)
    for (const replica of ['r1', 'r2', 'r3']) {
      const folder = temporaryFolder(t)
      unpackFolder(`${version}/${replica}`, folder)
      const db = new DatabaseSync(newestState(folder))
      const { queries } = openChat(db)
      const anna = queries.session(hash('sha256', fromHex(recorded.token), 'buffer'))
      const bob = queries.accountByName('bob')
      assert.ok(anna !== null && bob !== null)
      const newest = queries.messages(anna.account, recorded.room, { beforeSeq: 0, afterSeq: 0, pageSize: 1 })
      assert.deepEqual(
        newest?.messages.map(({ seq, text }) => [seq, text]),
        [[recorded.lastSeq, recorded.lastText]],
      )
      assert.deepEqual(
        queries.drafts(anna.account, 500, '').items.map(({ text }) => text),
        ['a draft'],
      )
      assert.equal(queries.policy().messagesPerMinute, 100_000)
      const marks = queries.messages(bob.id, recorded.room, { beforeSeq: 8, afterSeq: 0, pageSize: 8 })
      assert.deepEqual(
        marks?.messages.map(({ seq, text, deleted, read }) => [seq, text, deleted, read]),
        [
          [1, 'edited by anna', false, true],
          [2, '', true, true],
          [4, 'message 8 of anna', false, false],
          [5, 'message 10 of anna', false, true],
          [6, 'message 12 of anna', false, false],
          [7, 'message 14 of anna', false, false],
        ],
      )
      db.close()
    }
  })

  test(`replicas that were killed as ${version} start as this version, and serve`, async (t) => {
    const recorded = readExpected<Recorded>(version)
    const folder = temporaryFolder(t)
    for (const { id } of recorded.replicas) unpackFolder(`${version}/r${id}`, replicaFolder(folder, id))
    const lines: string[] = []
    const supervisor = createSupervisor({
      replicas: recorded.replicas.map(({ id }) => ({ id, folder: replicaFolder(folder, id) })),
      restart: false,
      logLevel: 'info',
      onEvent(event) {
        if (event.kind === 'line') lines.push(`r${event.replica}: ${event.line}`)
      },
    })
    const client = createClient({
      addresses: recorded.replicas.map(({ http }) => http),
      token: fromHex(recorded.token),
      timeoutMs: 30_000,
    })
    try {
      for (const { id } of recorded.replicas) supervisor.start(id)
      const room = { target: { $case: 'conversation', value: recorded.room } } as const
      const sent = await client.call('sendMessage', { to: room, text: 'from a later version' })
      assert.equal(sent.seq, recorded.lastSeq + 1)
      const { messages } = await client.call('listMessages', { conversation: room, pageSize: 2 })
      assert.deepEqual(
        messages.map(({ text }) => text),
        [recorded.lastText, 'from a later version'],
      )
      const found = await client.call('searchMessages', { query: '"one that is sent"' })
      assert.equal(found.messages.length, 2)
      // All three are back, whatever state each was killed in.
      await until(
        async () => (await client.call('getStatus', {})).mayFail === 1,
        `three replicas\n${lines.join('\n')}`,
        30_000,
      )
    } finally {
      client.close()
      supervisor.kill()
      await until(() => supervisor.running.size === 0, 'the replicas end', 30_000)
    }
  })
}
