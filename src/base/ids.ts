/** A replica's number, 1 to 2^31-1, never used again after it was removed. People see it as `r1`, `r2`, … */
export type ReplicaId = number

/** `r2` for 2. */
export function replicaName(id: ReplicaId): string {
  return `r${id}`
}

/** 2 for `r2`; null when `name` is not a replica's name. */
export function parseReplicaName(name: string): ReplicaId | null {
  const match = /^r([1-9][0-9]{0,8})$/.exec(name)
  return match === null ? null : Number(match[1])
}

/**
 * A UUIDv7 (RFC 9562 §5.7) as 16 bytes.
 *
 * @param nowMs milliseconds since 1970, below 2^48.
 * @param random at least 10 random bytes; 74 bits of them are used.
 */
export function makeUuidV7(nowMs: number, random: Uint8Array): Uint8Array {
  // Byte by byte: ids are made for every message, and a DataView would cost more than all the rest.
  const id = new Uint8Array(16)
  const high = Math.floor(nowMs / 2 ** 32)
  id[0] = high >>> 8
  id[1] = high
  id[2] = nowMs >>> 24
  id[3] = nowMs >>> 16
  id[4] = nowMs >>> 8
  id[5] = nowMs
  for (let i = 6; i < 16; i += 1) id[i] = random[i - 6] ?? 0
  id[6] = 0x70 | ((id[6] ?? 0) & 0x0f)
  id[8] = 0x80 | ((id[8] ?? 0) & 0x3f)
  return id
}

/** The time inside a UUIDv7 in milliseconds since 1970; null when `id` is not a UUIDv7 of 16 bytes. */
export function uuidV7TimeMs(id: Uint8Array): number | null {
  if (id.length !== 16) return null
  // Byte by byte: this is done several times for each message, and a DataView costs ten times as much.
  if (at(id, 6) >> 4 !== 7 || at(id, 8) >> 6 !== 2) return null
  const low = at(id, 2) * 2 ** 24 + at(id, 3) * 2 ** 16 + at(id, 4) * 2 ** 8 + at(id, 5)
  return (at(id, 0) * 2 ** 8 + at(id, 1)) * 2 ** 32 + low
}

function at(bytes: Uint8Array, index: number): number {
  return bytes[index] ?? 0
}
