import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Conversation, ConversationKind, Message } from '../../gen/parley/v1/model.ts'
import { linkParts, parseTarget, placeText, senderText } from './words.ts'

test('only http and https addresses become links', () => {
  assert.deepEqual(linkParts('see https://example.org/a?b=1, or javascript:alert(1)'), [
    { kind: 'text', text: 'see ' },
    { kind: 'link', url: 'https://example.org/a?b=1' },
    { kind: 'text', text: ', or javascript:alert(1)' },
  ])
  assert.deepEqual(linkParts('data:text/html,<b>x</b>'), [{ kind: 'text', text: 'data:text/html,<b>x</b>' }])
  assert.deepEqual(linkParts('http://'), [{ kind: 'text', text: 'http://' }])
})

test('punctuation that ends a sentence is not part of the link', () => {
  const urls = (text: string) => linkParts(text).flatMap((part) => (part.kind === 'link' ? [part.url] : []))
  assert.deepEqual(urls('(https://example.org/x).'), ['https://example.org/x'])
  assert.deepEqual(urls('https://example.org/a_(b)'), ['https://example.org/a_(b)'])
  assert.deepEqual(urls('https://a.example! https://b.example'), ['https://a.example', 'https://b.example'])
})

test('the parts of a text are the whole text, whatever it is', () => {
  const pieces = fc.constantFrom(
    'http://',
    'https://',
    'x.org/',
    '(',
    ')',
    ' ',
    '<script>',
    '"',
    '.',
    '\n',
    'é',
    '😀',
  )
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 20 }), (parts) => {
      const text = parts.join('')
      const joined = linkParts(text).map((part) => (part.kind === 'text' ? part.text : part.url))
      assert.equal(joined.join(''), text)
    }),
  )
})

test('a recipient is the name of an account, or # and the name of a room', () => {
  assert.deepEqual(parseTarget(' bob '), { target: { $case: 'account', value: 'bob' } })
  assert.deepEqual(parseTarget('#all-hands'), { target: { $case: 'room', value: 'all-hands' } })
  for (const wrong of ['', '#', 'two words', 'é', 'x'.repeat(51), '##x'])
    assert.equal(parseTarget(wrong), null, wrong)
})

test('who said something where names nobody twice', () => {
  const me = 1
  const direct = Conversation.create({ id: 7, kind: ConversationKind.DIRECT, name: 'yu' })
  const room = Conversation.create({ id: 8, kind: ConversationKind.ROOM, name: 'dev' })
  const theirs = Message.create({ sender: 2, senderName: 'yu' })
  const mine = Message.create({ sender: me, senderName: 'ann' })
  const text = (message: Message, conversation?: Conversation) =>
    `${senderText(message, me)} ${placeText(message, conversation, me)}`.trim()
  assert.equal(text(theirs, direct), 'yu')
  assert.equal(text(mine, direct), 'You to yu')
  assert.equal(text(theirs, room), 'yu in #dev')
  assert.equal(text(mine, room), 'You in #dev')
  assert.equal(text(theirs), 'yu')
})
