import { assert } from '../base/assert.ts'
import type { Configuration, Entry, HardState, Index, SnapshotPoint, Term } from '../raft/types.ts'
import { BlankSegments } from './blank-segments.ts'
import type { Disk } from './disk.ts'
import { EntryCache } from './entry-cache.ts'
import type { EntryTable, RecordPlace } from './entry-table.ts'
import {
  batchHeadBytes,
  decodeRecord,
  encodeBatchHead,
  encodeRecord,
  recordEnd,
  type EncodedRecord,
} from './records.ts'
import {
  damaged,
  logFolder,
  scanLog,
  segmentPath,
  type ConfigurationAt,
  type Scanned,
  type Segment,
} from './recovery.ts'
import { contentBytes, sectorBytes, Sectors, sectorsFor, SectorWriter } from './sectors.ts'
import { DamagedError, type Recovered, type WalOptions, type WriteAheadLog } from './types.ts'

/** Above this a batch takes no further record, so that one flush does not take too long. */
const maxBatchBytes = 4 * 1024 * 1024

/**
 * Opens the log in the folder `log` of `disk`, or makes an empty one.
 *
 * @param state the point that the state has reached. If the log ends before it, or conflicts with it, then a snapshot was installed just before a crash, and the log starts
 * anew after it.
 * @throws DamagedError when what is on the disk cannot be what was written.
 */
export function openLog(disk: Disk, options: WalOptions, state: SnapshotPoint): Recovered {
  assert(options.segmentBytes % sectorBytes === 0, 'segments consist of sectors', {
    segmentBytes: options.segmentBytes,
  })
  disk.makeFolder(logFolder)
  disk.flushFolderNow('.')
  let scanned = scanLog(disk, state.index)
  if (scanned.segments.length === 0 && state.index === 0) {
    createFirstSegment(disk, options.segmentBytes, scanned, state)
    scanned = scanLog(disk, 0)
  }
  const start = scanned.segments[0]?.base
  if (start === undefined)
    throw new DamagedError(
      `The folder ${logFolder} holds no log, though the state (state.db) has reached entry ${state.index}: the log was removed, and with it this replica's votes. Remove this ` +
        'replica from the replica set and add a new one with an empty folder.',
    )
  if (start.index > state.index)
    throw new DamagedError(
      `The state (state.db) is older than the log: it holds everything up to ${state.index}, and the log begins after ${start.index}. An old copy of the state was put back, or ` +
        'log files are missing. Remove this replica from the replica set and add a new one with an empty folder. Delete or edit nothing in this folder by hand.',
    )
  const log = new SegmentedLog(disk, options, scanned, start)
  log.alignWith(state)
  return { log, cutBytes: scanned.cutBytes }
}

/** A log that has ever been opened holds something, so that one that was removed is missed. */
function createFirstSegment(
  disk: Disk,
  segmentBytes: number,
  { blank, nextNumber }: Scanned,
  base: SnapshotPoint,
): void {
  const file = blank?.file ?? disk.open(segmentPath(nextNumber), true)
  for (let size = file.sizeBytes(); size < segmentBytes;) {
    const zeros = new Uint8Array(Math.min(1024 * 1024, segmentBytes - size))
    file.writeNow(size, zeros)
    size += zeros.length
  }
  file.flushNow()
  disk.flushFolderNow(logFolder)
  const writer = new SectorWriter()
  writer.begin(1)
  writer.put(batchHeadSpace)
  const opening = encodeRecord({ kind: 'segment', reset: false, base, hardState: { term: 0, vote: 0 } })
  for (const part of opening.parts) writer.put(part)
  file.writeNow(0, writer.finish(encodeBatchHead({ sequence: 1, recordBytes: opening.length, records: 1 })))
  file.flushNow()
  file.close()
}

type Item =
  | {
      readonly kind: 'write'
      /** Null when there is none, or when it has been written. */
      hardState: HardState | null
      readonly entries: readonly Entry[]
      /** How many entries have been written. */
      written: number
      /** The point before the next entry to be written. */
      before: SnapshotPoint | null
      /** How often the log had been reset when it was appended. */
      readonly epoch: number
      readonly done: () => void
    }
  | { readonly kind: 'reset'; readonly point: SnapshotPoint; readonly done: () => void }

