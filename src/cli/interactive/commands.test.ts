import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClient } from '../../client/index.ts'
import { FakeNetwork } from '../../client/testing.ts'
import { Conversation } from '../../gen/parley/v1/model.ts'
import { Labels } from '../names.ts'
import { paint, widthOf } from '../text.ts'
import { commandNames, completeLine, helpLines } from './commands.ts'

const words = (lines: readonly string[]): string => lines.join(' ').replaceAll(/ +/g, ' ')

test('the help fits terminals from 40 columns on without a broken word', () => {
  const wide = helpLines(200, paint(false))
  for (let columns = 40; columns <= 200; columns += 1) {
    const lines = helpLines(columns, paint(false))
    for (const line of lines) assert.ok(widthOf(line) <= columns, `${columns}: ${line}`)
    assert.equal(words(lines), words(wide))
  }
  for (const name of commandNames()) assert.match(wide.join('\n'), new RegExp(`^/${name}\\b`, 'm'))
})

test('a name is completed from those that are known when the replicas tell no others, and without waiting for one that does not answer', async () => {
  const network = new FakeNetwork(1)
  const replica = network.replica(1)
  const token = new Uint8Array(32).fill(1)
  network.chat.addSession(token, 5, 50)
  const { addresses, clock, connect } = network
  const client = createClient({ addresses, token, clock, connect })
  const labels = new Labels(client)
  labels.note(Conversation.fromPartial({ id: 7, kind: 'CONVERSATION_KIND_DIRECT', name: 'bob' }))
  labels.note(Conversation.fromPartial({ id: 8, kind: 'CONVERSATION_KIND_ROOM', name: 'books' }))
  const completes = async (withinMs: number): Promise<void> => {
    const answers: unknown[] = []
    for (const line of ['/msg bo', '/read #bo'])
      void completeLine(line, { client, labels }).then((answer) => answers.push(answer))
    await clock.pass(withinMs)
    assert.deepEqual(answers, [
      [['bob '], 'bo'],
      [['#books '], '#bo'],
    ])
  }
  await completes(0)
  await clock.pass(100)
  assert.equal(client.state.kind, 'connected')
  // It does not know how to list anything.
  await completes(10)
  assert.deepEqual(replica.seenOps.slice(-2), ['listAccounts', 'listRooms'])
  replica.silent = true
  await completes(500)
  replica.kill()
  await clock.pass(100)
  assert.equal(client.state.kind, 'reconnecting')
  await completes(0)
  client.close()
})
