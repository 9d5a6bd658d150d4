const hexDigits = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** Lower-case hexadecimal. */
export function toHex(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += hexDigits[byte]
  return text
}

/** The bytes of what {@link toHex} made; whether it is such a text is for the caller to know. */
export function fromHex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
}

/** Whether both hold the same bytes. Not for secrets: the time it takes tells where they differ. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return false
  return true
}

/** The bytes ended before the value did, or hold what no writer writes. */
export class MalformedError extends Error {
  override readonly name = 'MalformedError'
}

/** Bytes from this length on are not copied by {@link ByteWriter.bytes} but kept as a part of their own. */
const largeBytes = 4096

/** Writes numbers and bytes into a buffer that grows. Whole numbers are LEB128 varints up to 2^53-1. */
export class ByteWriter {
  private readonly parts: Uint8Array[] = []
  private partsLength = 0
  private buffer: Uint8Array
  /** Where the part begins that is being written into `buffer`, and where it ends. */
  private start = 0
  private length = 0

  constructor(initialBytes = 256) {
    this.buffer = new Uint8Array(initialBytes)
  }

  byte(value: number): this {
    this.reserve(1)
    this.buffer[this.length] = value
    this.length += 1
    return this
  }

  varint(value: number): this {
    this.reserve(8)
    let rest = value
    while (rest >= 0x80) {
      this.buffer[this.length] = (rest % 0x80) | 0x80
      this.length += 1
      rest = Math.floor(rest / 0x80)
    }
    this.buffer[this.length] = rest
    this.length += 1
    return this
  }

  /** What was written so far, in bytes. */
  get size(): number {
    return this.partsLength + this.length - this.start
  }

  /** A varint of the length, then the bytes. Large ones are kept, not copied: leave them unchanged until the result has been used. */
  bytes(value: Uint8Array): this {
    this.varint(value.length)
    if (value.length >= largeBytes) {
      this.endPart()
      this.addPart(value)
      return this
    }
    this.reserve(value.length)
    this.buffer.set(value, this.length)
    this.length += value.length
    return this
  }

  /** UTF-8, as {@link bytes}. */
  string(value: string): this {
    return this.bytes(new TextEncoder().encode(value))
  }

  /** What was written, in one piece; shares the buffer, so write no more after this. */
  finish(): Uint8Array {
    const parts = this.finishParts()
    if (parts.length === 1 && parts[0] !== undefined) return parts[0]
    const whole = new Uint8Array(this.size)
    let offset = 0
    for (const part of parts) {
      whole.set(part, offset)
      offset += part.length
    }
    return whole
  }

  /** What was written, in pieces that follow each other, without a copy of what is large; write no more after this. */
  finishParts(): readonly Uint8Array[] {
    this.endPart()
    return this.parts
  }

  private endPart(): void {
    if (this.length === this.start) return
    this.addPart(this.buffer.subarray(this.start, this.length))
    this.start = this.length
  }

  private addPart(part: Uint8Array): void {
    this.parts.push(part)
    this.partsLength += part.length
  }

  private reserve(more: number): void {
    if (this.length + more <= this.buffer.length) return
    const open = this.buffer.subarray(this.start, this.length)
    const larger = new Uint8Array(Math.max(open.length * 2, open.length + more, 256))
    larger.set(open)
    this.buffer = larger
    this.start = 0
    this.length = open.length
  }
}

/**
 * Reads what {@link ByteWriter} wrote. Every method throws {@link MalformedError} rather than read past the end.
 */
export class ByteReader {
  private readonly buffer: Uint8Array
  private offset = 0

  constructor(buffer: Uint8Array) {
    this.buffer = buffer
  }

  get remaining(): number {
    return this.buffer.length - this.offset
  }

  byte(): number {
    const value = this.buffer[this.offset]
    if (value === undefined) throw new MalformedError('the bytes end early')
    this.offset += 1
    return value
  }

  varint(): number {
    let value = 0
    let scale = 1
    for (;;) {
      const byte = this.byte()
      value += (byte & 0x7f) * scale
      if (value > Number.MAX_SAFE_INTEGER) throw new MalformedError('a number is above 2^53-1')
      if (byte < 0x80) return value
      scale *= 0x80
      if (scale > 2 ** 49) throw new MalformedError('a number is longer than 8 bytes')
    }
  }

  /** Shares the memory of what is read. */
  bytes(): Uint8Array {
    const length = this.varint()
    if (length > this.remaining)
      throw new MalformedError(`${length} bytes are announced and ${this.remaining} are left`)
    const value = this.buffer.subarray(this.offset, this.offset + length)
    this.offset += length
    return value
  }

  string(): string {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(this.bytes())
    } catch (error) {
      if (error instanceof MalformedError) throw error
      throw new MalformedError('a text is not UTF-8', { cause: error })
    }
  }

  /** Checks that nothing is left. */
  end(): void {
    if (this.remaining !== 0) throw new MalformedError(`${this.remaining} bytes are left over`)
  }
}
