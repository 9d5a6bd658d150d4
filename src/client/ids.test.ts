import assert from 'node:assert/strict'
import { test } from 'node:test'
import { toHex } from '../base/bytes.ts'
import { makeUuidV7, uuidV7TimeMs } from '../base/ids.ts'
import { seededRandom } from '../base/random.ts'
import { makeId } from './ids.ts'
import { secureRandom } from './platform.ts'

test('a UUIDv7 has its time, version and variant where RFC 9562 wants them', () => {
  // The example of RFC 9562, appendix A.6.
  const random = Uint8Array.of(0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f)
  assert.equal(toHex(makeUuidV7(0x017f22e279b0, random)), '017f22e279b07cc398c4dc0c0c07398f')
})

test('ids carry the time that was given, and no two are the same', () => {
  for (const random of [seededRandom(7), secureRandom]) {
    const seen = new Set<string>()
    for (const atMs of [0, 1, 2 ** 32 - 1, 2 ** 32, 1_700_000_000_123, 2 ** 48 - 1])
      for (let i = 0; i < 200; i += 1) {
        const id = makeId(atMs, random)
        assert.equal(uuidV7TimeMs(id), atMs)
        seen.add(toHex(id))
      }
    assert.equal(seen.size, 1200)
  }
})
