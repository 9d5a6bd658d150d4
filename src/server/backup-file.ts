import { createHash, type Hash } from 'node:crypto'
import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'

import type { FaultModel } from '../raft/types.ts'
import { flushFolder } from '../storage/state-jobs.ts'
import { ServerError } from './problems.ts'

/*
 * A backup is one file: eight bytes that say what it is, the format and the length of the header (32 bits each, big-endian), the header as JSON, its CRC32, and the state as
 * SQLite keeps it. The header has the SHA-256 of the state.
 */

const magic = Buffer.from('PARLEYBK')
const format = 1
const prefixBytes = magic.length + 8
const maxHeaderBytes = 64 * 1024
const pieceBytes = 1024 * 1024

/** What is in a backup, and where it comes from. */
export interface BackupHeader {
  /** Of the cluster that it was made of: 32 hexadecimal digits. */
  readonly clusterId: string
  readonly faultModel: FaultModel
  /** Of the newest log entry in it. */
  readonly index: number
  /** When it was made, as ISO 8601. */
  readonly at: string
  /** Of the Parley that made it. */
  readonly version: string
  readonly sizeBytes: number
  /** Of the state, in hexadecimal. */
  readonly sha256: string
}

/** Writes a backup under a temporary name; what is under the final name is whole. */
export class BackupWriter {
  private readonly path: string
  private readonly temporary: string
  private readonly descriptor: number
  private header: BackupHeader | null = null
  private hash: Hash = createHash('sha256')
  private written = 0
  private isOpen = true

  /** @throws ServerError when there is such a file already, or no such folder. */
  constructor(path: string) {
    if (existsSync(path))
      throw new ServerError(`${path} exists already: choose another name, or remove it first.`)
    this.path = path
    this.temporary = `${path}.part-${process.pid}`
    // There are hashes of passwords in it.
    this.descriptor = open(this.temporary, 'w', `There is no folder ${dirname(path)}: make it first.`)
  }

  /** How much of the state is written. */
  get stateBytes(): number {
    return this.written
  }

  /** Begins, or begins anew: what was written is dropped. */
  begin(header: BackupHeader): void {
    const json = Buffer.from(JSON.stringify(header))
    const prefix = Buffer.alloc(prefixBytes)
    magic.copy(prefix)
    prefix.writeUInt32BE(format, magic.length)
    prefix.writeUInt32BE(json.length, magic.length + 4)
    const check = Buffer.alloc(4)
    check.writeUInt32BE(crc32(json))
    ftruncateSync(this.descriptor, 0)
    this.header = header
    this.hash = createHash('sha256')
    this.written = 0
    this.put(Buffer.concat([prefix, json, check]), 0)
  }

  write(bytes: Uint8Array): void {
    this.put(bytes, this.stateOffset() + this.written)
    this.hash.update(bytes)
    this.written += bytes.length
  }

  /** Checks that all has come, makes it durable and gives it its name. */
  finish(): void {
    const { header, path, temporary } = this
    if (header === null || this.written !== header.sizeBytes || this.hash.digest('hex') !== header.sha256)
      throw new ServerError('What came is not what was to be backed up: its checksum is wrong. Try again.')
    fsyncSync(this.descriptor)
    this.close()
    renameSync(temporary, path)
    flushFolder(dirname(path))
  }

  /** Removes what was written. */
  abandon(): void {
    this.close()
    rmSync(this.temporary, { force: true })
  }

  private close(): void {
    if (this.isOpen) closeSync(this.descriptor)
    this.isOpen = false
  }

  private stateOffset(): number {
    return this.header === null ? 0 : prefixBytes + Buffer.byteLength(JSON.stringify(this.header)) + 4
  }

  private put(bytes: Uint8Array, offset: number): void {
    let done = 0
    while (done < bytes.length)
      done += writeSync(this.descriptor, bytes, done, bytes.length - done, offset + done)
  }
}

/** A backup that is there. */
export interface OpenBackup {
  readonly header: BackupHeader
  /** Of the whole file. */
  readonly fileBytes: number
  /**
   * Writes the state into a new file and checks it on the way.
   *
   * @param onProgress told the bytes of the state that are done.
   * @throws ServerError when it is damaged: then the new file is of no use.
   */
  extract(to: string, onProgress: (doneBytes: number) => void): Promise<void>
  close(): void
}

