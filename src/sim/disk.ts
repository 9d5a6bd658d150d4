import { unreachable } from '../base/assert.ts'
import type { Random } from '../base/random.ts'
import type { Disk, DiskCallback, DiskFile } from '../storage/disk.ts'
import type { Owner, Scheduler } from './scheduler.ts'

/** The disk of one machine. It outlives the processes that use it, and forgets at a power cut what was not flushed. */
export interface SimDisk {
  /** The disk as one process sees it. When the process has died its operations have no effect any more. */
  mount(process: Owner): Disk
  readonly condition: DiskCondition
  /** The process that mounted it was killed: what it wrote stays, a write that was under way may have happened in part. */
  processDied(): void
  /** The machine lost power: of what was not flushed, any part may be there. */
  powerCut(): void
  /** Flips one bit of something that was flushed. False when there is nothing. */
  rot(): boolean
  /** One sector reads as zeros, of those that were flushed long before others of the same file. False when there is none. */
  loseSector(): boolean
  wipe(): void
  setHanging(hanging: boolean): void
  readonly usedBytes: number
  /** A bit was flipped or a sector was lost at some time. */
  readonly damaged: boolean
  /** Every name with its content as a process that starts now would read it. */
  contents(): ReadonlyMap<string, Uint8Array>
}

/** How the disk behaves now; the faults change it. */
export interface DiskCondition {
  capacityBytes: number
  writeMs: number
  flushMs: number
  /** Operations that are under way, or begin, do not end. */
  hanging: boolean
  failWrites: boolean
  failFlushes: boolean
}

export interface SimDiskOptions {
  readonly scheduler: Scheduler
  readonly random: Random
  readonly condition: DiskCondition
  /** Called before and after each operation takes effect: the place to crash at. */
  readonly onOperation: (name: string, path: string) => void
}

/** What a disk writes all or nothing. */
const sectorBytes = 512

interface SimFile {
  /** What a read returns. */
  current: Uint8Array
  size: number
  /** What a power cut leaves. */
  durable: Uint8Array
  durableSize: number
  /** Sectors in which the two differ, or may. */
  readonly dirty: Set<number>
  /** The flush that covered each sector last. */
  readonly flushedBy: Map<number, number>
  flushes: number
}

type NameChange =
  | { readonly kind: 'create'; readonly path: string; readonly file: SimFile }
  | { readonly kind: 'rename'; readonly from: string; readonly to: string }
  | { readonly kind: 'remove'; readonly path: string }

