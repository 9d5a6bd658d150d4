import { assert } from '../base/assert.ts'
import { MalformedError } from '../base/bytes.ts'
import type { Configuration, HardState, Index, SnapshotPoint } from '../raft/types.ts'
import type { Disk, DiskFile } from './disk.ts'
import { EntryTable } from './entry-table.ts'
import { batchHeadBytes, decodeBatchHead, decodeRecord, recordEnd, type LogRecord } from './records.ts'
import { contentBytes, sectorBytes, Sectors, sectorsFor } from './sectors.ts'
import { DamagedError } from './types.ts'

export const logFolder = 'log'

export function segmentPath(number: number): string {
  return `${logFolder}/${String(number).padStart(16, '0')}.wal`
}

/** A file of the log that holds records. */
export interface Segment {
  readonly number: number
  readonly file: DiskFile
  /** The point before the first entry of this segment. */
  readonly base: SnapshotPoint
}

/** An element of the list of configurations in the log: effective from `index` on. */
export interface ConfigurationAt {
  readonly index: Index
  readonly configuration: Configuration
}

export interface Scanned {
  /** Oldest first. */
  readonly segments: readonly Segment[]
  readonly table: EntryTable
  readonly hardState: HardState
  /** The number of the last batch; 0 = none. */
  readonly sequence: number
  /** In order of index; those after the start point. */
  readonly configurations: readonly ConfigurationAt[]
  /** The first free sector of the last segment; null: nothing more may be written there. */
  readonly nextSector: number | null
  /** Files that hold nothing that counts. */
  readonly leftovers: readonly string[]
  /** A file with nothing but zeros, to be the next segment. */
  readonly blank: { readonly number: number; readonly file: DiskFile } | null
  readonly nextNumber: number
  readonly cutBytes: number
}

/**
 * Reads the log. Rules:
 *
 * 1. Batches are numbered without a gap, across segments. Batch n+1 is written only when n was flushed; so whoever finds n+1 can rely on n having been flushed.
 * 2. A batch that cannot be read is a torn tail, and cut off, only if nothing shows that it was flushed: no sector of a later batch, no later segment whose first batch
 *    continues after it, and at least one of its own sectors missing (zeros at its beginning or end). Anything else is damage, and an error.
 * 3. After a torn tail nothing more is written to that segment. The next one continues with the number of the batch that was cut off, and thereby says where the earlier
 *    segment ends. So recovery does not change the torn segment, and comes to the same result however often it is interrupted.
 * 4. What was read of the last batch may be in the memory of the kernel only: the process may have died before the flush, or the flush may have failed. It is written again,
 *    the same bytes to the same place, and flushed, before anything is built on it.
 *
 * What cannot be told apart: the last flushed batch, when damage sets the first or last byte of one of its sectors to zero (a lost write, a sector that was trimmed), looks
 * as if it was never written. Single flipped bits do not, since guards have several bits set.
 *
 * @param neededFrom the index from which on entries are needed: what is before is safe in the state.
 */
export function scanLog(disk: Disk, neededFrom: Index): Scanned {
  const files = disk
    .list(logFolder)
    .flatMap((name) => {
      const match = /^(\d{16})\.wal$/.exec(name)
      return match === null ? [] : [{ name, number: Number(match[1]) }]
    })
    .map(({ name, number }) => openCandidate(disk, `${logFolder}/${name}`, number))
  const scan = new Scan(neededFrom)
  const blanks: Candidate[] = []
  // Nothing before the newest reset counts, whatever is left of it.
  const lastReset = files.findLastIndex(({ first }) => typeof first === 'object' && first.record.reset)
  for (const [i, candidate] of files.entries()) {
    const { first } = candidate
    if (first === 'blank') blanks.push(candidate)
    else if (i < lastReset) scan.leave(candidate)
    else {
      const next = files.slice(i + 1).find((later) => typeof later.first === 'object')
      if (first === 'unreadable') scan.skipUnreadable(candidate, next !== undefined)
      else scan.addSegment(candidate, first, next)
    }
  }
  return scan.finish(blanks, files.at(-1)?.number ?? 0)
}

