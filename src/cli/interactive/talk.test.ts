import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClient } from '../../client/index.ts'
import { FakeNetwork } from '../../client/testing.ts'
import { Account, Message } from '../../gen/parley/v1/model.ts'
import { finish } from '../testing.ts'
import { paint } from '../text.ts'
import { Talk } from './talk.ts'

const token = new Uint8Array(32).fill(1)
const bob = { target: { $case: 'account', value: 'bob' } } as const

/** Somebody who talks, and the lines that were printed. */
async function open(): Promise<{ network: FakeNetwork; talk: Talk; lines: string[] }> {
  const network = new FakeNetwork(1)
  network.chat.addSession(token, 5, 50)
  const { clock } = network
  const client = createClient({ addresses: network.addresses, token, clock, connect: network.connect })
  const lines: string[] = []
  const talk = new Talk({
    client,
    view: { print: (text) => lines.push(...text.split('\n')), show: () => undefined },
    colors: paint(false),
    nowMs: () => 0,
    after: (delayMs, callback) => clock.after(delayMs, callback),
    onSignedOut: () => undefined,
  })
  await finish(network, talk.start())
  await clock.pass(100)
  return { network, talk, lines }
}

/** What was printed, from the number of the message on. */
const said = (lines: readonly string[]): readonly string[] =>
  lines.flatMap((line) => (line.includes('bob/') ? [line.slice(line.indexOf('bob/'))] : []))

test('messages are printed in their order, also when the answer to one that was sent comes after what others said later', async () => {
  const { network, talk, lines } = await open()
  network.replica(1).fault = ({ op }) => (op?.$case === 'sendMessage' ? 'loseAnswer' : null)
  talk.send(bob, 'first')
  await network.clock.pass(100)
  const sender = Account.create({ id: 9, name: 'bob' })
  const value = Message.create({
    conversation: 7,
    seq: 2,
    text: 'second',
    sender: 9,
    senderName: sender.name,
  })
  network.chat.happen({ $case: 'message', value })
  await network.clock.pass(100)
  assert.deepEqual(said(lines), ['bob/1  you: first ✓', 'bob/2  bob: second'])
  // It is asked for again over another connection, and answered.
  network.replica(1).fault = () => null
  network.replica(1).kill()
  network.replica(1).up = true
  await network.clock.pass(10_000)
  assert.deepEqual(talk.client.outbox.items, [])
  assert.deepEqual(said(lines), ['bob/1  you: first ✓', 'bob/2  bob: second'])
  talk.stop()
  talk.client.close()
})
