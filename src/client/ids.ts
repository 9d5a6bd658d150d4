import { makeUuidV7 } from '../base/ids.ts'
import type { Random } from '../base/random.ts'

export function randomBytes(random: Random, count: number): Uint8Array {
  const bytes = new Uint8Array(count)
  for (let i = 0; i < count; i += 1) bytes[i] = random.below(256)
  return bytes
}

/** A UUIDv7 of the time given. Three draws instead of ten: ids are made for every message. */
export function makeId(nowMs: number, random: Random): Uint8Array {
  for (let i = 0; i < 12; i += 4) {
    const bits = random.below(2 ** 32)
    drawn[i] = bits >>> 24
    drawn[i + 1] = bits >>> 16
    drawn[i + 2] = bits >>> 8
    drawn[i + 3] = bits
  }
  return makeUuidV7(nowMs, drawn)
}

/** Used again for every id. */
const drawn = new Uint8Array(12)
