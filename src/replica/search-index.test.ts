import assert from 'node:assert/strict'
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test, type TestContext } from 'node:test'

import { openChat } from '../chat/machine.ts'
import type { Target } from '../gen/parley/v1/model.ts'
import { isDamage, matchExpression, removeIndex, SearchIndex } from './search-index.ts'
import { ChatScript } from './testing.ts'

function setUp(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'parley-search-'))
  const statePath = join(folder, 'state.db')
  const indexPath = join(folder, 'search.db')
  const db = new DatabaseSync(statePath)
  db.exec('PRAGMA journal_mode = WAL')
  const script = new ChatScript(openChat(db).machine, db)
  const open = (): SearchIndex => new SearchIndex(indexPath, statePath, (state) => openChat(state).queries)
  t.after(() => {
    db.close()
    rmSync(folder, { recursive: true })
  })
  return { script, open, indexPath }
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
  ])
    assert.ok(Array.isArray(find(index, alice.account, query)), query)
  assert.deepEqual(find(index, alice.account, 'a OR b'), ['a OR b'])
  assert.deepEqual(find(index, alice.account, 'creme BRULEE'), ['crème brûlée'])
  index.close()
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