export function createSimDisk(options: SimDiskOptions): SimDisk {
  const { scheduler, random, condition, onOperation } = options
  let names = new Map<string, SimFile>()
  let durableNames = new Map<string, SimFile>()
  /** Changes of names that no flush of the folder has covered, in order. */
  let nameChanges: NameChange[] = []
  /** Writes that have begun and not ended. */
  const writing = new Set<{
    readonly file: SimFile
    readonly offset: number
    readonly buffers: readonly Uint8Array[]
  }>()
  /** Waiting for the disk to stop hanging. */
  let held: (() => void)[] = []
  let mounted: Owner | null = null
  let damaged = false

  function usedBytes(): number {
    let sum = 0
    for (const file of names.values()) sum += file.size
    return sum
  }

  /** Calls `effect` after a while, unless the process died before. */
  function later(process: Owner, delayMs: number, effect: () => void): void {
    const jitter = 0.5 + random.below(1000) / 1000
    scheduler.at(scheduler.nowMs + delayMs * jitter, null, () => {
      const attempt = (): void => {
        if (!process.alive || process !== mounted) return
        if (condition.hanging) {
          held.push(attempt)
          return
        }
        effect()
      }
      attempt()
    })
  }

  /** The process hears of it when it is not stalled. */
  function tell(process: Owner, done: DiskCallback, error: Error | null): void {
    scheduler.at(scheduler.nowMs, process, () => done(error))
  }

  function change(one: NameChange): void {
    nameChanges.push(one)
    applyNameChange(names, one)
  }

  function flushNames(): void {
    for (const one of nameChanges) applyNameChange(durableNames, one)
    nameChanges = []
  }

  function mount(process: Owner): Disk {
    mounted = process
    const isDead = (): boolean => !process.alive || process !== mounted
    return {
      list(folder) {
        const prefix = folder === '' || folder === '.' ? '' : `${folder}/`
        const found = new Set<string>()
        for (const path of names.keys())
          if (path.startsWith(prefix)) found.add(path.slice(prefix.length).split('/')[0] ?? '')
        return [...found].sort()
      },
      readFile(path) {
        const file = names.get(path)
        if (file === undefined) throw systemError('ENOENT', path)
        return file.current.slice(0, file.size)
      },
      makeFolder() {},
      open(path, create) {
        let file = names.get(path)
        if (create) {
          if (file !== undefined) throw systemError('EEXIST', path)
          file = {
            current: new Uint8Array(0),
            size: 0,
            durable: new Uint8Array(0),
            durableSize: 0,
            dirty: new Set(),
            flushedBy: new Map(),
            flushes: 0,
          }
          if (!isDead()) {
            change({ kind: 'create', path, file })
            onOperation('create', path)
          }
        }
        if (file === undefined) throw systemError('ENOENT', path)
        return handle(path, file)
      },
      rename(from, to, done) {
        if (isDead()) return
        if (!names.has(from)) return tell(process, done, systemError('ENOENT', from))
        change({ kind: 'rename', from, to })
        onOperation('rename', to)
        later(process, condition.flushMs, () => {
          if (condition.failFlushes) return tell(process, done, systemError('EIO', to))
          flushNames()
          onOperation('renamed', to)
          tell(process, done, null)
        })
      },
      remove(path, done) {
        if (isDead()) return
        if (!names.has(path)) return tell(process, done, systemError('ENOENT', path))
        change({ kind: 'remove', path })
        onOperation('remove', path)
        later(process, condition.writeMs, () => tell(process, done, null))
      },
      flushFolder(path, done) {
        if (isDead()) return
        onOperation('flushFolder', path)
        later(process, condition.flushMs, () => {
          if (condition.failFlushes) return tell(process, done, systemError('EIO', path))
          flushNames()
          onOperation('folderFlushed', path)
          tell(process, done, null)
        })
      },
      flushFolderNow(path) {
        if (isDead()) return
        if (condition.failFlushes) throw systemError('EIO', path)
        onOperation('flushFolder', path)
        if (!isDead()) flushNames()
      },
      freeBytes: () => Math.max(0, condition.capacityBytes - usedBytes()),
    }

    function handle(path: string, file: SimFile): DiskFile {
      return {
        path,
        sizeBytes: () => file.size,
        write(offset, buffers, done) {
          if (isDead()) return
          const write = { file, offset, buffers }
          writing.add(write)
          onOperation('write', path)
          later(process, condition.writeMs, () => {
            writing.delete(write)
            const bytes = buffers.reduce((sum, buffer) => sum + buffer.length, 0)
            const growth = Math.max(0, offset + bytes - file.size)
            if (condition.failWrites) {
              put(file, offset, buffers, random.below(bytes + 1))
              return tell(process, done, systemError('EIO', path))
            }
            const room = Math.max(0, condition.capacityBytes - usedBytes())
            if (growth > room) {
              put(file, offset, buffers, Math.max(0, bytes - growth + Math.min(room, growth)))
              return tell(process, done, systemError('ENOSPC', path))
            }
            put(file, offset, buffers, bytes)
            onOperation('written', path)
            tell(process, done, null)
          })
        },
        flush(done) {
          if (isDead()) return
          const size = file.size
          const covered = [...file.dirty]
          const copies = covered.map((sector) => sectorOf(file.current, file.size, sector))
          onOperation('flush', path)
          later(process, condition.flushMs, () => {
            if (condition.failFlushes) {
              // As on Linux: after a failed flush the pages count as clean, and a later flush succeeds without writing them.
              for (const sector of covered) file.dirty.delete(sector)
              return tell(process, done, systemError('EIO', path))
            }
            setDurableSize(file, Math.max(size, Math.min(file.durableSize, file.size)))
            file.flushes += 1
            for (const [i, sector] of covered.entries()) {
              file.flushedBy.set(sector, file.flushes)
              const copy = copies[i]
              const from = sector * sectorBytes
              if (copy !== undefined && from < file.durableSize)
                file.durable.set(copy.subarray(0, file.durableSize - from), from)
              if (sameSector(file, sector)) file.dirty.delete(sector)
            }
            onOperation('flushed', path)
            tell(process, done, null)
          })
        },
        writeNow(offset, bytes) {
          if (isDead()) return
          if (condition.failWrites) throw systemError('EIO', path)
          onOperation('write', path)
          if (isDead()) return
          if (offset + bytes.length - file.size > condition.capacityBytes - usedBytes())
            throw systemError('ENOSPC', path)
          writeInto(file, offset, bytes)
          onOperation('written', path)
        },
        flushNow() {
          if (isDead()) return
          if (condition.failFlushes) {
            file.dirty.clear()
            throw systemError('EIO', path)
          }
          onOperation('flush', path)
          if (isDead()) return
          setDurableSize(file, file.size)
          file.flushes += 1
          for (const sector of file.dirty) {
            file.flushedBy.set(sector, file.flushes)
            const from = sector * sectorBytes
            const to = Math.min(from + sectorBytes, file.size)
            if (from < to) file.durable.set(file.current.subarray(from, to), from)
          }
          file.dirty.clear()
          onOperation('flushed', path)
        },
        read: (offset, length) => file.current.slice(offset, Math.min(file.size, offset + length)),
        truncate(sizeBytes) {
          if (isDead()) return
          if (sizeBytes > file.size && sizeBytes - file.size > condition.capacityBytes - usedBytes())
            throw systemError('ENOSPC', path)
          if (sizeBytes < file.size) file.current.fill(0, sizeBytes, file.size)
          else file.current = grown(file.current, sizeBytes)
          markDirty(file, Math.min(sizeBytes, file.size), Math.max(sizeBytes, file.size))
          file.size = sizeBytes
          onOperation('truncate', path)
        },
        close() {},
      }
    }
  }

  return {
    mount,
    condition,
    get damaged() {
      return damaged
    },
    get usedBytes() {
      return usedBytes()
    },
    processDied() {
      mounted = null
      held = []
      for (const { file, offset, buffers } of writing) {
        const bytes = buffers.reduce((sum, buffer) => sum + buffer.length, 0)
        const written = random.below(bytes + 1)
        if (offset + written - file.size > condition.capacityBytes - usedBytes()) continue
        put(file, offset, buffers, written)
      }
      writing.clear()
    },
    powerCut() {
      // The changes of names are kept up to some point, as a journal keeps them.
      const kept = random.below(nameChanges.length + 1)
      for (const one of nameChanges.slice(0, kept)) applyNameChange(durableNames, one)
      nameChanges = []
      names = new Map(durableNames)
      for (const file of new Set(names.values())) forget(file, random)
    },
    rot() {
      const files = [...names.entries()].filter(([, file]) => file.durableSize > 0 && file.size > 0)
      const chosen = files[random.below(Math.max(1, files.length))]
      if (chosen === undefined) return false
      const file = chosen[1]
      const offset = random.below(Math.min(file.size, file.durableSize))
      const bit = 1 << random.below(8)
      file.current[offset] = (file.current[offset] ?? 0) ^ bit
      file.durable[offset] = (file.durable[offset] ?? 0) ^ bit
      damaged = true
      return true
    },
    loseSector() {
      const lost = [...names.values()].flatMap((file) =>
        longFlushed(file).map((sector) => ({ file, sector })),
      )
      const chosen = lost[random.below(Math.max(1, lost.length))]
      if (chosen === undefined) return false
      const from = chosen.sector * sectorBytes
      chosen.file.current.fill(0, from, from + sectorBytes)
      chosen.file.durable.fill(0, from, from + sectorBytes)
      damaged = true
      return true
    },
    wipe() {
      names = new Map()
      durableNames = new Map()
      nameChanges = []
      writing.clear()
    },
    setHanging(hanging) {
      condition.hanging = hanging
      if (hanging) return
      const waiting = held
      held = []
      for (const attempt of waiting) attempt()
    },
    contents: () =>
      new Map([...names.entries()].map(([path, file]) => [path, file.current.subarray(0, file.size)])),
  }
}