/** A batch on its way to the disk. */
interface Batch {
  readonly bytes: Uint8Array
  readonly segment: Segment
  readonly sector: number
  readonly opensSegment: boolean
  readonly resets: boolean
  readonly places: readonly Placed[]
  /** Items that are on disk with it. */
  readonly finished: readonly Item[]
}

interface Placed {
  readonly entry: Entry
  readonly epoch: number
  readonly place: RecordPlace
}

class SegmentedLog implements WriteAheadLog {
  start: SnapshotPoint
  hardState: HardState
  private readonly disk: Disk
  private readonly options: WalOptions
  private readonly blanks: BlankSegments
  private readonly table: EntryTable
  private readonly cache: EntryCache
  private readonly writer = new SectorWriter()
  /** Configurations among the entries, in order of index. */
  private configurations: ConfigurationAt[]

  /** Oldest first; the last is written to. Segments are here when their first batch is on disk. */
  private segments: Segment[]
  /** The first free sector of the last segment; null: a new segment comes next. */
  private nextSector: number | null
  private sequence: number
  /** The log as it is after what was last written: behind what was appended. */
  private tail: SnapshotPoint
  private tailHardState: HardState

  /** How often the log has been reset since it was opened: as appended, and as written. */
  private epoch = 0
  private writtenEpoch = 0

  private readonly queue: Item[] = []
  private isWriting = false
  private isFailed = false
  private onClosed: (() => void) | null = null
  private isClosed = false
  private removals = 0

  constructor(disk: Disk, options: WalOptions, scanned: Scanned, start: SnapshotPoint) {
    this.disk = disk
    this.options = options
    this.start = start
    this.hardState = scanned.hardState
    this.tailHardState = scanned.hardState
    this.table = scanned.table
    this.cache = new EntryCache(options.cacheBytes)
    this.configurations = [...scanned.configurations]
    this.segments = [...scanned.segments]
    this.nextSector = scanned.nextSector
    this.sequence = scanned.sequence
    this.tail = this.pointAt(this.lastIndex)
    this.blanks = new BlankSegments({
      disk,
      clock: options.clock,
      segmentBytes: options.segmentBytes,
      nextNumber: scanned.nextNumber,
      found: scanned.blank,
      onReady: () => this.pump(),
      onFullChanged: (full) => {
        options.onFullChanged(full)
        this.finishClosing()
      },
      onFailed: (error) => this.fail('make a segment of', error),
    })
    this.removeFiles(scanned.leftovers)
  }

  get lastIndex(): Index {
    return this.table.lastIndex
  }

  get full(): boolean {
    return this.blanks.full
  }

  get sizeBytes(): number {
    let size = 0
    for (const { file } of this.segments) size += file.sizeBytes()
    const last = this.segments.at(-1)
    return this.nextSector === null || last === undefined
      ? size
      : size - last.file.sizeBytes() + this.nextSector * sectorBytes
  }

  termAt(index: Index): Term | null {
    if (index === this.start.index) return this.start.term
    return this.table.has(index) ? this.table.term(index) : null
  }

  entries(from: Index, to: Index, maxBytes: number): readonly Entry[] {
    assert(from > this.start.index && to <= this.lastIndex, 'the entries are in the log', {
      from,
      to,
      start: this.start.index,
      lastIndex: this.lastIndex,
    })
    const found: Entry[] = []
    let bytes = 0
    for (let index = from; index <= to;) {
      const cached = this.cache.get(index)
      const next = cached === undefined ? this.readFromDisk(index, to, maxBytes - bytes) : [cached]
      for (const entry of next) {
        const size = entry.kind === 'data' ? entry.data.length : 0
        if (found.length > 0 && bytes + size > maxBytes) return found
        found.push(entry)
        bytes += size
        index += 1
      }
    }
    return found
  }

