import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { literalPrefix, matchesGlob } from './glob.ts'

test('a star stands for any run, a question mark for one character, all else for itself', () => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ['', 'anything', true],
    ['al*', 'alice', true],
    ['al*', 'bal', false],
    ['*', '', true],
    ['?', '', false],
    ['a?c', 'abc', true],
    ['*a*b', 'xaxbxb', true],
    ['a.c', 'abc', false],
    ['(a+)+$', 'aaaa', false],
    ['[ab]', 'a', false],
  ]
  for (const [pattern, text, expected] of cases)
    assert.equal(matchesGlob(pattern, text), expected, `${pattern} ${text}`)
})

test('a glob matches what trying every way to match it does', () => {
  const small = (letters: string): fc.Arbitrary<string> =>
    fc.array(fc.constantFrom(...letters), { maxLength: 8 }).map((list) => list.join(''))
  fc.assert(
    fc.property(small('ab*?'), small('ab'), (pattern, text) => {
      const matches = matchesGlob(pattern, text)
      assert.equal(matches, pattern === '' || tryAll(pattern, text))
      if (matches) assert.ok(text.startsWith(literalPrefix(pattern)))
    }),
    { numRuns: 2000 },
  )
})

test('no pattern takes more steps than the lengths multiplied', () => {
  let steps = 0
  const text = new Proxy(Object('a'.repeat(5000)) as object, {
    get(target, key) {
      steps += 1
      return Reflect.get(target, key) as unknown
    },
  }) as unknown as string
  assert.equal(matchesGlob(`${'a*'.repeat(50)}b`, text), false)
  assert.ok(steps < 50 * 5000 * 3, `${steps} steps`)
})

function tryAll(pattern: string, text: string): boolean {
  if (pattern === '') return text === ''
  if (pattern.startsWith('*'))
    return tryAll(pattern.slice(1), text) || (text !== '' && tryAll(pattern, text.slice(1)))
  if (text === '') return false
  return (
    (pattern.startsWith('?') || pattern.charAt(0) === text.charAt(0)) &&
    tryAll(pattern.slice(1), text.slice(1))
  )
}
