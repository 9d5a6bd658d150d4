import { unreachable } from '../base/assert.ts'
import { ByteReader, ByteWriter, MalformedError } from '../base/bytes.ts'
import type { ReplicaId } from '../base/ids.ts'
import type { SnapshotChunk, SnapshotChunkReply } from '../log/transport.ts'
import { decodeMessage, encodeMessage, versionOfMessage } from '../raft/codec.ts'
import type { Message } from '../raft/types.ts'

/*
 * What travels on a peer link: frames of a length (32 bits, big-endian, of what follows), a kind and a body. Numbers of kinds and refusals are never used again for
 * something else. The greeting (`hello`, `welcome`, `refused`) keeps its form in every version, so that any two versions can at least refuse each other in words.
 */

/** The oldest version of the protocol after the greeting that this code speaks; the newest one is that of src/base/version.ts. */
export const oldestVersion = 1
/** Since this version whoever dialled says which process it is (`start`). */
export const startVersion = 2

/** No greeting is longer. */
export const maxGreetingBytes = 4096
/** No frame is longer: room for one proposal of the largest size with all that can accompany it. */
export const maxFrameBytes = 16 * 1024 * 1024

export type Frame =
  /** The first frame of whoever dialled. `address`: where the sender's own peer link listens, so that a replica that does not know it yet can answer. */
  | {
      readonly kind: 'hello'
      readonly oldestVersion: number
      readonly newestVersion: number
      readonly clusterId: Uint8Array
      readonly from: ReplicaId
      readonly to: ReplicaId
      readonly incarnation: number
      readonly address: string
    }
  /** The answer to a hello that is right. */
  | { readonly kind: 'welcome'; readonly version: number; readonly incarnation: number }
  /** Follows the welcome. `number` was drawn when the sender's process began: another one with the same incarnation is another process, with a copy of the folder. */
  | { readonly kind: 'start'; readonly number: number }
  /** The answer to one that is not; may also come later, when the sender wants no more of the receiver. Nothing follows. */
  | { readonly kind: 'refused'; readonly code: RefusalCode; readonly reason: string }
  | { readonly kind: 'message'; readonly message: Message }
  | { readonly kind: 'chunk'; readonly chunk: SnapshotChunk }
  | { readonly kind: 'chunkReply'; readonly reply: SnapshotChunkReply }
  /** A probe. Its number is what the sender's wall clock shows, in milliseconds since 1970: so each replica knows the clocks of the others. */
  | { readonly kind: 'ping'; readonly sentMs: number }
  /** The answer, with the number of the probe. */
  | { readonly kind: 'pong'; readonly sentMs: number }

/** Why one replica wants nothing to do with another. */
export type RefusalCode =
  /** No version of the protocol that both speak. */
  | 'version'
  | 'otherCluster'
  /** The address leads to another replica than the one that was meant. */
  | 'otherReplica'
  /** The other's incarnation is not the newest known: its disk was restored from an old copy, or two processes run as the same replica. */
  | 'incarnation'
  /** The other's log went back behind what it had acknowledged. */
  | 'regressed'
  /** What came is not this protocol, or breaks it. */
  | 'malformed'
  /** The other was removed from the cluster, for good. */
  | 'removed'
  /** A process of the same replica is connected already. It may be one that has just died without a word, so the other may ask again. */
  | 'runsAlready'
  /** The other's certificate is missing, not of the cluster's authority, out of its time, or another replica's. */
  | 'certificate'
  /** The other has committed what this side's leader has not: they went on without each other. */
  | 'diverged'

const frameKinds = {
  hello: 1,
  welcome: 2,
  refused: 3,
  message: 4,
  chunk: 5,
  chunkReply: 6,
  ping: 7,
  pong: 8,
  start: 9,
} as const satisfies Record<Frame['kind'], number>

const refusalCodes = {
  version: 1,
  otherCluster: 2,
  otherReplica: 3,
  incarnation: 4,
  regressed: 5,
  malformed: 6,
  certificate: 7,
  removed: 8,
  runsAlready: 9,
  diverged: 10,
} as const satisfies Record<RefusalCode, number>

const frameKindOf = new Map<number, Frame['kind']>()
for (const kind in frameKinds) frameKindOf.set(frameKinds[kind as Frame['kind']], kind as Frame['kind'])
const refusalCodeOf = new Map<number, RefusalCode>()
for (const code in refusalCodes) refusalCodeOf.set(refusalCodes[code as RefusalCode], code as RefusalCode)

const magic = 'parley-peer'
const lengthBytes = 4

/** The first version that has such a frame: a link carries none that is later than the version that both ends speak. */
export function versionOfFrame(frame: Frame): number {
  if (frame.kind === 'message') return versionOfMessage(frame.message)
  return frame.kind === 'start' ? startVersion : oldestVersion
}

/** The frame with its length, in pieces that follow each other; large bytes inside are shared, not copied. */
export function encodeFrame(frame: Frame): readonly Uint8Array[] {
  const writer = new ByteWriter()
  writer.byte(0).byte(0).byte(0).byte(0).byte(frameKinds[frame.kind])
  encodeBody(writer, frame)
  const length = writer.size - lengthBytes
  const parts = writer.finishParts()
  const [first] = parts
  if (first === undefined || length > maxFrameBytes)
    throw new RangeError(`a frame of ${length} bytes is longer than ${maxFrameBytes}`)
  new DataView(first.buffer, first.byteOffset).setUint32(0, length)
  return parts
}

