import type { Cancel, Clock } from '../base/clock.ts'
import type { Random } from '../base/random.ts'
import type { Disk, DiskCallback, DiskFile } from './disk.ts'

/*
 * Helpers for tests of this folder: a disk in memory whose operations end one at a time, when the test says so, and which can crash between any two of them.
 */

const sectorBytes = 512

interface MemoryFile {
  current: Uint8Array
  /** What a power cut leaves for certain. */
  durable: Uint8Array
  /** Sectors that a flush failed for: as on Linux they count as written, and no later flush writes them. */
  readonly lost: Set<number>
}

type NameChange =
  { readonly kind: 'create'; readonly path: string } | { readonly kind: 'remove'; readonly path: string }

interface Operation {
  readonly name: string
  readonly path: string
  /** Does it; the result is called afterwards. */
  readonly run: () => () => void
  /** What happens instead, before `done` is called with an error. */
  readonly fail: () => void
  readonly done: DiskCallback
  /** What it writes, if it has not ended when the machine crashes. */
  readonly write: { readonly file: MemoryFile; readonly offset: number; readonly bytes: Uint8Array } | null
}

/** What one operation on the disk comes to: its number from 0, its name, and the path. */
export type Fault = (number: number, name: string, path: string) => 'ENOSPC' | 'EIO' | null

export class MemoryDisk implements Disk {
  /** Operations that have ended. */
  operations = 0
  fault: Fault = () => null
  free = 1e12
  private readonly names: Map<string, MemoryFile>
  private readonly durableNames: Map<string, MemoryFile>
  private nameChanges: NameChange[] = []
  private readonly waiting: Operation[] = []

  constructor(names: ReadonlyMap<string, Uint8Array> = new Map()) {
    this.names = new Map(
      [...names].map(([path, bytes]) => [path, { current: bytes, durable: bytes.slice(), lost: new Set() }]),
    )
    this.durableNames = new Map(this.names)
  }

  get idle(): boolean {
    return this.waiting.length === 0
  }

  /** Ends the oldest operation. */
  step(): void {
    const operation = this.waiting.shift()
    if (operation === undefined) return
    const code = this.fault(this.operations, operation.name, operation.path)
    this.operations += 1
    if (code === null) operation.run()()
    else {
      operation.fail()
      operation.done(systemError(code, operation.name))
    }
  }

  /** The disk as it is after the process was killed: writes under way have happened, or a part of them. What was not flushed still is not. */
  killed(random: Random): MemoryDisk {
    this.endWrites(random)
    const disk = new MemoryDisk()
    for (const [path, { current, durable, lost }] of this.names)
      disk.names.set(path, { current: current.slice(), durable: durable.slice(), lost: new Set(lost) })
    for (const [path, file] of this.durableNames) disk.durableNames.set(path, disk.names.get(path) ?? file)
    disk.nameChanges = [...this.nameChanges]
    return disk
  }

  /** The disk as it is after a power cut: of what was not flushed, any sector and any name may be there, not there, or there in part. */
  crashed(random: Random): MemoryDisk {
    this.endWrites(random)
    const files = new Map(this.durableNames)
    for (const change of this.nameChanges) {
      if (random.below(2) === 0) continue
      const file = this.names.get(change.path)
      if (change.kind === 'remove') files.delete(change.path)
      else if (file !== undefined) files.set(change.path, file)
    }
    return new MemoryDisk(new Map([...files].map(([path, file]) => [path, afterPowerCut(file, random)])))
  }

  contents(): ReadonlyMap<string, Uint8Array> {
    return new Map([...this.names].map(([path, { current }]) => [path, current]))
  }

  list(folder: string): readonly string[] {
    const prefix = `${folder}/`
    return [...this.names.keys()]
      .filter((path) => path.startsWith(prefix))
      .map((path) => path.slice(prefix.length))
      .sort()
  }

  readFile(path: string): Uint8Array {
    return this.get(path).current.slice()
  }

  makeFolder(): void {}

  open(path: string, create: boolean): DiskFile {
    if (create) {
      this.names.set(path, fileWith(new Uint8Array(0)))
      this.nameChanges.push({ kind: 'create', path })
    }
    return this.handle(path, this.get(path))
  }

  rename(_from: string, _to: string, done: DiskCallback): void {
    done(new Error('the log renames nothing'))
  }

  remove(path: string, done: DiskCallback): void {
    this.later('remove', path, done, () => {
      this.names.delete(path)
      this.nameChanges.push({ kind: 'remove', path })
    })
  }

  flushFolder(path: string, done: DiskCallback): void {
    this.later('flushFolder', path, done, () => this.flushFolderNow())
  }

  flushFolderNow(): void {
    for (const { kind, path } of this.nameChanges) {
      const file = this.names.get(path)
      if (kind === 'remove') this.durableNames.delete(path)
      else if (file !== undefined) this.durableNames.set(path, file)
    }
    this.nameChanges = []
  }

  freeBytes(): number {
    return this.free
  }