  append(
    write: { readonly hardState: HardState | null; readonly entries: readonly Entry[] },
    done: () => void,
  ): void {
    assert(this.onClosed === null, 'nothing is appended to a closed log')
    if (this.isFailed) return
    const { hardState, entries } = write
    if (hardState !== null) this.hardState = hardState
    const first = entries[0]
    let before: SnapshotPoint | null = null
    if (first !== undefined) {
      assert(
        first.index > this.start.index && first.index <= this.lastIndex + 1,
        'entries continue the log',
        {
          first: first.index,
          start: this.start.index,
          lastIndex: this.lastIndex,
        },
      )
      this.truncate(first.index - 1)
      before = this.pointAt(first.index - 1)
    }
    for (const entry of entries) {
      assert(entry.index === this.lastIndex + 1, 'entries are contiguous', { index: entry.index })
      this.table.push(entry.term)
      this.cache.push(entry)
      if (entry.kind === 'configuration')
        this.configurations.push({ index: entry.index, configuration: entry.configuration })
    }
    this.queue.push({ kind: 'write', hardState, entries, written: 0, before, epoch: this.epoch, done })
    this.pump()
  }

  compact(index: Index): void {
    if (this.isFailed || this.onClosed !== null) return
    // What comes after the base of a segment was written to that segment or to later ones.
    const first = this.segments.findLastIndex(({ base }) => base.index <= index)
    const segment = this.segments[first]
    // While a reset is under way the segments are those from before it.
    if (segment === undefined || first === 0 || this.writtenEpoch < this.epoch) return
    const dropped = this.segments.slice(0, first)
    this.segments = this.segments.slice(first)
    this.start = segment.base
    this.table.dropThrough(this.start.index)
    this.cache.dropThrough(this.start.index)
    this.configurations = this.configurations.filter((one) => one.index > this.start.index)
    this.drop(dropped)
  }

  reset(point: SnapshotPoint, done: () => void): void {
    assert(this.onClosed === null, 'a closed log is not reset')
    if (this.isFailed) return
    this.epoch += 1
    this.start = point
    this.table.reset(point.index)
    this.cache.clear()
    this.configurations = []
    this.queue.push({ kind: 'reset', point, done })
    this.pump()
  }

  /** See {@link openLog}. */
  alignWith(state: SnapshotPoint): void {
    if (this.termAt(state.index) !== state.term) this.reset(state, () => {})
  }

  close(done: () => void): void {
    this.onClosed = done
    this.finishClosing()
  }

  private truncate(index: Index): void {
    if (index === this.lastIndex) return
    this.table.truncate(index)
    this.cache.truncate(index)
    while ((this.configurations.at(-1)?.index ?? 0) > index) this.configurations.pop()
  }

  private pointAt(index: Index): SnapshotPoint {
    if (index === this.start.index) return this.start
    let configuration: Configuration = this.start.configuration
    for (const one of this.configurations) {
      if (one.index > index) break
      configuration = one.configuration
    }
    return { index, term: this.table.term(index), configuration }
  }

  /** Entries whose records lie close together in one segment are read at once. */
  private readFromDisk(from: Index, to: Index, maxBytes: number): readonly Entry[] {
    const first = this.placeOf(from)
    let end = first.offset + first.length
    const places = [first]
    for (let index = from + 1; index <= to && end - first.offset < maxBytes; index += 1) {
      if (!this.table.isWritten(index)) break
      const place = this.placeOf(index)
      if (place.segment !== first.segment || place.offset < end || place.offset > end + 64 * 1024) break
      places.push(place)
      end = place.offset + place.length
    }
    const segment = this.segments.find(({ number }) => number === first.segment)
    assert(segment !== undefined, 'the segment of an entry is there', { index: from })
    const sector = Math.floor(first.offset / contentBytes)
    const count = sectorsFor(end) - sector
    const sectors = new Sectors(segment.file.read(sector * sectorBytes, count * sectorBytes))
    const content = sectors.content(0, sectors.count)
    return places.map(({ offset, length }, i) => {
      const at = offset - sector * contentBytes
      const recordIsWhole = recordEnd(content, at, content.length) === at + length
      const record = recordIsWhole ? decodeRecord(content, at, at + length) : null
      const entry = record?.kind === 'entry' ? record.entry : null
      if (entry === null || entry.index !== from + i || entry.term !== this.table.term(entry.index))
        throw damaged(
          segment.file.path,
          Math.floor(offset / contentBytes),
          `entry ${from + i} cannot be read`,
        )
      return entry
    })
  }