/**
 * Decodes a frame without its length. Entries, proposals and chunks share the memory of `bytes`.
 *
 * @throws MalformedError
 */
export function decodeFrame(bytes: Uint8Array): Frame {
  const reader = new ByteReader(bytes)
  const kind = frameKindOf.get(reader.byte())
  if (kind === undefined) throw new MalformedError('a frame is of an unknown kind')
  const frame = decodeBody(reader, kind)
  reader.end()
  return frame
}

/** Cuts a stream of bytes into frames. Holds at most one frame that is incomplete. */
export class FrameSplitter {
  private readonly header = new Uint8Array(lengthBytes)
  private headerFilled = 0
  private frame: Uint8Array | null = null
  private frameFilled = 0
  private limit: number

  constructor(maxBytes: number) {
    this.limit = maxBytes
  }

  set maxBytes(limit: number) {
    this.limit = limit
  }

  /**
   * Takes in what came and hands out each frame that is complete (without its length), which may share the memory of `bytes`, until `take` returns false: then the
   * stream has been given up.
   *
   * @throws MalformedError when a frame is announced that is empty or longer than the limit.
   */
  push(bytes: Uint8Array, take: (frame: Uint8Array) => boolean): void {
    let offset = 0
    while (offset < bytes.length) {
      if (this.frame === null) {
        const header = Math.min(lengthBytes - this.headerFilled, bytes.length - offset)
        this.header.set(bytes.subarray(offset, offset + header), this.headerFilled)
        this.headerFilled += header
        offset += header
        if (this.headerFilled < lengthBytes) return
        this.headerFilled = 0
        const length = new DataView(this.header.buffer).getUint32(0)
        if (length === 0 || length > this.limit)
          throw new MalformedError(`a frame of ${length} bytes is announced; the limit is ${this.limit}`)
        if (bytes.length - offset >= length) {
          offset += length
          if (!take(bytes.subarray(offset - length, offset))) return
          continue
        }
        this.frame = new Uint8Array(length)
        this.frameFilled = 0
      }
      const more = Math.min(this.frame.length - this.frameFilled, bytes.length - offset)
      this.frame.set(bytes.subarray(offset, offset + more), this.frameFilled)
      this.frameFilled += more
      offset += more
      if (this.frameFilled < this.frame.length) return
      const complete = this.frame
      this.frame = null
      if (!take(complete)) return
    }
  }
}

function encodeBody(writer: ByteWriter, frame: Frame): void {
  switch (frame.kind) {
    case 'hello':
      writer.string(magic).varint(frame.oldestVersion).varint(frame.newestVersion).bytes(frame.clusterId)
      writer.varint(frame.from).varint(frame.to).varint(frame.incarnation).string(frame.address)
      return
    case 'welcome':
      writer.varint(frame.version).varint(frame.incarnation)
      return
    case 'start':
      writer.varint(frame.number)
      return
    case 'refused':
      writer.byte(refusalCodes[frame.code]).string(frame.reason)
      return
    case 'message':
      encodeMessage(writer, frame.message)
      return
    case 'chunk': {
      const { chunk } = frame
      writer.varint(chunk.from).varint(chunk.to).varint(chunk.term).string(chunk.snapshotId)
      writer.varint(chunk.index).varint(chunk.sizeBytes).bytes(chunk.engineState)
      writer.varint(chunk.offset).bytes(chunk.bytes)
      return
    }
    case 'chunkReply': {
      const { reply } = frame
      writer.varint(reply.from).varint(reply.to).string(reply.snapshotId).varint(reply.nextOffset)
      return
    }
    case 'ping':
    case 'pong':
      writer.varint(frame.sentMs)
      return
    default:
      unreachable(frame)
  }
}

function decodeBody(reader: ByteReader, kind: Frame['kind']): Frame {
  switch (kind) {
    case 'hello':
      if (reader.string() !== magic) throw new MalformedError('this is no peer link')
      return {
        kind,
        oldestVersion: reader.varint(),
        newestVersion: reader.varint(),
        clusterId: reader.bytes(),
        from: reader.varint(),
        to: reader.varint(),
        incarnation: reader.varint(),
        address: reader.string(),
      }
    case 'welcome':
      return { kind, version: reader.varint(), incarnation: reader.varint() }
    case 'start':
      return { kind, number: reader.varint() }
    case 'refused':
      // A later version may know more reasons; their text still tells the operator.
      return { kind, code: refusalCodeOf.get(reader.byte()) ?? 'malformed', reason: reader.string() }
    case 'message':
      return { kind, message: decodeMessage(reader) }
    case 'chunk':
      return {
        kind,
        chunk: {
          from: reader.varint(),
          to: reader.varint(),
          term: reader.varint(),
          snapshotId: reader.string(),
          index: reader.varint(),
          sizeBytes: reader.varint(),
          engineState: reader.bytes(),
          offset: reader.varint(),
          bytes: reader.bytes(),
        },
      }
    case 'chunkReply':
      return {
        kind,
        reply: {
          from: reader.varint(),
          to: reader.varint(),
          snapshotId: reader.string(),
          nextOffset: reader.varint(),
        },
      }
    case 'ping':
    case 'pong':
      return { kind, sentMs: reader.varint() }
    default:
      return unreachable(kind)
  }
}
