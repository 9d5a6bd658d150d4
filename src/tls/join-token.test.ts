import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { toHex } from '../base/bytes.ts'
import { formatJoinToken, parseJoinToken } from './join-token.ts'

const bytes = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length })
const hex = (length: number): fc.Arbitrary<string> => bytes(length).map(toHex)
const token = fc
  .record({
    clusterId: hex(16),
    authority: hex(32),
    secret: bytes(16),
    others: fc.array(fc.tuple(fc.domain(), fc.integer({ min: 1, max: 65_535 }), hex(32), fc.boolean()), {
      minLength: 1,
      maxLength: 5,
    }),
  })
  .map(({ others, ...rest }) => ({
    ...rest,
    addresses: others.map(
      ([host, port, pin, own]) => `parleys://${host}:${port}#sha256=${own ? rest.authority : pin}`,
    ),
  }))

test('a token is read as it was written, and is one word that is no option', () => {
  fc.assert(
    fc.property(token, (given) => {
      const text = formatJoinToken(given)
      assert.match(text, /^[A-Za-z0-9_][A-Za-z0-9_-]+$/)
      assert.deepEqual(parseJoinToken(text), given)
    }),
  )
})

test('a token that was cut short, mistyped or made up is recognised', () => {
  fc.assert(
    fc.property(token, fc.nat(), (given, at) => {
      const text = formatJoinToken(given)
      assert.equal(parseJoinToken(text.slice(0, at % text.length)), null)
      const place = at % text.length
      const other = text[place] === 'A' ? 'Q' : 'A'
      const changed = text.slice(0, place) + other + text.slice(place + 1)
      assert.ok(parseJoinToken(changed) === null || place >= text.length - 1)
    }),
  )
  for (const nonsense of ['', 'hello', 'parley', '!']) assert.equal(parseJoinToken(nonsense), null)
})