interface Candidate {
  readonly number: number
  readonly path: string
  readonly file: DiskFile
  readonly first: FirstBatch | 'blank' | 'unreadable'
}

interface FirstBatch {
  readonly sequence: number
  readonly record: LogRecord & { readonly kind: 'segment' }
}

function openCandidate(disk: Disk, path: string, number: number): Candidate {
  const file = disk.open(path, false)
  const head = new Sectors(file.read(0, sectorBytes))
  const size = batchSectors(head, 0, path)
  const batch = size === null ? null : readBatch(new Sectors(file.read(0, size * sectorBytes)), 0, path)
  if (batch === null) {
    const sectors = new Sectors(file.read(0, file.sizeBytes()))
    const blank = firstNonZero(sectors, 0) === null
    return { number, path, file, first: blank ? 'blank' : 'unreadable' }
  }
  const place = batch.places[0]
  const record = place === undefined ? null : decode(batch, place, path)
  if (record?.kind !== 'segment') throw damaged(path, 0, 'the first record is not that of a segment')
  return { number, path, file, first: { sequence: batch.sequence, record } }
}

/** What has been put together of the segments so far. */
class Scan {
  private segments: Segment[] = []
  private table = new EntryTable(0)
  private hardState: HardState = { term: 0, vote: 0 }
  private configurations: ConfigurationAt[] = []
  private sequence = 0
  private readonly leftovers: string[] = []
  private cutBytes = 0
  private nextSector: number | null = null
  /** Where the last segment could not be read on, though it is not its end. */
  private broken: { readonly path: string; readonly sector: number } | null = null
  private lastNumber = 0
  /**
   * Segments are missing before the present ones. A removal of old segments that was interrupted, or that a power cut undid in part, leaves some of them; that is no flaw
   * when everything that is needed comes in later segments.
   */
  private flaw: DamagedError | null = null
  private readonly neededFrom: Index

  constructor(neededFrom: Index) {
    this.neededFrom = neededFrom
  }

  /** A segment whose first batch is not whole: its first write was torn, or it is damaged. */
  skipUnreadable(candidate: Candidate, hasNext: boolean): void {
    const sectors = new Sectors(candidate.file.read(0, candidate.file.sizeBytes()))
    if (hasNext) {
      // Whether it was ever part of the log shows when the next segment is added.
      this.broken ??= { path: candidate.path, sector: 0 }
    } else {
      this.cutBytes += tornBytes(sectors, 0, this.sequence === 0 ? null : this.sequence + 1, candidate.path)
      // What follows a torn tail is a new segment in any case.
      this.nextSector = null
    }
    this.leave(candidate)
  }

  /** It holds nothing that counts. */
  leave({ file, path }: Candidate): void {
    file.close()
    this.leftovers.push(path)
  }

  addSegment(candidate: Candidate, first: FirstBatch, next: Candidate | undefined): void {
    const { record } = first
    const start = this.segments[0]?.base.index
    const { base } = record
    const isEnough = base.index <= this.neededFrom
    if (record.reset || (this.flaw !== null && isEnough)) this.startAnew(base)
    else if (start === undefined) {
      if (this.broken !== null && first.sequence !== 1) throw this.missing(candidate)
      this.startAnew(base)
    } else if (first.sequence !== this.sequence + 1) {
      if (candidate.number === this.lastNumber + 1) throw this.missing(candidate)
      this.startAnew(base)
      if (!isEnough) this.flaw = this.missing(candidate)
    } else if (base.index < start) {
      this.startAnew(base)
      if (!isEnough) this.flaw = this.missing(candidate)
    } else if (base.index > this.table.lastIndex)
      throw damaged(candidate.path, 0, `entries after ${this.table.lastIndex} are missing before it`)
    else this.truncate(base.index)
    this.sequence = first.sequence - 1
    this.broken = null
    this.lastNumber = candidate.number
    this.hardState = record.hardState
    this.segments.push({ number: candidate.number, file: candidate.file, base: record.base })
    this.readSegment(candidate, typeof next?.first === 'object' ? next.first.sequence : null)
  }

