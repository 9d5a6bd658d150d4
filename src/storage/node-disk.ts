import {
  close,
  closeSync,
  constants,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  fsync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  open,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rename,
  statfsSync,
  unlink,
  write,
  writeSync,
  writev,
} from 'node:fs'
import { dirname, join } from 'node:path'
import type { Disk, DiskCallback, DiskFile } from './disk.ts'

/** The file system below `folder`. Writes and flushes run on the thread pool. */
export function createNodeDisk(folder: string): Disk {
  const full = (path: string): string => join(folder, path)
  return {
    list: (path) => readdirSync(full(path)).sort(),
    readFile: (path) => readFileSync(full(path)),
    makeFolder(path) {
      mkdirSync(full(path), { recursive: true, mode: 0o700 })
    },
    open: (path, create) => openFile(path, full(path), create),
    rename(from, to, done) {
      rename(full(from), full(to), (error) => {
        if (error !== null) done(error)
        else flushFolder(dirname(full(to)), done)
      })
    },
    remove(path, done) {
      unlink(full(path), done)
    },
    flushFolder(path, done) {
      flushFolder(full(path), done)
    },
    flushFolderNow(path) {
      const descriptor = openSync(full(path), 'r')
      try {
        fsyncSync(descriptor)
      } finally {
        closeSync(descriptor)
      }
    },
    freeBytes() {
      const { bavail, bsize } = statfsSync(folder)
      return bavail * bsize
    },
  }
}

/**
 * Whether a write can flush what it writes: one trip to the thread pool instead of two, which saves a quarter of the CPU of a flush. On Linux that is a write and an fdatasync
 * of what was written, with the disk's cache flushed; macOS leaves the cache alone.
 */
const writesFlush = process.platform === 'linux'

function openFile(path: string, fullPath: string, create: boolean): DiskFile {
  const { O_RDWR, O_CREAT, O_EXCL, O_DSYNC } = constants
  const flags = O_RDWR | (create ? O_CREAT | O_EXCL : 0) | (writesFlush ? O_DSYNC : 0)
  const descriptor = openSync(fullPath, flags, 0o600)
  let size = fstatSync(descriptor).size
  let writing = 0
  return {
    path,
    sizeBytes: () => size,
    write(offset, buffers, done) {
      writing += 1
      writeAll(descriptor, offset, buffers, (error, end) => {
        writing -= 1
        size = Math.max(size, end)
        done(error)
      })
    },
    flush(done) {
      if (writesFlush && writing === 0) queueMicrotask(() => done(null))
      else fdatasync(descriptor, done)
    },
    writeNow(offset, bytes) {
      let written = 0
      while (written < bytes.length)
        written += writeSync(descriptor, bytes, written, undefined, offset + written)
      size = Math.max(size, offset + bytes.length)
    },
    flushNow() {
      fdatasyncSync(descriptor)
    },
    read(offset, length) {
      const bytes = Buffer.allocUnsafeSlow(Math.max(0, Math.min(length, size - offset)))
      let done = 0
      while (done < bytes.length) {
        const count = readSync(descriptor, bytes, done, bytes.length - done, offset + done)
        if (count === 0) break
        done += count
      }
      return bytes.subarray(0, done)
    },
    truncate(sizeBytes) {
      ftruncateSync(descriptor, sizeBytes)
      size = sizeBytes
    },
    close() {
      closeSync(descriptor)
    },
  }
}

/** The system may write less than it was given; then the rest follows. Calls back with the end of what was written. */
function writeAll(
  descriptor: number,
  offset: number,
  buffers: readonly Uint8Array[],
  done: (error: Error | null, end: number) => void,
): void {
  const wanted = buffers.reduce((sum, buffer) => sum + buffer.length, 0)
  const written = (error: Error | null, count: number): void => {
    if (error !== null) done(error, offset)
    else if (count === wanted) done(null, offset + count)
    else if (count === 0) done(new Error('the system wrote nothing'), offset)
    else writeAll(descriptor, offset + count, withoutFirst(buffers, count), done)
  }
  const [only] = buffers
  if (only === undefined) done(null, offset)
  else if (buffers.length === 1) write(descriptor, only, 0, only.length, offset, written)
  else writev(descriptor, buffers, offset, written)
}

function withoutFirst(buffers: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  const rest: Uint8Array[] = []
  let left = bytes
  for (const buffer of buffers) {
    if (left < buffer.length) rest.push(left === 0 ? buffer : buffer.subarray(left))
    left = Math.max(0, left - buffer.length)
  }
  return rest
}

function flushFolder(path: string, done: DiskCallback): void {
  open(path, 'r', (openError, descriptor) => {
    if (openError !== null) return done(openError)
    fsync(descriptor, (flushError) => {
      close(descriptor, (closeError) => done(flushError ?? closeError))
    })
  })
}