/** Each unflushed sector is as it was or as it was to be, each by itself: writes that no flush separates reach the disk in any order. */
function forget(file: SimFile, random: Random): void {
  const style = random.below(4)
  const keep = (): boolean => (style === 0 ? false : style === 1 ? true : random.below(2) === 0)
  const size = keep() ? file.size : file.durableSize
  const dirty = [...file.dirty].sort((a, b) => a - b)
  // A prefix of the sectors is what an interrupted sequential write leaves.
  const cut = style === 2 ? (dirty[random.below(dirty.length + 1)] ?? Infinity) : null
  setDurableSize(file, size)
  for (const sector of dirty)
    if (cut === null ? keep() : sector < cut) {
      const from = sector * sectorBytes
      const to = Math.min(from + sectorBytes, file.durableSize)
      if (from < to) file.durable.set(file.current.subarray(from, to), from)
    }
  file.dirty.clear()
  file.current = file.durable.slice()
  file.size = file.durableSize
}

/** At most `limit` of the bytes reach the file. */
function put(file: SimFile, offset: number, buffers: readonly Uint8Array[], limit: number): void {
  let at = offset
  let left = limit
  for (const buffer of buffers) {
    if (left <= 0) return
    const part = buffer.length <= left ? buffer : buffer.subarray(0, left)
    writeInto(file, at, part)
    at += part.length
    left -= part.length
  }
}

