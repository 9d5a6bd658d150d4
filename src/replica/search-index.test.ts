import assert from 'node:assert/strict'
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test, type TestContext } from 'node:test'

import { openChat } from '../chat/machine.ts'
import { makeUuidV7 } from '../base/ids.ts'
import type { Command } from '../gen/parley/v1/command.ts'
import { Policy, type Target } from '../gen/parley/v1/model.ts'
import { clusterCommand } from './commands.ts'
import { isDamage, matchExpression, removeIndex, SearchIndex } from './search-index.ts'
import { ChatScript } from './testing.ts'

function setUp(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'parley-search-'))
  const statePath = join(folder, 'state.db')
  const indexPath = join(folder, 'search.db')
  const db = new DatabaseSync(statePath)
  db.exec('PRAGMA journal_mode = WAL')
  const { machine } = openChat(db)
  const script = new ChatScript(machine, db)
  const open = (): SearchIndex => new SearchIndex(indexPath, statePath, (state) => openChat(state).queries)
  t.after(() => {
    db.close()
    rmSync(folder, { recursive: true })
  })
  /** Commands from elsewhere, so much later. */
  const apply = (laterMs: number, ...commands: readonly Command[]): void => {
    db.exec('BEGIN')
    machine.applyBatch(
      { origin: 2, incarnation: 1, number: (batches += 1), atMs: machine.nowMs + laterMs, commands },
      false,
    )
    machine.flush()
    db.exec('COMMIT')
  }
  let batches = 0
  return { script, open, indexPath, state: db, apply, nowMs: () => machine.nowMs }
}

function find(index: SearchIndex, account: number, query: string, conversation?: Target): string[] {
  while (index.advance(10)) continue
  const texts: string[] = []
  let pageToken = ''
  do {
    const page = index.search(account, { query, conversation, pageSize: 2, pageToken })
    texts.push(...page.messages.map((message) => message.text))
    pageToken = page.nextPageToken
  } while (pageToken !== '')
  return texts
}

test('messages that hold all words are found, newest first, page by page', (t) => {
  const { script, open } = setUp(t)
  const [alice] = script.accounts('alice', 'bob')
  for (const text of ['red fish', 'Blue fish', 'one fish, two fish', 'no such animal', 'fish red'])
    script.send(alice, 'bob', text)
  const index = open()
  assert.deepEqual(find(index, alice.account, 'FISH'), [
    'fish red',
    'one fish, two fish',
    'Blue fish',
    'red fish',
  ])
  assert.deepEqual(find(index, alice.account, 'red fish'), ['fish red', 'red fish'])
  assert.deepEqual(find(index, alice.account, '"red fish"'), ['red fish'])
  assert.deepEqual(find(index, alice.account, 'fishes'), [])
  index.close()
})

test('an account finds only what it may see', (t) => {
  const { script, open } = setUp(t)
  const [alice, bob, carol] = script.accounts('alice', 'bob', 'carol')
  script.send(alice, 'bob', 'secret plan')
  script.send(alice, 'carol', 'other plan')
  const index = open()
  assert.deepEqual(find(index, bob.account, 'plan'), ['secret plan'])
  assert.deepEqual(find(index, carol.account, 'plan'), ['other plan'])
  const withBob: Target = { target: { $case: 'account', value: 'bob' } }
  assert.deepEqual(find(index, alice.account, 'plan', withBob), ['secret plan'])
  assert.deepEqual(find(index, carol.account, 'plan', withBob), [])
  index.close()
})

test('nothing that people type is an operator', (t) => {
  const { script, open } = setUp(t)
  const [alice] = script.accounts('alice', 'bob')
  script.send(alice, 'bob', 'a OR b')
  script.send(alice, 'bob', 'crème brûlée')
  const index = open()
  for (const query of [
    'a NOT b',
    'text:a',
    'a*',
    '(',
    '"',
    '" "',
    '--',
    'NEAR(a b)',
    "'; DROP TABLE words; --",
    '^a',
    '{a}',
    'a\0b',
    '"a\0',
  ])
    assert.ok(Array.isArray(find(index, alice.account, query)), query)
  assert.deepEqual(find(index, alice.account, 'a OR b'), ['a OR b'])
  assert.deepEqual(find(index, alice.account, 'creme BRULEE'), ['crème brûlée'])
  index.close()
})

test('a NUL in a query stands between words, as it does in messages', (t) => {
  const { script, open } = setUp(t)
  const [alice] = script.accounts('alice', 'bob')
  script.send(alice, 'bob', 'red fish')
  script.send(alice, 'bob', 'red\0fish')
  const index = open()
  for (const query of ['red\0fish', '\0fish', '"red\0fish"', 'red fish'])
    assert.deepEqual(find(index, alice.account, query), ['red\0fish', 'red fish'], JSON.stringify(query))
  assert.deepEqual(find(index, alice.account, '"fish\0red"'), [])
  index.close()
  assert.equal(matchExpression('\0'), null)
})

