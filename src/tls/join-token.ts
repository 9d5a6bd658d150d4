import { createHash } from 'node:crypto'
import { ByteReader, ByteWriter, equalBytes, MalformedError, toHex } from '../base/bytes.ts'
import { formatServerAddress, parseServerAddress } from '../client/server-address.ts'

/** Everything that a new replica needs to be let in, in one word that can be copied. */
export interface JoinToken {
  /** 32 hexadecimal digits. */
  readonly clusterId: string
  /** SHA-256 of the certificate of the cluster's authority, 64 hexadecimal digits. */
  readonly authority: string
  /** Whoever knows it may join; the cluster keeps its hash only. */
  readonly secret: Uint8Array
  /** Of replicas that can let it in, as clients know them: TLS, with a pin. */
  readonly addresses: readonly string[]
}

export const secretBytes = 16

const version = 1
const checksumBytes = 4

/** The token as a word of letters, digits, `_` and `-`; it never begins with `-`. */
export function formatJoinToken({ clusterId, authority, secret, addresses }: JoinToken): string {
  const writer = new ByteWriter()
    .byte(version)
    .bytes(Buffer.from(clusterId, 'hex'))
    .bytes(Buffer.from(authority, 'hex'))
    .bytes(secret)
    .varint(addresses.length)
  for (const address of addresses) {
    const parsed = parseServerAddress(address)
    if (parsed === null || parsed.pin === null) throw new Error(`${address} does not pin an authority`)
    // Most often the authority of the cluster is what is pinned.
    writer.string(parsed.host).bytes(Buffer.from(parsed.pin === authority ? '' : parsed.pin, 'hex'))
  }
  const content = writer.finish()
  return Buffer.concat([content, checksumOf(content)]).toString('base64url')
}

/** What {@link formatJoinToken} wrote; null when a part of it is missing or changed. */
export function parseJoinToken(text: string): JoinToken | null {
  if (!/^[A-Za-z0-9_-]+$/.test(text)) return null
  const bytes = Buffer.from(text, 'base64url')
  const content = bytes.subarray(0, -checksumBytes)
  if (!equalBytes(checksumOf(content), bytes.subarray(-checksumBytes))) return null
  try {
    return read(new ByteReader(content))
  } catch (error) {
    if (error instanceof MalformedError) return null
    throw error
  }
}

function read(reader: ByteReader): JoinToken | null {
  if (reader.byte() !== version) return null
  const clusterId = toHex(reader.bytes())
  const authority = toHex(reader.bytes())
  const secret = Uint8Array.from(reader.bytes())
  const addresses = Array.from({ length: Math.min(reader.varint(), 100) }, () => {
    const host = reader.string()
    const pin = toHex(reader.bytes())
    return formatServerAddress({ host, secure: true, pin: pin === '' ? authority : pin })
  })
  reader.end()
  const isWhole = clusterId.length === 32 && authority.length === 64 && addresses.length > 0
  return isWhole ? { clusterId, authority, secret, addresses } : null
}

function checksumOf(content: Uint8Array): Uint8Array {
  return createHash('sha256').update(content).digest().subarray(0, checksumBytes)
}