  private placeOf(index: Index): RecordPlace {
    const place = this.table.place(index)
    assert(place !== null, 'an entry that is not cached is on disk', { index })
    return place
  }

  /** Writes the next batch, unless one is under way or there is nothing to write. */
  private pump(): void {
    if (this.isWriting || this.isFailed || this.isClosed) return
    const batch = this.nextBatch()
    if (batch === null) return this.finishClosing()
    this.isWriting = true
    const { file } = batch.segment
    file.write(batch.sector * sectorBytes, [batch.bytes], (writeError) => {
      if (writeError !== null) return this.fail(`write to ${file.path} of`, writeError)
      file.flush((flushError) => {
        if (flushError !== null) return this.fail(`flush ${file.path} of`, flushError)
        this.finish(batch)
      })
    })
  }

  private finish(batch: Batch): void {
    if (batch.resets) {
      const dropped = this.segments
      this.segments = []
      this.drop(dropped)
      this.writtenEpoch += 1
    }
    if (batch.opensSegment) this.segments.push(batch.segment)
    for (const { entry, epoch, place } of batch.places)
      // Unless it has been overwritten or the log has been reset meanwhile.
      if (epoch === this.epoch && this.table.has(entry.index) && this.table.term(entry.index) === entry.term)
        this.table.setPlace(entry.index, place)
    this.cache.trim((index) => !this.table.has(index) || this.table.isWritten(index))
    // What the callbacks append waits for the next batch, so that all of it shares one flush.
    for (const { done } of batch.finished) done()
    this.isWriting = false
    this.pump()
  }

  /** Null when nothing waits, or when there is no segment to write to yet. */
  private nextBatch(): Batch | null {
    const head = this.queue[0]
    const active = this.segments.at(-1)
    if (head === undefined) return null
    if (head.kind === 'write' && active !== undefined && this.nextSector !== null) {
      const sector = this.nextSector
      const batch = this.makeBatch(active, sector, null)
      if (batch !== null) return batch
    }
    return this.nextBatchInNewSegment(head)
  }

  private nextBatchInNewSegment(head: Item): Batch | null {
    const base = head.kind === 'reset' ? head.point : (head.before ?? this.tail)
    const reset = head.kind === 'reset'
    const opening = encodeRecord({ kind: 'segment', reset, base, hardState: this.tailHardState })
    const firstEntry = head.kind === 'write' ? head.entries[head.written] : undefined
    const most =
      batchHeadBytes +
      opening.length +
      hardStateBytesAtMost +
      (firstEntry === undefined ? 0 : encodeRecord({ kind: 'entry', entry: firstEntry }).length)
    const blank = this.blanks.take(sectorsFor(most) * sectorBytes)
    if (blank === null) return null
    const segment = { number: blank.number, file: blank.file, base }
    const batch = this.makeBatch(segment, 0, { opening, reset })
    assert(batch !== null, 'a new segment takes a record')
    return batch
  }