/** @throws ServerError when it is none, is damaged, or was made by a newer Parley. */
export function openBackup(path: string): OpenBackup {
  const descriptor = open(path, 'r', `There is no file ${path}.`)
  try {
    const { header, stateOffset } = readHeader(descriptor, path)
    const fileBytes = statSync(path).size
    if (fileBytes !== stateOffset + header.sizeBytes)
      throw new ServerError(
        `${path} is damaged: it should have ${stateOffset + header.sizeBytes} bytes and has ${fileBytes}. Use another backup.`,
      )
    return {
      header,
      fileBytes,
      extract: (to, onProgress) => extract(descriptor, path, header, stateOffset, to, onProgress),
      close: () => closeSync(descriptor),
    }
  } catch (error) {
    closeSync(descriptor)
    throw error
  }
}

/** @param absent what is said when it is not there. Whatever else is wrong the system says. */
function open(path: string, flags: 'r' | 'w', absent: string): number {
  try {
    return openSync(path, flags, 0o600)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    throw new ServerError(absent, { cause: error })
  }
}

function readHeader(
  descriptor: number,
  path: string,
): { readonly header: BackupHeader; readonly stateOffset: number } {
  const prefix = readExactly(descriptor, 0, prefixBytes)
  if (prefix === null || !prefix.subarray(0, magic.length).equals(magic))
    throw new ServerError(`${path} is no backup of Parley.`)
  const found = prefix.readUInt32BE(magic.length)
  if (found > format)
    throw new ServerError(
      `${path} was made by a newer Parley (format ${found}; this one knows ${format}): restore it with that one.`,
    )
  const length = prefix.readUInt32BE(magic.length + 4)
  const rest = length > maxHeaderBytes ? null : readExactly(descriptor, prefixBytes, length + 4)
  const json = rest?.subarray(0, length)
  const header =
    json !== undefined && rest?.readUInt32BE(length) === crc32(json) ? parse(json.toString()) : null
  if (header === null) throw new ServerError(`${path} is damaged: its header is wrong. Use another backup.`)
  return { header, stateOffset: prefixBytes + length + 4 }
}

async function extract(
  descriptor: number,
  path: string,
  header: BackupHeader,
  stateOffset: number,
  to: string,
  onProgress: (doneBytes: number) => void,
): Promise<void> {
  const hash = createHash('sha256')
  const piece = Buffer.allocUnsafeSlow(pieceBytes)
  const target = openSync(to, 'wx', 0o600)
  try {
    for (let done = 0; done < header.sizeBytes;) {
      const count = readSync(descriptor, piece, 0, piece.length, stateOffset + done)
      if (count === 0) break
      const bytes = piece.subarray(0, count)
      hash.update(bytes)
      for (let written = 0; written < count;) written += writeSync(target, bytes, written)
      done += count
      onProgress(done)
      // Ctrl-C is heard in between.
      await new Promise((resolve) => setImmediate(resolve))
    }
    if (hash.digest('hex') !== header.sha256)
      throw new ServerError(`${path} is damaged: its checksum is wrong. Use another backup.`)
    fsyncSync(target)
  } finally {
    closeSync(target)
  }
}

function readExactly(descriptor: number, offset: number, length: number): Buffer | null {
  const bytes = Buffer.alloc(length)
  return readSync(descriptor, bytes, 0, length, offset) === length ? bytes : null
}

function parse(json: string): BackupHeader | null {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch {
    return null
  }
  return isHeader(value) ? value : null
}

function isHeader(value: unknown): value is BackupHeader {
  if (typeof value !== 'object' || value === null) return false
  const fields = new Map<string, unknown>(Object.entries(value))
  return (
    /^[0-9a-f]{32}$/.test(String(fields.get('clusterId'))) &&
    /^[0-9a-f]{64}$/.test(String(fields.get('sha256'))) &&
    ['index', 'sizeBytes'].every((name) => Number.isSafeInteger(fields.get(name))) &&
    ['at', 'version', 'faultModel'].every((name) => typeof fields.get(name) === 'string')
  )
}
