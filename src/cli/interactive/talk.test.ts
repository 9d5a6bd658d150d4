import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClient } from '../../client/index.ts'
import { FakeNetwork } from '../../client/testing.ts'
import { Account, Message } from '../../gen/parley/v1/model.ts'
import { finish } from '../testing.ts'
import { readReport } from '../verbs/read.ts'
import { paint, widthOf } from '../text.ts'
import { Talk } from './talk.ts'

const token = new Uint8Array(32).fill(1)
const bob = { target: { $case: 'account', value: 'bob' } } as const

interface Shown {
  readonly live: readonly string[]
  readonly prompt: string
}

/** Somebody who talks, the lines that were printed, and what was shown below them, the latest last. */
async function open(
  terminal = { columns: 80 },
): Promise<{ network: FakeNetwork; talk: Talk; lines: string[]; shown: Shown[]; prompt: () => string }> {
  const network = new FakeNetwork(1)
  network.chat.addSession(token, 5, 50)
  const { clock } = network
  const client = createClient({ addresses: network.addresses, token, clock, connect: network.connect })
  const lines: string[] = []
  const shown: Shown[] = []
  const talk = new Talk({
    client,
    view: {
      rows: 24,
      print: (text) => lines.push(...text.split('\n')),
      show: (live, prompt) => shown.push({ live, prompt }),
    },
    look: () => ({ nowMs: 0, colors: paint(false), columns: terminal.columns }),
    after: (delayMs, callback) => clock.after(delayMs, callback),
    onSignedOut: () => undefined,
  })
  await finish(network, talk.start())
  await clock.pass(100)
  return { network, talk, lines, shown, prompt: () => shown.at(-1)?.prompt ?? '' }
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

const account = (name: string) => ({ target: { $case: 'account', value: name } }) as const

test('a message too long for the terminal is broken between words, as wide as the terminal is by then', async () => {
  const terminal = { columns: 50 }
  const { network, talk, lines } = await open(terminal)
  const sends = async (text: string): Promise<readonly string[]> => {
    const before = lines.length
    talk.send(bob, text)
    await network.clock.pass(100)
    return lines.slice(before).map((line) => line.replace(/^[0-9:]{5}/, '00:00'))
  }
  assert.deepEqual(await sends('the quick brown fox jumps over the lazy dog'), [
    '00:00 bob/1  you: the quick brown fox jumps over',
    '                  the lazy dog ✓',
  ])
  terminal.columns = 30
  assert.deepEqual(await sends('the quick brown fox jumps over the lazy dog'), [
    '00:00 bob/2  you: the quick',
    '    brown fox jumps over the',
    '    lazy dog ✓',
  ])
  terminal.columns = Infinity
  assert.deepEqual(await sends('the quick brown fox\njumps over the lazy dog'), [
    '00:00 bob/3  you: the quick brown fox',
    '    jumps over the lazy dog ✓',
  ])
  talk.stop()
  talk.client.close()
})

test('one reads what was said before as it was said: one is you', async () => {
  const { network, talk, lines } = await open()
  talk.send(bob, 'mine')
  await network.clock.pass(100)
  const value = Message.create({ conversation: 7, seq: 2, text: 'theirs', sender: 9, senderName: 'bob' })
  network.chat.messages.push(value)
  network.chat.happen({ $case: 'message', value })
  await network.clock.pass(100)
  const live = said(lines)
  const options = { conversation: bob, before: 0, limit: 20, mark: false }
  const look = { nowMs: 0, colors: paint(false), columns: 80 }
  const report = await finish(network, readReport(talk.client, options, look, talk.labels))
  assert.deepEqual(live, ['bob/1  you: mine ✓', 'bob/2  bob: theirs'])
  assert.deepEqual(said(report.lines), ['bob/1  you: mine', 'bob/2  bob: theirs'])
  talk.stop()
  talk.client.close()
})

test('who asks for a conversation that there is not is told where they still are', async () => {
  const { network, talk, prompt } = await open()
  network.replica(1).fault = ({ op }) =>
    op?.$case === 'listMessages' &&
    op.value.conversation?.target?.$case === 'account' &&
    op.value.conversation.target.value !== 'bob'
      ? { refuse: 'REASON_ACCOUNT_NOT_FOUND' }
      : null
  await assert.rejects(
    finish(network, talk.open(account('bobb'))),
    /^CliError: bobb: .* No conversation is open\.$/,
  )
  assert.equal(prompt(), 'parley> ')
  await finish(network, talk.open(bob))
  // The second before the first is answered: neither is.
  const first = talk.open(account('bobb'))
  const second = talk.open(account('bbo'))
  await Promise.resolve()
  assert.equal(prompt(), 'bbo> ')
  await assert.rejects(finish(network, first))
  await assert.rejects(finish(network, second), /^CliError: bbo: .* You are still in bob\.$/)
  assert.equal(prompt(), 'bob> ')
  talk.stop()
  talk.client.close()
})

test('a conversation that cannot be asked for stays open, so that nothing is written to another one by mistake', async () => {
  const { network, talk, prompt } = await open()
  await finish(network, talk.open(bob))
  network.replica(1).kill()
  await assert.rejects(
    finish(network, talk.open(account('carol'))),
    /^CliError: carol: .* It is open all the same/,
  )
  assert.match(prompt(), /carol> $/)
  talk.stop()
  talk.client.close()
})

/** Rows that the lines take in a terminal of so many columns. */
const rowsIn = (columns: number, lines: readonly string[]): number =>
  lines.flatMap((line) => line.split('\n')).reduce((sum, line) => sum + Math.ceil(widthOf(line) / columns), 0)

test('of many messages that wait the latest are shown, in a third of the screen, and how many more there are', async () => {
  const { network, talk, shown } = await open()
  network.replica(1).setState({ quorum: false })
  await network.clock.pass(100)
  const live = async (...texts: readonly string[]): Promise<readonly string[]> => {
    for (const text of texts) talk.send(bob, text)
    await network.clock.pass(100)
    const lines = shown.at(-1)?.live ?? []
    assert.ok(rowsIn(80, lines) <= 8, lines.join('\n'))
    return lines
  }
  const numbered = Array.from({ length: 400 }, (_, i) => `line ${i}`)
  assert.deepEqual(
    await live(...numbered.slice(0, 7)),
    numbered.slice(0, 7).map((text) => `… bob  you: ${text}`),
  )
  assert.deepEqual(await live(...numbered.slice(7)), [
    '… 393 more messages',
    ...numbered.slice(-7).map((text) => `… bob  you: ${text}`),
  ])
  // One that takes two rows is whole; of what takes more rows than are left stands the beginning.
  const twoRows = 'two rows '.repeat(10).trimEnd()
  const [, first, ...rest] = await live('x'.repeat(10_000), twoRows, ...numbered.slice(-4))
  assert.match(first ?? '', /^… bob  you: x{67}…$/)
  assert.equal(
    rest.join('\n').replaceAll(/\n +/g, ' '),
    [twoRows, ...numbered.slice(-4)].map((text) => `… bob  you: ${text}`).join('\n'),
  )
  const [more, second] = await live(...Array.from({ length: 7 }, () => twoRows))
  assert.equal(more, '… 409 more messages')
  assert.match(second ?? '', /^… bob  you: (two rows ){7}two …$/)
  talk.stop()
  talk.client.close()
})

test('what happens in one go is drawn once, however much it is', async () => {
  const { network, talk, shown } = await open()
  shown.length = 0
  for (let i = 0; i < 100; i += 1) talk.send(bob, `line ${i}`)
  await Promise.resolve()
  assert.equal(shown.length, 1)
  await network.clock.pass(10_000)
  assert.deepEqual(shown.at(-1)?.live, [])
  // Each of them comes back as an event and as an answer.
  assert.ok(shown.length <= 1 + 2 * 100, `${shown.length} times`)
  talk.stop()
  talk.client.close()
})

test('of however many messages that wait each is printed once when it is sent', async () => {
  const { network, talk, lines } = await open()
  const count = 1100
  for (let i = 1; i <= count; i += 1) talk.send(bob, `line ${i}`)
  await network.clock.pass(20_000)
  assert.deepEqual(talk.client.outbox.items, [])
  assert.deepEqual(
    said(lines),
    Array.from({ length: count }, (_, i) => `bob/${i + 1}  you: line ${i + 1} ✓`),
  )
  talk.stop()
  talk.client.close()
})