function writeInto(file: SimFile, offset: number, bytes: Uint8Array): void {
  if (bytes.length === 0) return
  const end = offset + bytes.length
  file.current = grown(file.current, end)
  file.current.set(bytes, offset)
  file.size = Math.max(file.size, end)
  markDirty(file, offset, end)
}

function markDirty(file: SimFile, from: number, to: number): void {
  for (let sector = Math.floor(from / sectorBytes); sector * sectorBytes < to; sector += 1)
    file.dirty.add(sector)
}

function setDurableSize(file: SimFile, size: number): void {
  file.durable = grown(file.durable, size)
  if (size < file.durableSize) file.durable.fill(0, size, file.durableSize)
  file.durableSize = size
}

/** Sectors with content, behind which two later flushes of the file came: what they wrote shows that these were on the disk. */
function longFlushed(file: SimFile): readonly number[] {
  const flushes = [...new Set(file.flushedBy.values())].sort((a, b) => b - a)
  const newest = flushes[2] ?? 0
  return [...file.flushedBy].flatMap(([sector, flush]) => {
    const bytes = sectorOf(file.durable, Math.min(file.size, file.durableSize), sector)
    return flush <= newest && bytes.some((byte) => byte !== 0) ? [sector] : []
  })
}

/** The whole sector, zeros where the file ends before it does. */
function sectorOf(bytes: Uint8Array, size: number, sector: number): Uint8Array {
  const copy = new Uint8Array(sectorBytes)
  const from = sector * sectorBytes
  if (from < size) copy.set(bytes.subarray(from, Math.min(size, from + sectorBytes)))
  return copy
}

function sameSector(file: SimFile, sector: number): boolean {
  const from = sector * sectorBytes
  const to = from + sectorBytes
  const currentEnd = Math.min(to, file.current.length)
  const durableEnd = Math.min(to, file.durable.length)
  // The usual case, quickly; behind the end of either there are zeros.
  if (currentEnd === durableEnd && from < currentEnd)
    return (
      Buffer.compare(file.current.subarray(from, currentEnd), file.durable.subarray(from, durableEnd)) === 0
    )
  for (let i = from; i < to; i += 1) if ((file.current[i] ?? 0) !== (file.durable[i] ?? 0)) return false
  return true
}

function grown(bytes: Uint8Array, size: number): Uint8Array {
  if (size <= bytes.length) return bytes
  const larger = new Uint8Array(Math.max(size, bytes.length * 2, 4096))
  larger.set(bytes)
  return larger
}

function applyNameChange(names: Map<string, SimFile>, change: NameChange): void {
  switch (change.kind) {
    case 'create':
      names.set(change.path, change.file)
      return
    case 'rename': {
      const file = names.get(change.from)
      if (file === undefined) return
      names.delete(change.from)
      names.set(change.to, file)
      return
    }
    case 'remove':
      names.delete(change.path)
      return
    default:
      unreachable(change)
  }
}

function systemError(code: 'ENOENT' | 'EEXIST' | 'ENOSPC' | 'EIO', path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code })
}