  private handle(path: string, file: MemoryFile): DiskFile {
    return {
      path,
      sizeBytes: () => file.current.length,
      write: (offset, buffers, done) => {
        // Kept as it is now: whoever changes a buffer before the write has ended is found out.
        const bytes = Buffer.concat(buffers)
        const write = { file, offset, bytes }
        this.later('write', path, done, () => apply(file, offset, Buffer.concat(buffers)), write)
      },
      flush: (done) => {
        const covered = { ...file, current: file.current.slice() }
        const flushed = (): void => {
          file.durable = withFlushed(covered)
        }
        const failed = (): void => {
          for (const sector of differing(covered)) file.lost.add(sector)
        }
        this.later('flush', path, done, flushed, null, failed)
      },
      writeNow: (offset, bytes) => apply(file, offset, bytes),
      flushNow: () => {
        file.durable = withFlushed(file)
      },
      read: (offset, length) => file.current.slice(offset, offset + length),
      truncate: (sizeBytes) => {
        file.current = resized(file.current, sizeBytes)
      },
      close: () => {},
    }
  }

  private get(path: string): MemoryFile {
    const file = this.names.get(path)
    if (file === undefined) throw systemError('ENOENT', path)
    return file
  }

  private later(
    name: string,
    path: string,
    done: DiskCallback,
    effect: () => void,
    write: Operation['write'] = null,
    fail: () => void = () => {},
  ): void {
    const run = (): (() => void) => {
      effect()
      return () => done(null)
    }
    this.waiting.push({ name, path, run, fail, done, write })
  }

  private endWrites(random: Random): void {
    for (const { write } of this.waiting)
      if (write !== null)
        apply(write.file, write.offset, write.bytes.subarray(0, random.below(write.bytes.length + 1)))
  }
}

function apply(file: MemoryFile, offset: number, bytes: Uint8Array): void {
  if (offset + bytes.length > file.current.length) file.current = resized(file.current, offset + bytes.length)
  file.current.set(bytes, offset)
  for (const sector of sectorsOf(offset, offset + bytes.length)) file.lost.delete(sector)
}

function fileWith(bytes: Uint8Array): MemoryFile {
  return { current: bytes, durable: bytes.slice(), lost: new Set() }
}

function sectorsOf(from: number, to: number): readonly number[] {
  const first = Math.floor(from / sectorBytes)
  return Array.from({ length: Math.ceil(to / sectorBytes) - first }, (_, i) => first + i)
}

function differing({ current, durable }: MemoryFile): readonly number[] {
  return sectorsOf(0, current.length).filter((sector) => {
    const from = sector * sectorBytes
    const to = from + sectorBytes
    return Buffer.compare(current.subarray(from, to), durable.subarray(from, to)) !== 0
  })
}

/** What is on the disk after a flush. */
function withFlushed(file: MemoryFile): Uint8Array {
  const bytes = file.current.slice()
  for (const sector of file.lost) {
    const from = sector * sectorBytes
    bytes.fill(0, from, from + sectorBytes)
    bytes.set(file.durable.subarray(from, Math.min(from + sectorBytes, bytes.length)), from)
  }
  return bytes
}

function resized(bytes: Uint8Array, size: number): Uint8Array {
  const result = new Uint8Array(size)
  result.set(bytes.subarray(0, size))
  return result
}

function afterPowerCut({ current, durable }: MemoryFile, random: Random): Uint8Array {
  const size =
    current.length > durable.length
      ? durable.length + random.below(current.length - durable.length + 1)
      : durable.length
  const bytes = resized(durable, size)
  const style = random.below(4)
  for (let from = 0; from < size; from += sectorBytes) {
    const to = Math.min(from + sectorBytes, size)
    const fresh = current.subarray(from, to)
    const choice = style === 0 ? 1 : random.below(4)
    const cut = random.below(fresh.length + 1)
    if (choice === 1) bytes.set(fresh, from)
    else if (choice === 2) bytes.set(fresh.subarray(0, cut), from)
    else if (choice === 3) bytes.set(fresh.subarray(cut), from + cut)
  }
  return bytes
}

/** Time that passes when the test says so. */
export class ManualClock implements Clock {
  private nowMs = 0
  private timers: { readonly atMs: number; readonly callback: () => void }[] = []

  monotonicMs(): number {
    return this.nowMs
  }

  wallMs(): number {
    return this.nowMs
  }

  after(delayMs: number, callback: () => void): Cancel {
    const timer = { atMs: this.nowMs + delayMs, callback }
    this.timers.push(timer)
    return () => {
      this.timers = this.timers.filter((other) => other !== timer)
    }
  }

  soon(callback: () => void): void {
    this.after(0, callback)
  }

  advance(ms: number): void {
    this.nowMs += ms
    for (;;) {
      const due = this.timers.find(({ atMs }) => atMs <= this.nowMs)
      if (due === undefined) return
      this.timers = this.timers.filter((other) => other !== due)
      due.callback()
    }
  }
}

function systemError(code: string, what: string): Error {
  return Object.assign(new Error(`${code}: ${what}`), { code })
}
