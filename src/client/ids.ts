import { makeUuidV7 } from '../base/ids.ts'
import type { Random } from '../base/random.ts'

export function randomBytes(random: Random, count: number): Uint8Array {
  const bytes = new Uint8Array(count)
  for (let i = 0; i < count; i += 1) bytes[i] = random.below(256)
  return bytes
}

/** A UUIDv7 of the time given. Three draws instead of ten: ids are made for every message. */
export function makeId(nowMs: number, random: Random): Uint8Array {
  const bits = new DataView(new ArrayBuffer(12))
  bits.setUint32(0, random.below(2 ** 32))
  bits.setUint32(4, random.below(2 ** 32))
  bits.setUint32(8, random.below(2 ** 32))
  return makeUuidV7(nowMs, new Uint8Array(bits.buffer))
}
