import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import type { ExportScope } from './export.ts'
import { Harness, toAccount, toRoom, type Who } from './harness.ts'

const noBytes = new Uint8Array(0)

function start(): { chat: Harness; alice: Who; bob: Who } {
  const chat = new Harness(new DatabaseSync(':memory:'))
  return { chat, alice: chat.register('alice'), bob: chat.register('bob') }
}

/** All pages, and how many there were. */
function read(chat: Harness, scope: ExportScope) {
  const items: Readonly<Record<string, unknown>>[] = []
  let token = ''
  let pages = 0
  do {
    const page = chat.queries.exported(scope, token)
    assert.ok(page !== null && page.items.length <= 251)
    items.push(...page.items)
    token = page.next
    pages += 1
  } while (token !== '')
  return { items, pages }
}

const all = { kind: 'all' } as const
const own = ({ account }: Who) => ({ kind: 'account', account }) as const
const textsOf = (items: readonly Readonly<Record<string, unknown>>[]): readonly unknown[] =>
  items.filter(({ type }) => type === 'message').map(({ text }) => text)

test('everything is exported once, page by page, in the order of the log', () => {
  const { chat, alice, bob } = start()
  const texts = Array.from({ length: 600 }, (_, i) => `message ${i}`)
  for (const [i, text] of texts.entries())
    chat.send(
      i % 2 === 0 ? alice : bob,
      i % 3 === 0 ? toAccount(i % 2 === 0 ? 'bob' : 'alice') : toRoom('everyone'),
      text,
    )
  const { items, pages } = read(chat, all)
  assert.deepEqual(textsOf(items), texts)
  assert.ok(pages > 3)
  assert.deepEqual(
    items.filter(({ type }) => type === 'account').map(({ name, admin }) => [name, admin]),
    [
      ['alice', true],
      ['bob', false],
    ],
  )
  assert.equal(items[0]?.['type'], 'policy')
})

test('one’s own data are what one can see: not what others keep among themselves, nor what one has hidden', () => {
  const { chat, alice, bob } = start()
  const carol = chat.register('carol')
  chat.send(alice, toAccount('bob'), 'for bob')
  chat.send(alice, toAccount('carol'), 'for carol')
  const hidden = chat.send(alice, toRoom('everyone'), 'hidden by bob')
  chat.send(carol, toRoom('everyone'), 'for all')
  const message = { conversation: hidden.conversation, seq: hidden.seq }
  chat.do(bob, { $case: 'deleteMessage', value: { id: noBytes, message, forAll: false } })
  const draftId = chat.newId()
  for (const [who, text] of [
    [alice, 'of alice'],
    [bob, 'of bob'],
  ] as const)
    chat.do(who, {
      $case: 'saveDraft',
      value: { id: noBytes, draftId, baseVersion: 0, text, recipients: [toAccount('carol')] },
    })
  const { items } = read(chat, own(bob))
  assert.deepEqual(textsOf(items), ['for all', 'for bob'])
  assert.deepEqual(
    items.filter(({ type }) => type === 'draft').map(({ text, recipients }) => [text, recipients]),
    [['of bob', [{ account: 'carol' }]]],
  )
  assert.deepEqual(
    items.filter(({ type }) => type === 'account').map(({ name }) => name),
    ['bob'],
  )
  assert.equal(items.filter(({ type }) => type === 'hidden').length, 1)
  assert.equal(items.filter(({ type }) => type === 'session').length, 1)
})

test('somebody in many conversations gets each message of each once', () => {
  const { chat, alice, bob } = start()
  for (let i = 0; i < 300; i += 1) {
    const name = `room${i}`
    chat.do(alice, { $case: 'createRoom', value: { id: noBytes, name, topic: '', private: i % 2 === 0 } })
    if (i % 3 === 0) chat.send(alice, toRoom(name), `in ${name}`)
  }
  assert.deepEqual(
    textsOf(read(chat, own(alice)).items),
    Array.from({ length: 100 }, (_, i) => `in room${i * 3}`),
  )
  assert.deepEqual(textsOf(read(chat, own(bob)).items), [])
})

test('large texts make a page shorter, and no secret is exported', () => {
  const { chat, alice } = start()
  for (let i = 0; i < 50; i += 1) chat.send(alice, toRoom('everyone'), 'x'.repeat(16_000))
  const { items, pages } = read(chat, all)
  assert.equal(textsOf(items).length, 50)
  assert.ok(pages > 8)
  assert.doesNotMatch(JSON.stringify(items), /hash|token/)
})

test('a page token that was not given out is refused', () => {
  const { chat, alice } = start()
  for (const token of ['x', '99', '-1', '0.x1', '0.1.2.3', '7.1', '1;2', 'x00', '6.1.zz'])
    assert.equal(chat.queries.exported(token === '7.1' ? own(alice) : all, token), null, token)
})