  finish(blanks: readonly Candidate[], lastNumber: number): Scanned {
    if (this.flaw !== null) throw this.flaw
    const newest = this.segments.at(-1)
    let blank: Scanned['blank'] = null
    for (const candidate of blanks) {
      if (blank === null && candidate.number > Math.max(this.lastNumber, newest?.number ?? 0)) {
        blank = { number: candidate.number, file: candidate.file }
        continue
      }
      this.leave(candidate)
    }
    return {
      segments: this.segments,
      table: this.table,
      hardState: this.hardState,
      sequence: this.sequence,
      configurations: this.configurations,
      nextSector: this.nextSector,
      leftovers: this.leftovers,
      blank,
      nextNumber: lastNumber + 1,
      cutBytes: this.cutBytes,
    }
  }

  /** `next`: the number of the batch that the next segment begins with. */
  private readSegment({ number, path, file }: Candidate, next: number | null): void {
    const sectors = new Sectors(file.read(0, file.sizeBytes()))
    let sector = 0
    let last: Batch | null = null
    const lastSequence = next === null ? Infinity : next - 1
    while (sector < sectors.count && this.sequence < lastSequence) {
      const batch = readBatch(sectors, sector, path)
      if (batch === null || batch.sequence !== this.sequence + 1) break
      for (const place of batch.places) this.take(number, sector, batch, place, path)
      this.sequence = batch.sequence
      sector += batch.sectors
      last = batch
    }
    if (next !== null) {
      if (this.sequence + 1 !== next && firstNonZero(sectors, sector) !== null) this.broken = { path, sector }
      this.nextSector = null
      return
    }
    const torn = tornBytes(sectors, sector, this.sequence + 1, path)
    this.cutBytes += torn
    this.nextSector = torn === 0 ? sector : null
    if (torn === 0 && last !== null) {
      const from = sector - last.sectors
      file.writeNow(from * sectorBytes, sectors.raw(from, last.sectors))
    }
    file.flushNow()
  }

  private take(segment: number, sector: number, batch: Batch, place: Place, path: string): void {
    const record = decode(batch, place, path)
    switch (record.kind) {
      case 'segment':
        assert(place.offset === batchHeadBytes, 'the record of a segment is its first')
        return
      case 'hardState':
        this.hardState = record.hardState
        return
      case 'entry': {
        const { index, term } = record.entry
        const base = this.segments.at(-1)?.base
        const offset = sector * contentBytes + place.offset
        if (base === undefined || index <= base.index || index > this.table.lastIndex + 1)
          throw damaged(path, sector, `entry ${index} follows entry ${this.table.lastIndex}`)
        this.truncate(index - 1)
        this.table.push(term)
        this.table.setPlace(index, { segment, offset, length: place.end - place.offset })
        if (record.entry.kind === 'configuration')
          this.configurations.push({ index, configuration: record.entry.configuration })
        return
      }
      default:
        record satisfies never
    }
  }

  private truncate(index: Index): void {
    if (this.table.lastIndex > index) this.table.truncate(index)
    while ((this.configurations.at(-1)?.index ?? 0) > index) this.configurations.pop()
  }

  private startAnew(base: SnapshotPoint): void {
    for (const { file } of this.segments) {
      file.close()
      this.leftovers.push(file.path)
    }
    this.segments = []
    this.flaw = null
    this.table = new EntryTable(base.index)
    this.configurations = []
  }

  private missing(candidate: Candidate): DamagedError {
    return this.broken === null
      ? damaged(candidate.path, 0, 'segments before it are missing')
      : damaged(this.broken.path, this.broken.sector, 'a record that was flushed cannot be read')
  }
}

