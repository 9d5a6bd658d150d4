import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  clockTime,
  closest,
  durationWords,
  parseDuration,
  hang,
  oneRow,
  plural,
  printable,
  rowsOf,
  safeJson,
  table,
  tableWithin,
  widthOf,
  wrapWords,
} from './text.ts'

const harmful = /[\p{Cc}\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069\u2028\u2029]/u

/** Mostly where the harmful ones are. */
const anything = fc
  .oneof(
    fc.integer({ min: 0, max: 0x200 }),
    fc.integer({ min: 0x600, max: 0x700 }),
    fc.integer({ min: 0x2000, max: 0x2080 }),
  )
  .map((code) => String.fromCodePoint(code))

test('nothing that others write can move the cursor, change colors or turn text around', () => {
  fc.assert(
    fc.property(fc.string({ unit: anything }), (text) => {
      assert.doesNotMatch(printable(text), harmful)
      assert.doesNotMatch(printable(text, true).replaceAll('\n', ''), harmful)
      const json = safeJson({ text })
      assert.doesNotMatch(json, harmful)
      assert.deepEqual(JSON.parse(json), { text })
    }),
  )
  assert.equal(printable('\u001B[2Jgone\u0007'), '␛[2Jgone␇')
  assert.equal(printable('\u009B31mred'), '\\u009b31mred')
  assert.equal(printable('two\nlines'), 'two⏎lines')
  assert.equal(printable('two\nlines', true), 'two\nlines')
  assert.equal(printable('naïve 你好 👍🏽 עברית'), 'naïve 你好 👍🏽 עברית')
})

test('widths are those of a terminal', () => {
  assert.equal(widthOf('abc'), 3)
  assert.equal(widthOf('你好'), 4)
  assert.equal(widthOf('👍🏽'), 2)
  assert.equal(widthOf('e\u0301'), 1)
  assert.equal(widthOf('\u001B[1mbold\u001B[22m'), 4)
})

test('a text takes as many rows as a terminal needs for it, and its beginning takes one', () => {
  assert.equal(rowsOf('', 4), 1)
  assert.equal(rowsOf('abcd', 4), 1)
  assert.equal(rowsOf('abcde\n你好', 4), 3)
  assert.equal(rowsOf('abcde\nf', Infinity), 2)
  assert.equal(oneRow('abcd', 4), 'abcd')
  assert.equal(oneRow('abcde', 4), 'abc…')
  assert.equal(oneRow('你好你', 4), '你…')
})

test('columns line up whatever stands in them', () => {
  assert.deepEqual(
    table([
      ['a', 'b', 'c'],
      ['你好', '\u001B[31mx\u001B[39m', 'd'],
      ['long one', '', ''],
    ]),
    ['a         b  c', '你好      \u001B[31mx\u001B[39m  d', 'long one'],
  )
})

test('what was mistyped is recognised, what is something else is not', () => {
  const verbs = ['send', 'search', 'status', 'help', 'quit', 'delete-account']
  assert.equal(closest('sned', verbs), 'send')
  assert.equal(closest('hepl', verbs), 'help')
  assert.equal(closest('statsu', verbs), 'status')
  assert.equal(closest('delete-acount', verbs), 'delete-account')
  assert.equal(closest('xyzzy', verbs), null)
  assert.equal(closest('foo', ['who', 'join', 'rooms']), null)
})

test('counts and times read well', () => {
  assert.equal(plural(1, 'message'), '1 message')
  assert.equal(plural(0, 'message'), '0 messages')
  const at = new Date(2026, 0, 31, 14, 3).getTime()
  assert.equal(clockTime(at, at + 1000), '14:03')
  assert.equal(clockTime(at, at + 86_400_000), '2026-01-31 14:03')
})

test('a table does without some of its columns rather than be wider than the terminal', () => {
  const rows = [
    ['id', 'role', 'address'],
    ['r1', 'leader', '127.0.0.1:7400'],
  ]
  assert.deepEqual(tableWithin(80, rows, [2, 1]), ['id  role    address', 'r1  leader  127.0.0.1:7400'])
  assert.deepEqual(tableWithin(20, rows, [2, 1]), ['id  role', 'r1  leader'])
  assert.deepEqual(tableWithin(5, rows, [2, 1]), ['id', 'r1'])
  assert.deepEqual(tableWithin(1, rows, []), table(rows), 'what cannot be left out stays')
})

test('a duration is said in the largest unit that says it exactly', () => {
  const said = ['30d', '1d', '36h', '90m', '61s', '120'].map((text) => durationWords(parseDuration(text)))
  assert.deepEqual(said, ['30 days', '1 day', '36 hours', '90 minutes', '61 seconds', '2 minutes'])
})

test('lines are broken between words; what is longer than a line stays whole, so that it can be copied', () => {
  assert.deepEqual(wrapWords('one two  three', 20), ['one two  three'])
  assert.deepEqual(wrapWords('one two  three', 9), ['one two', 'three'])
  assert.deepEqual(wrapWords('  indented text', 12), ['  indented', 'text'])
  assert.deepEqual(wrapWords('see https://example.org/long now', 12), [
    'see',
    'https://example.org/long',
    'now',
  ])
  assert.deepEqual(wrapWords('\u001B[2mdim words\u001B[22m', 8), ['\u001B[2mdim', 'words\u001B[22m'])
  // No blanks, and no line begins with a mark or ends with an opening bracket.
  assert.deepEqual(wrapWords('你好世界。再见', 8), ['你好世', '界。再见'])
  assert.deepEqual(wrapWords('ok你好「世界」', 8), ['ok你好', '「世界」'])
})

test('text hangs under its beginning, or is indented a little where that leaves it too little room', () => {
  assert.equal(hang('ann: ', 'one two three\nfour', 12), 'ann: one two\n     three\n     four')
  assert.equal(hang('somebody: ', 'one two three', 14), 'somebody: one\n    two three')
  assert.equal(hang('somebody: ', 'onetwothree', 15), 'somebody: \n    onetwothree')
  assert.equal(hang('ann: ', 'https://example.org/', 12), 'ann: https://example.org/')
  assert.equal(hang('ann: ', 'one two three\nfour', Infinity), 'ann: one two three\n    four')
})

test('whatever is broken into lines is all there, and no line is too long but for a word that is', () => {
  const unit = fc.constantFrom(
    'a',
    'longer',
    ' ',
    '  ',
    '你',
    '。',
    '「',
    '👍🏽',
    'e\u0301',
    '\u001B[2m',
    '\u001B[22m',
  )
  fc.assert(
    fc.property(
      fc.array(unit, { maxLength: 60 }),
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 40 }),
      (units, columns, first) => {
        const text = units.join('')
        const lines = wrapWords(text, columns, first)
        assert.equal(lines.join('').replaceAll(' ', ''), text.replaceAll(' ', ''))
        for (const [i, line] of lines.entries())
          if (/[^ ] +[^ ]/.test(line))
            assert.ok(widthOf(line) <= (i === 0 ? first : columns), JSON.stringify(line))
      },
    ),
  )
})
