import { readdirSync, renameSync, rmSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import type { Sql } from '../chat/sql.ts'
import { compactedCopy } from './compact-state.ts'
import { isOutOfFiles, isOutOfSpace } from './errors.ts'
import { jobError, Snapshots } from './snapshots.ts'
import { flushFolder } from './state-jobs.ts'
import { createMeta, readMeta, updateMetaSql } from './state-meta.ts'
import {
  DamagedError,
  type SnapshotOffer,
  type SnapshotSink,
  type SnapshotSource,
  type StateJobResult,
  type StateStore,
  type StateStoreOptions,
} from './types.ts'

/**
 * Above this SQLite's write-ahead log is written back, and again whenever it has grown by as much. All replicas come to it at the same time, and what is written back holds up
 * the disk for the log meanwhile: with 64 MiB on one disk for half a second, with 16 MiB for 60 ms.
 */
const largeWalBytes = 8 * 1024 * 1024
/** Above this the writer waits as long as it takes for it to be written back, a second at most. */
const hugeWalBytes = 256 * 1024 * 1024
/** When no more than this is left to write back, the writer waits for it, for a short while. */
const smallRestBytes = 2 * 1024 * 1024
const shortWaitMs = 4
/** After so many passes in a row it is left for later. */
const maxPasses = 4
const longWaitMs = 1000
/** Smaller databases are checked whole at start: that takes 0.2 s. */
const quickCheckBytes = 64 * 1024 * 1024
/** A larger file that is mostly free is made small at start. */
const largeStateBytes = 64 * 1024 * 1024
/** With less room on the disk a commit that has failed would fail again: what is applied between two commits may change some megabytes of pages. */
const leastRoomBytes = 4 * 1024 * 1024
const cacheKib = 12 * 1024
/** Of a new state; one that is there keeps its own. Messages are appended, and with SQLite's usual 4096 bytes a page holds a dozen of them. */
const newPageBytes = 8192

/**
 * Opens the state in `options.folder`, or makes an empty one.
 *
 * The database is `state-N.db`. Taking over a snapshot renames it to the name with the next N: that one step decides which state counts, and no -wal file of the old state
 * can be taken for one of the new. The highest N holds the state, all others are removed.
 *
 * @throws DamagedError when it cannot be read.
 */
export function openStateStore(options: StateStoreOptions): StateStore {
  return new SqliteStateStore(options)
}

class SqliteStateStore implements StateStore {
  readonly db: Sql
  path: string
  appliedIndex = 0
  engineState: Uint8Array = new Uint8Array(0)
  private readonly options: StateStoreOptions
  private readonly snapshots: Snapshots
  private generation: number
  private open: OpenDatabase

  private waiting: ((durableIndex: number) => void)[] = []
  private isCheckpointing = false
  private commits = 0
  /** The size of SQLite's log before the last pass, when what that left is to be written back after the next commit. */
  private restDue: number | null = null
  /** How large SQLite's log may become before it is written back. */
  private toleratedWalBytes = largeWalBytes
  private passes = 0
  /**
   * So many commits are worth an attempt without room: once all of SQLite's log is written back, a transaction that begins after that begins the log anew, in the room that it
   * has. The one that is open began before.
   */
  private worthwhile = 0
  private durableIndex = 0
  private isClosed = false
  private isFailed = false
  private onIdle: (() => void) | null = null

  constructor(options: StateStoreOptions) {
    this.options = options
    this.generation = newestGeneration(options.folder)
    this.path = this.pathOf(this.generation)
    this.snapshots = new Snapshots(options.folder, options.worker)
    this.open = openDatabase(this.path)
    this.readMeta()
    flushFolder(options.folder)
    removeOtherGenerations(options.folder, this.generation)
    this.compact()
    this.db = {
      exec: (sql) => this.open.db.exec(sql),
      prepare: (sql) => this.open.db.prepare(sql),
    }
  }

  get sizeBytes(): number {
    return fileBytes(this.path) + fileBytes(`${this.path}-wal`)
  }

  get freeBytes(): number {
    const { db } = this.open
    const pages = Number(db.prepare('PRAGMA freelist_count').get()?.['freelist_count'])
    return pages * Number(db.prepare('PRAGMA page_size').get()?.['page_size'])
  }

  get hasRoom(): boolean {
    if (this.worthwhile > 0) return true
    const { bavail, bsize } = statfsSync(this.options.folder)
    return bavail * bsize >= leastRoomBytes
  }

  begin(): void {
    this.open.begin.run()
  }

  commit(appliedIndex: number, engineState: Uint8Array): void {
    if (this.worthwhile > 0) this.worthwhile -= 1
    this.open.updateMeta.run(appliedIndex, engineState)
    this.open.commit.run()
    this.appliedIndex = appliedIndex
    this.engineState = engineState
    this.commits += 1
    if (this.isCheckpointing) return
    const { restDue } = this
    this.restDue = null
    // What waits is what there was no room for.
    if (this.waiting.length > 0) this.runCheckpoint()
    else if (restDue !== null) this.writeBackRest(restDue)
    else if (this.isWalTooLarge()) this.runCheckpoint()
  }

  rollback(): void {
    // SQLite has rolled back already after some errors.
    if (this.open.db.isTransaction) this.open.db.exec('ROLLBACK')
  }

  checkpoint(done: (durableIndex: number) => void): void {
    this.waiting.push(done)
    this.runCheckpoint()
  }

  takeSnapshot(atLeast = this.durableIndex): Promise<SnapshotSource> {
    return this.snapshots.take(this.path, atLeast)
  }

  receiveSnapshot(offer: SnapshotOffer): Promise<SnapshotSink> {
    return this.snapshots.receive(offer, (path) => this.swapIn(path))
  }

  async close(): Promise<void> {
    if (this.isClosed) return
    this.isClosed = true
    if (this.isCheckpointing) await new Promise<void>((resolve) => (this.onIdle = resolve))
    await this.options.worker.close()
    this.open.db.close()
  }

  private pathOf(generation: number): string {
    return join(this.options.folder, `state-${generation}.db`)
  }

  private readMeta(): void {
    const { appliedIndex, engineState } = readMeta(this.open.db)
    this.appliedIndex = appliedIndex
    this.engineState = engineState
  }

  private walBytes(): number {
    return fileBytes(`${this.path}-wal`)
  }

  /** @param waitMs so long this thread waits for it. */
  private runCheckpoint(waitMs = 0): void {
    if (this.isCheckpointing || this.isClosed || this.isFailed) return
    this.isCheckpointing = true
    const { path, appliedIndex, commits, waiting } = this
    const walBytes = this.walBytes()
    this.waiting = []
    const ended = (result: StateJobResult): void => {
      this.isCheckpointing = false
      this.onIdle?.()
      // After a snapshot was installed all of the old state is behind it, and durable with it.
      if (result.kind !== 'checkpointed' && path === this.path) {
        const error = jobError(result)
        this.waiting = [...waiting, ...this.waiting]
        if (!isOutOfSpace(error) && !isOutOfFiles(error)) this.fail(error)
        return
      }
      this.worthwhile = 2
      if (waiting.length > 0) this.durableIndex = appliedIndex
      for (const done of waiting) done(appliedIndex)
      if (this.waiting.length > 0) this.runCheckpoint()
      else if (this.commits > commits || this.open.db.isTransaction) this.restAfter(walBytes)
    }
    const job = { kind: 'checkpoint', path } as const
    if (waitMs === 0) this.options.worker.run(job, ended)
    else this.options.worker.runAndWait(job, waitMs, ended)
  }

  /** SQLite can begin its log anew only in a transaction that began after all was written back: so the writer waits for that between two transactions. */
  private restAfter(walBytesBefore: number): void {
    if (this.open.db.isTransaction) this.restDue = walBytesBefore
    else this.writeBackRest(walBytesBefore)
  }

  /** A copy that is being made keeps SQLite from beginning its log anew. */
  private isWalTooLarge(): boolean {
    const walBytes = this.walBytes()
    if (walBytes <= largeWalBytes) this.toleratedWalBytes = largeWalBytes
    return walBytes > this.toleratedWalBytes && !this.snapshots.isCopying
  }

  /**
   * SQLite begins its log anew with the first commit that finds all of it written back. Beside a writer that goes on something is left after every pass, less each time unless
   * the disk is too busy. When little is left the writer waits for the last pass, which flushes two files and should take a millisecond.
   */
  private writeBackRest(walBytesBefore: number): void {
    this.passes += 1
    const walBytes = this.walBytes()
    if (walBytes <= largeWalBytes || this.snapshots.isCopying) this.passes = 0
    else if (walBytes > hugeWalBytes) this.runCheckpoint(longWaitMs)
    else if (this.passes > maxPasses) {
      this.passes = 0
      this.toleratedWalBytes = walBytes + largeWalBytes
    } else this.runCheckpoint(walBytes - walBytesBefore <= smallRestBytes ? shortWaitMs : 0)
  }

  /** Gives back the room that removed messages have left. Only here, before anything else happens: so it costs nothing while people talk. */
  private compact(): void {
    const { folder, compactAboveBytes = largeStateBytes } = this.options
    try {
      const copy = compactedCopy(this.open.db, folder, compactAboveBytes)
      if (copy !== null) this.swapIn(copy)
    } catch (error) {
      throw damagedState(this.path, error instanceof Error ? error.message : String(error), error)
    }
  }

  /** The flushed file at `path` is the state from now on. */
  private swapIn(path: string): void {
    const old = this.open
    const generation = this.generation + 1
    renameSync(path, this.pathOf(generation))
    flushFolder(this.options.folder)
    this.generation = generation
    this.restDue = null
    this.path = this.pathOf(generation)
    this.open = openDatabase(this.path)
    this.readMeta()
    this.durableIndex = this.appliedIndex
    // It is not needed any more, so nothing of it need reach the disk.
    if (old.db.isTransaction) old.db.exec('ROLLBACK')
    old.db.exec('PRAGMA synchronous = OFF')
    old.db.close()
    removeOtherGenerations(this.options.folder, generation)
  }

  private fail(error: Error): void {
    if (this.isFailed || this.isClosed) return
    this.isFailed = true
    this.options.onFailed(
      new Error(
        `Cannot write the state back to ${this.path}: ${error.message}. This replica stops. Look at the disk and the system log. When the disk is sound, start this replica again; ` +
          'otherwise remove it from the replica set and add a new one with an empty folder.',
        { cause: error },
      ),
    )
  }
}

interface OpenDatabase {
  readonly db: DatabaseSync
  readonly begin: StatementSync
  readonly commit: StatementSync
  readonly updateMeta: StatementSync
}

function openDatabase(path: string): OpenDatabase {
  try {
    const db = new DatabaseSync(path, { timeout: 5000 })
    db.exec(`
      PRAGMA page_size = ${newPageBytes};
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = NORMAL;
      PRAGMA wal_autocheckpoint = 0;
      PRAGMA journal_size_limit = 0;
      PRAGMA cache_size = -${cacheKib};
      PRAGMA cache_spill = OFF;
      PRAGMA temp_store = MEMORY;
    `)
    checkDatabase(db, path)
    createMeta(db)
    return {
      db,
      begin: db.prepare('BEGIN IMMEDIATE'),
      commit: db.prepare('COMMIT'),
      updateMeta: db.prepare(updateMetaSql),
    }
  } catch (error) {
    if (error instanceof DamagedError) throw error
    if (isOutOfSpace(error))
      throw Object.assign(new Error(`ENOSPC: no room to open ${path}`, { cause: error }), { code: 'ENOSPC' })
    throw damagedState(path, error instanceof Error ? error.message : String(error), error)
  }
}

/** What can be seen at once, or in a fraction of a second. */
function checkDatabase(db: DatabaseSync, path: string): void {
  const pages = Number(db.prepare('PRAGMA page_count').get()?.['page_count'])
  const pageBytes = Number(db.prepare('PRAGMA page_size').get()?.['page_size'])
  const size = fileBytes(path) + fileBytes(`${path}-wal`)
  if (pages * pageBytes > size)
    throw damagedState(path, `it should have ${pages * pageBytes} bytes and has ${size}`)
  if (pages * pageBytes > quickCheckBytes) return
  const found = db.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
  if (found !== 'ok') throw damagedState(path, String(found))
}

function damagedState(path: string, what: string, cause?: unknown): DamagedError {
  return new DamagedError(
    `${path} is damaged: ${what}. This replica stops rather than answer from it. Every message that was acknowledged is on the other replicas: remove this replica from the ` +
      'replica set and add a new one with an empty folder. Delete or edit nothing in this folder by hand.',
    { cause },
  )
}

function fileBytes(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}

/** The files of the state: number and what SQLite adds. */
export const stateFilePattern = /^state-(\d{1,15})\.db(|-wal|-shm|-journal)$/

function newestGeneration(folder: string): number {
  let newest = 1
  for (const name of readdirSync(folder)) {
    const match = stateFilePattern.exec(name)
    if (match !== null && match[2] === '') newest = Math.max(newest, Number(match[1]))
  }
  return newest
}

function removeOtherGenerations(folder: string, generation: number): void {
  for (const name of readdirSync(folder)) {
    const match = stateFilePattern.exec(name)
    if (match !== null && Number(match[1]) !== generation) rmSync(join(folder, name))
  }
}