interface Place {
  readonly offset: number
  readonly end: number
}

interface Batch {
  readonly sequence: number
  readonly sectors: number
  readonly content: Buffer
  readonly places: readonly Place[]
}

/** How many sectors the batch at `sector` takes by its head; null when the head is not whole. */
function batchSectors(sectors: Sectors, sector: number, path: string): number | null {
  if (sector >= sectors.count || !sectors.isWhole(sector)) return null
  const head = decodeBatchHead(sectors.content(sector, 1))
  if (head === 'otherVersion')
    throw new DamagedError(
      `${path} was written by another version of Parley, which this one cannot read: start that version again`,
    )
  if (head === null || !sectors.isFramed(sector, head.sequence)) return null
  return sectorsFor(batchHeadBytes + head.recordBytes)
}

/** Null when any bit of the batch is not as it was written. */
function readBatch(sectors: Sectors, sector: number, path: string): Batch | null {
  const count = batchSectors(sectors, sector, path)
  if (count === null || sector + count > sectors.count) return null
  const content = sectors.content(sector, count)
  const head = decodeBatchHead(content)
  if (head === null || head === 'otherVersion') return null
  for (let i = 0; i < count; i += 1) if (!sectors.isFramed(sector + i, head.sequence)) return null
  const places: Place[] = []
  const limit = batchHeadBytes + head.recordBytes
  let offset = batchHeadBytes
  while (offset < limit) {
    const end = recordEnd(content, offset, limit)
    if (end === null) return null
    places.push({ offset, end })
    offset = end
  }
  return places.length === head.records ? { sequence: head.sequence, sectors: count, content, places } : null
}

/**
 * How many bytes of a torn batch lie from `sector` on; 0 when there are zeros only.
 *
 * @param sequence the batch that would be next; null when that is not known.
 * @throws DamagedError when something shows that this was flushed.
 */
function tornBytes(sectors: Sectors, sector: number, sequence: number | null, path: string): number {
  const first = firstNonZero(sectors, sector)
  if (first === null) return 0
  let written = 0
  let newest = 0
  for (let i = first; i < sectors.count; i += 1) {
    if (sectors.isZero(i)) continue
    written += 1
    if (!sectors.isWhole(i)) continue
    const found = sectors.sequence(i)
    const lowest = sequence ?? (newest === 0 ? found : newest)
    if (found > lowest) throw damaged(path, sector, 'a record that was flushed cannot be read')
    newest = found
  }
  if (sectors.isWhole(sector)) {
    const count = batchSectors(sectors, sector, path)
    if (count === null || sector + count > sectors.count)
      throw damaged(path, sector, 'the head of a batch is damaged')
    let whole = 0
    for (let i = 0; i < count; i += 1) if (sectors.isWhole(sector + i)) whole += 1
    if (whole === count)
      throw damaged(path, sector, 'a record cannot be read, though it was written to its end')
  }
  return written * sectorBytes
}

function firstNonZero(sectors: Sectors, from: number): number | null {
  for (let sector = from; sector < sectors.count; sector += 1) if (!sectors.isZero(sector)) return sector
  return null
}

function decode(batch: Batch, place: Place, path: string): LogRecord {
  try {
    return decodeRecord(batch.content, place.offset, place.end)
  } catch (error) {
    if (!(error instanceof MalformedError)) throw error
    throw new DamagedError(`${path}: ${error.message}. ${wayOut}`, { cause: error })
  }
}

const wayOut =
  'This replica stops, so that it neither serves nor votes with a hole in its memory. Every message that was acknowledged is on the other replicas: remove this replica ' +
  'from the replica set and add a new one with an empty folder. Delete or edit nothing in this folder by hand.'

/** The error for a damaged file. */
export function damaged(path: string, sector: number, what: string): DamagedError {
  return new DamagedError(`${path} is damaged at byte ${sector * sectorBytes}: ${what}. ${wayOut}`)
}
