import { assert } from '../base/assert.ts'

/*
 * How bytes lie in a segment of the log.
 *
 * The log is written in batches: one write and one flush each, and no batch is written before the one before it was flushed. A power cut during a write leaves any part of
 * its sectors on the disk. To tell such a torn batch from a damaged one, every sector of 512 bytes carries a frame: a guard byte, the number of its batch, 504 bytes of
 * content, and another guard byte. Segments are filled with zeros before they are used, and no sector is written twice with different content. So
 *
 * - a sector whose first or last byte is zero was not written, or not to its end;
 * - a sector of a higher batch number proves that all lower batches were flushed;
 * - a batch whose sectors are all there, but whose checksums are wrong, was written and then damaged.
 *
 * Content can never look like a frame, whatever users write.
 */

export const sectorBytes = 512

/** Content of one sector. */
export const contentBytes = 504

const contentStart = 7
const startGuard = 0xb5
const endGuard = 0x5a

/** Sectors that so many bytes of content take. */
export function sectorsFor(bytes: number): number {
  return Math.ceil(bytes / contentBytes)
}

/** Puts content into the sectors of one batch. The memory is used again for the next batch. */
export class SectorWriter {
  private buffer = Buffer.alloc(64 * 1024)
  private sequence = 0
  private contentLength = 0

  begin(sequence: number): void {
    // Memory of an exceptionally large batch is given back.
    if (this.buffer.length > 8 * 1024 * 1024) this.buffer = Buffer.alloc(64 * 1024)
    this.sequence = sequence
    this.contentLength = 0
  }

  get length(): number {
    return this.contentLength
  }

  put(bytes: Uint8Array): void {
    this.reserve(this.contentLength + bytes.length)
    let from = 0
    while (from < bytes.length) {
      const within = this.contentLength % contentBytes
      const at = Math.floor(this.contentLength / contentBytes) * sectorBytes + contentStart + within
      const part = Math.min(contentBytes - within, bytes.length - from)
      this.buffer.set(part === bytes.length ? bytes : bytes.subarray(from, from + part), at)
      from += part
      this.contentLength += part
    }
  }

  /** Puts `header` where content began; shares the memory of this writer. */
  finish(header: Uint8Array): Uint8Array {
    assert(header.length <= contentBytes, 'a header fits into the first sector')
    this.buffer.set(header, contentStart)
    const sectors = sectorsFor(this.contentLength)
    const end = sectors * sectorBytes
    const within = this.contentLength % contentBytes
    if (within !== 0) this.buffer.fill(0, end - sectorBytes + contentStart + within, end)
    for (let at = 0; at < end; at += sectorBytes) {
      this.buffer[at] = startGuard
      this.buffer.writeUIntLE(this.sequence, at + 1, 6)
      this.buffer[at + sectorBytes - 1] = endGuard
    }
    return this.buffer.subarray(0, end)
  }

  private reserve(content: number): void {
    const needed = sectorsFor(content) * sectorBytes
    if (needed <= this.buffer.length) return
    const larger = Buffer.alloc(Math.max(needed, this.buffer.length * 2))
    larger.set(this.buffer)
    this.buffer = larger
  }
}

/** The sectors of a segment as they are on the disk. */
export class Sectors {
  readonly count: number
  private readonly bytes: Buffer

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    this.count = Math.floor(bytes.length / sectorBytes)
  }

  raw(from: number, count: number): Uint8Array {
    return this.bytes.subarray(from * sectorBytes, (from + count) * sectorBytes)
  }

  isZero(sector: number): boolean {
    const at = sector * sectorBytes
    return zeros.compare(this.bytes, at, at + sectorBytes) === 0
  }

  /** Written from its first byte to its last, perhaps damaged since. */
  isWhole(sector: number): boolean {
    const at = sector * sectorBytes
    return this.bytes[at] !== 0 && this.bytes[at + sectorBytes - 1] !== 0
  }

  sequence(sector: number): number {
    return this.bytes.readUIntLE(sector * sectorBytes + 1, 6)
  }

  /** The frame is as it was written for this batch. */
  isFramed(sector: number, sequence: number): boolean {
    const at = sector * sectorBytes
    return (
      this.bytes[at] === startGuard &&
      this.bytes[at + sectorBytes - 1] === endGuard &&
      this.bytes.readUIntLE(at + 1, 6) === sequence
    )
  }

  /** The content of neighbouring sectors in one piece: a copy. */
  content(from: number, count: number): Buffer {
    const content = Buffer.allocUnsafeSlow(count * contentBytes)
    for (let i = 0; i < count; i += 1) {
      const at = (from + i) * sectorBytes + contentStart
      this.bytes.copy(content, i * contentBytes, at, at + contentBytes)
    }
    return content
  }
}

const zeros = Buffer.alloc(sectorBytes)