test('a query without a word asks for nothing', () => {
  assert.equal(matchExpression('  "" -- "'), null)
  assert.equal(matchExpression('one "two three" four"five'), '"one" AND "two three" AND "four" AND "five"')
})

test('the index goes on where it was, follows edits and deletions, and is made anew when it is damaged', (t) => {
  const { script, open, indexPath } = setUp(t)
  const [alice] = script.accounts('alice', 'bob')
  const first = script.send(alice, 'bob', 'one apple')
  const second = script.send(alice, 'bob', 'two apples')
  let index = open()
  assert.deepEqual(find(index, alice.account, 'apple'), ['one apple'])
  index.close()
  script.edit(alice, first, 'one pear')
  script.remove(alice, second)
  script.send(alice, 'bob', 'a pear and an apple')
  index = open()
  assert.deepEqual(find(index, alice.account, 'apple'), ['a pear and an apple'])
  assert.deepEqual(find(index, alice.account, 'pear'), ['a pear and an apple', 'one pear'])
  assert.deepEqual(find(index, alice.account, 'apples'), [])
  index.close()
  writeFileSync(indexPath, 'this is no database, and long enough to be taken for one: '.repeat(100))
  index = open()
  assert.equal(index.position, 0)
  assert.deepEqual(find(index, alice.account, 'pear'), ['a pear and an apple', 'one pear'])
  index.close()
})

test('a message that was deleted is not found by an index that does not know it yet', (t) => {
  const { script, open } = setUp(t)
  const [alice] = script.accounts('alice', 'bob')
  const sent = script.send(alice, 'bob', 'secret plan')
  const index = open()
  assert.deepEqual(find(index, alice.account, 'plan'), ['secret plan'])
  script.remove(alice, sent)
  assert.deepEqual(
    index.search(alice.account, { query: 'plan', conversation: undefined, pageSize: 2, pageToken: '' })
      .messages,
    [],
  )
  index.close()
})

test('a deletion as the latest of several changes is taken in like any other', (t) => {
  const { script, open } = setUp(t)
  const [alice] = script.accounts('alice', 'bob')
  const sent = ['one apple', 'two apples', 'three apples'].map((text) => script.send(alice, 'bob', text))
  const index = open()
  assert.equal(find(index, alice.account, 'apples').length, 2)
  for (const message of sent) script.remove(alice, message)
  assert.deepEqual(find(index, alice.account, 'apples'), [])
  index.close()
})

test('damage that shows only later is recognised, and costs nothing but the time to index anew', (t) => {
  const { script, open, indexPath } = setUp(t)
  const [alice] = script.accounts('alice', 'bob')
  for (let i = 0; i < 300; i += 1) script.send(alice, 'bob', `needle number ${i} ${'hay '.repeat(50)}`)
  let index = open()
  assert.equal(find(index, alice.account, 'needle').length, 300)
  index.close()
  // The pages of the words, behind those that say what the file is.
  const file = openSync(indexPath, 'r+')
  writeSync(file, Buffer.alloc(fstatSync(file).size - 12_288, 0xa5), 0, null, 12_288)
  closeSync(file)
  assert.throws(() => {
    index = open()
    find(index, alice.account, 'needle')
  }, isDamage)
  index.close()
  removeIndex(indexPath)
  index = open()
  assert.equal(find(index, alice.account, 'needle').length, 300)
  index.close()
})

test('what was removed for its age leaves the index, also when the index was too far behind to be told', (t) => {
  const { script, open, state, apply, indexPath, nowMs } = setUp(t)
  const [alice] = script.accounts('alice', 'bob')
  script.send(alice, 'bob', 'old fish')
  const index = open()
  assert.deepEqual(find(index, alice.account, 'fish'), ['old fish'])
  const id = makeUuidV7(nowMs(), new Uint8Array(10))
  const { account, session } = alice
  const policy = Policy.fromPartial({ retentionS: 60 })
  const op = { $case: 'setPolicy', value: { id, policy, fields: ['retention_s'] } } as const
  apply(0, clusterCommand({ $case: 'raiseVersion', value: { version: 2 } }), {
    id,
    fingerprint: 1,
    account,
    session,
    op,
  })
  apply(120_000, clusterCommand({ $case: 'expireMessages', value: {} }))
  while (index.advance(10)) continue
  assert.equal(textsIn(indexPath), 0)
  script.send(alice, 'bob', 'new fish')
  assert.deepEqual(find(index, alice.account, 'fish'), ['new fish'])
  state.exec('DELETE FROM message; DELETE FROM removed')
  script.send(alice, 'bob', 'newest fish')
  // As if so much had happened since that the list of what was removed had been cut.
  state.exec('UPDATE chat_state SET forgotten_position = position')
  assert.deepEqual(find(index, alice.account, 'fish'), ['newest fish'])
  assert.equal(textsIn(indexPath), 1)
  index.close()
})

function textsIn(indexPath: string): number {
  const db = new DatabaseSync(indexPath, { readOnly: true })
  try {
    return Number(db.prepare('SELECT count(*) AS n FROM words_docsize').get()?.['n'])
  } finally {
    db.close()
  }
}
