import { crc32 } from 'node:zlib'
import { ByteReader, ByteWriter, MalformedError } from '../base/bytes.ts'
import { decodeConfiguration, decodeEntry, encodeConfiguration, encodeEntry } from '../raft/codec.ts'
import type { Entry, HardState, SnapshotPoint } from '../raft/types.ts'

/** What the log consists of. */
export type LogRecord =
  | { readonly kind: 'entry'; readonly entry: Entry }
  | { readonly kind: 'hardState'; readonly hardState: HardState }
  /**
   * The first record of each segment, so that older segments can be dropped: the log is what the earlier segments hold up to `base`, then what follows here. `reset`: what
   * the earlier segments hold counts no more, `base` stands for a snapshot.
   */
  | {
      readonly kind: 'segment'
      readonly reset: boolean
      readonly base: SnapshotPoint
      readonly hardState: HardState
    }

const kinds = { entry: 1, hardState: 2, segment: 3 } as const satisfies Record<LogRecord['kind'], number>

/** CRC32 of all that follows, length of what follows the kind, kind. */
const recordHeadBytes = 9

/** A record as it goes to the disk: pieces that follow each other. */
export interface EncodedRecord {
  readonly parts: readonly Uint8Array[]
  readonly length: number
}

export function encodeRecord(record: LogRecord): EncodedRecord {
  const writer = new ByteWriter(256)
  switch (record.kind) {
    case 'entry':
      encodeEntry(writer, record.entry)
      break
    case 'hardState':
      writer.varint(record.hardState.term).varint(record.hardState.vote)
      break
    case 'segment':
      writer.byte(record.reset ? 1 : 0)
      writer.varint(record.base.index).varint(record.base.term)
      encodeConfiguration(writer, record.base.configuration)
      writer.varint(record.hardState.term).varint(record.hardState.vote)
      break
    default:
      record satisfies never
  }
  const head = Buffer.allocUnsafe(recordHeadBytes)
  head.writeUInt32LE(writer.size, 4)
  head[8] = kinds[record.kind]
  let crc = crc32(head.subarray(4))
  const length = recordHeadBytes + writer.size
  const content = writer.finishParts()
  for (const part of content) crc = crc32(part, crc)
  head.writeUInt32LE(crc, 0)
  return { parts: [head, ...content], length }
}

/** Where the record that begins at `offset` ends; null when it is not as it was written. */
export function recordEnd(bytes: Buffer, offset: number, limit: number): number | null {
  if (offset + recordHeadBytes > limit) return null
  const end = offset + recordHeadBytes + bytes.readUInt32LE(offset + 4)
  if (end > limit) return null
  return crc32(bytes.subarray(offset + 4, end)) === bytes.readUInt32LE(offset) ? end : null
}

/**
 * A record that {@link recordEnd} found to be whole. Entries share its memory.
 *
 * @throws MalformedError when a newer version, or nobody, writes such records.
 */
export function decodeRecord(bytes: Buffer, offset: number, end: number): LogRecord {
  const reader = new ByteReader(bytes.subarray(offset + recordHeadBytes, end))
  const record = decodeContent(bytes[offset + 8], reader)
  reader.end()
  return record
}

function decodeContent(kind: number | undefined, reader: ByteReader): LogRecord {
  switch (kind) {
    case kinds.entry:
      return { kind: 'entry', entry: decodeEntry(reader) }
    case kinds.hardState:
      return { kind: 'hardState', hardState: decodeHardState(reader) }
    case kinds.segment:
      return {
        kind: 'segment',
        reset: reader.byte() === 1,
        base: {
          index: reader.varint(),
          term: reader.varint(),
          configuration: decodeConfiguration(reader),
        },
        hardState: decodeHardState(reader),
      }
    default:
      throw new MalformedError(`a record of the log is of kind ${kind}, which this version does not know`)
  }
}

function decodeHardState(reader: ByteReader): HardState {
  return { term: reader.varint(), vote: reader.varint() }
}

/** Magic with the format's version, CRC32 of what follows, batch number (6 bytes), 2 zeros, bytes of records, number of records. */
export const batchHeadBytes = 24

const magic = 0x31574c50 // "PLW1"
const magicOfAnyVersion = 0x00574c50

export interface BatchHead {
  readonly sequence: number
  readonly recordBytes: number
  readonly records: number
}

export function encodeBatchHead(head: BatchHead): Uint8Array {
  const bytes = Buffer.alloc(batchHeadBytes)
  bytes.writeUInt32LE(magic, 0)
  bytes.writeUIntLE(head.sequence, 8, 6)
  bytes.writeUInt32LE(head.recordBytes, 16)
  bytes.writeUInt32LE(head.records, 20)
  bytes.writeUInt32LE(checksumOfHead(bytes), 4)
  return bytes
}

/** Null when it is not as it was written. */
export function decodeBatchHead(bytes: Buffer): BatchHead | 'otherVersion' | null {
  const found = bytes.readUInt32LE(0)
  if (checksumOfHead(bytes) !== bytes.readUInt32LE(4)) return null
  if (found !== magic) return (found & 0xffffff) === magicOfAnyVersion ? 'otherVersion' : null
  return {
    sequence: bytes.readUIntLE(8, 6),
    recordBytes: bytes.readUInt32LE(16),
    records: bytes.readUInt32LE(20),
  }
}

function checksumOfHead(bytes: Buffer): number {
  return crc32(bytes.subarray(8, batchHeadBytes), crc32(bytes.subarray(0, 4)))
}