  /** Takes as many records from the queue as there is room for; null when there is none for the first. */
  private makeBatch(
    segment: Segment,
    sector: number,
    opened: { readonly opening: EncodedRecord; readonly reset: boolean } | null,
  ): Batch | null {
    const room = (Math.floor(segment.file.sizeBytes() / sectorBytes) - sector) * contentBytes
    const places: Placed[] = []
    const finished: Item[] = []
    const { writer } = this
    let records = 0
    writer.begin(this.sequence + 1)
    writer.put(batchHeadSpace)
    const put = (record: EncodedRecord): boolean => {
      if (writer.length + record.length > room) return false
      for (const part of record.parts) writer.put(part)
      records += 1
      return true
    }
    if (opened !== null) {
      put(opened.opening)
      this.tail = segment.base
    }
    let taken = 0
    for (const item of this.queue) {
      if (item.kind === 'reset') {
        if (taken > 0 || opened?.reset !== true) break
      } else if (!this.putItem(item, segment, sector, put, places)) break
      finished.push(item)
      taken += 1
      if (writer.length > maxBatchBytes) break
    }
    if (opened === null && records === 0 && taken === 0) return null
    this.queue.splice(0, taken)
    this.sequence += 1
    const head = { sequence: this.sequence, recordBytes: writer.length - batchHeadBytes, records }
    const bytes = writer.finish(encodeBatchHead(head))
    this.nextSector = sector + bytes.length / sectorBytes
    const resets = opened?.reset === true
    return { bytes, segment, sector, opensSegment: opened !== null, resets, places, finished }
  }

  /** False when a part of it does not fit, or must go to a new segment. */
  private putItem(
    item: Item & { readonly kind: 'write' },
    segment: Segment,
    sector: number,
    put: (record: EncodedRecord) => boolean,
    places: Placed[],
  ): boolean {
    // An entry at or before the base of the segment overwrites what earlier segments hold: the base of a new segment says so.
    if (item.before !== null && item.before.index < segment.base.index) return false
    if (item.hardState !== null) {
      if (!put(encodeRecord({ kind: 'hardState', hardState: item.hardState }))) return false
      this.tailHardState = item.hardState
      item.hardState = null
    }
    while (item.written < item.entries.length) {
      const entry = item.entries[item.written]
      assert(entry !== undefined && item.before !== null, 'an entry follows a point')
      const offset = sector * contentBytes + this.writer.length
      const record = encodeRecord({ kind: 'entry', entry })
      if (!put(record)) return false
      const place = { segment: segment.number, offset, length: record.length }
      places.push({ entry, epoch: item.epoch, place })
      item.written += 1
      const { index, term } = entry
      const configuration = entry.kind === 'configuration' ? entry.configuration : item.before.configuration
      item.before = { index, term, configuration }
      this.tail = item.before
      if (this.writer.length > maxBatchBytes) return item.written === item.entries.length
    }
    return true
  }

  private drop(segments: readonly Segment[]): void {
    for (const { file } of segments) file.close()
    this.removeFiles(segments.map(({ file }) => file.path))
  }

  /** One after the other, oldest first. */
  private removeFiles(paths: readonly string[]): void {
    const [first, ...rest] = paths
    if (first === undefined) return
    this.removals += 1
    const ended = (error: Error | null): void => {
      this.removals -= 1
      if (error !== null) this.fail('remove a segment of', error)
      else this.removeFiles(rest)
      this.finishClosing()
    }
    this.disk.remove(first, (error) => {
      if (error !== null || rest.length > 0) ended(error)
      else this.disk.flushFolder(logFolder, ended)
    })
  }

  private finishClosing(): void {
    const done = this.onClosed
    const waits = this.isWriting || this.removals > 0
    // What waits for a segment on a full disk was never promised to anybody.
    if (done === null || this.isClosed || (waits && !this.isFailed)) return
    if (this.queue.length > 0 && !this.isFailed && !this.blanks.full) return
    this.isClosed = true
    this.blanks.stop(() => {
      for (const { file } of this.segments) file.close()
      done()
    })
  }

  private fail(what: string, error: Error): void {
    if (this.isFailed) return
    this.isFailed = true
    this.options.onFailed(
      new Error(
        `Cannot ${what} the log: ${error.message}. After a failed write or flush nobody knows what is on the disk, so this replica stops and promises nothing more. Look at the ` +
          'disk and the system log. When the disk is sound, start this replica again; otherwise remove it from the replica set and add a new one with an empty folder.',
        { cause: error },
      ),
    )
    this.finishClosing()
  }
}

const batchHeadSpace = new Uint8Array(batchHeadBytes)
const hardStateBytesAtMost = 32
