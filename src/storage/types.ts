import type { Clock } from '../base/clock.ts'
import type { Sql } from '../chat/sql.ts'
import type { Entry, HardState, Index, LogReader, SnapshotPoint } from '../raft/types.ts'

/**
 * The write-ahead log: entries, terms and votes. What is appended can be read at once through {@link LogReader}; it is on disk when the callback says so.
 *
 * `start` is the point before the oldest entry that is still in the files, with the configuration that held there. It is often older than what was compacted, and older
 * than the state at start: entries that were applied long ago are kept as long as their segment is, for replicas that lag a little. So after a restart
 * `start.index <= applied index <= lastIndex`.
 */
export interface WriteAheadLog extends LogReader {
  /** As it was recovered at start; the newest appended one afterwards. */
  readonly hardState: HardState
  readonly sizeBytes: number
  /** The disk has no room to preallocate: what is appended still fits, but not much more. Recovers by itself; `onFullChanged` tells. */
  readonly full: boolean

  /**
   * Appends entries (the first may overwrite a suffix) and the hard state. Everything that is appended while a flush is under way shares the next write and the next
   * flush. `done` is called when it is on disk, in order. A write or flush that fails is told once, to `onFailed`: the replica must stop, since nothing is known about
   * what is on disk (no retry of fsync).
   */
  append(
    write: { readonly hardState: HardState | null; readonly entries: readonly Entry[] },
    done: () => void,
  ): void

  /** Drops segments that hold nothing after `index`. The state up to there is safe elsewhere. */
  compact(index: Index): void

  /** Starts anew after `point`: what the log held is covered by a snapshot, or conflicts with it. `done` when that is on disk. */
  reset(point: SnapshotPoint, done: () => void): void

  close(done: () => void): void
}

export interface WalOptions {
  /** How large a segment file is made; a multiple of 512. Default 16 MiB. */
  readonly segmentBytes: number
  /** Newest entries kept in memory for followers; default 16 MiB. */
  readonly cacheBytes: number
  /** For trying again when the disk was full. */
  readonly clock: Clock
  /** Called once; the log takes nothing more. The message says what to do. */
  readonly onFailed: (error: Error) => void
  readonly onFullChanged: (full: boolean) => void
}

/** What recovery found. */
export interface Recovered {
  readonly log: WriteAheadLog
  /** Bytes of a torn tail that were cut off: a crash interrupted the last write, which nobody was told about. */
  readonly cutBytes: number
}

/** A damaged or impossible file: the replica must not serve or vote with it. The message says what to do. */
export class DamagedError extends Error {
  override readonly name = 'DamagedError'
}

/** `state.db`: what was applied. One connection on the replication thread; copies and checkpoints are made by a {@link StateWorker}. */
export interface StateStore {
  /** The database, for the state machine. Stays the same object when a snapshot is installed, but statements that were prepared before are then invalid. */
  readonly db: Sql
  /** The database file of this moment, for connections that only read (searches, long lists) elsewhere. Another one after a snapshot was installed. */
  readonly path: string
  /** The index of the newest applied entry; 0 = none. */
  readonly appliedIndex: number
  /** The engine's bytes that were stored with it; empty when there are none. */
  readonly engineState: Uint8Array
  readonly sizeBytes: number
  /** Of that, room that what was removed left: it is used again before the file grows. */
  readonly freeBytes: number
  /** Whether the disk has some room, as far as it knows: of a user's quota it does not. */
  readonly hasRoom: boolean

  begin(): void
  /** Stores both in the transaction and commits it. When it throws, call `rollback`; see `isOutOfSpace` and `isDatabaseError`. */
  commit(appliedIndex: number, engineState: Uint8Array): void
  /** Takes back the transaction, when there is one. */
  rollback(): void

  /**
   * Makes everything applied so far survive a power cut, off this thread; calls that wait share one checkpoint. Calls back with the applied index that is safe now.
   * Not called back when it fails: then `onFailed` is told, unless there is only no space, when it is tried again with the next commit or call.
   */
  checkpoint(done: (durableIndex: number) => void): void

  /**
   * A consistent copy. Callers at about the same time share one file, which is removed when all have closed it.
   *
   * @param atLeast the copy holds the state at this index or a later one. By default at the newest one that was reported as durable: the log up to there may be gone, so an
   * older copy could not be continued.
   */
  takeSnapshot(atLeast?: number): Promise<SnapshotSource>

  /**
   * Begins or continues taking over a copy. Only one is under way at a time: another offer throws away what came of the one before.
   *
   * @throws Error with `code` ENOSPC when there is no room for it.
   */
  receiveSnapshot(offer: SnapshotOffer): Promise<SnapshotSink>

  close(): Promise<void>
}

export interface StateStoreOptions {
  /** The replica's folder; it must exist and be this process's alone. */
  readonly folder: string
  readonly worker: StateWorker
  /** A larger state that is mostly free room is made small when it is opened. Default 64 MiB. */
  readonly compactAboveBytes?: number
  /** The state cannot be kept any more: the replica must stop. Called once. */
  readonly onFailed: (error: Error) => void
}

/** Does to files what takes long: in other threads or, in the simulator, in this one. */
export interface StateWorker {
  /** Jobs may overlap. */
  run(job: StateJob, done: (result: StateJobResult) => void): void
  /** The same, and keeps this thread waiting until the job has ended, but not longer than `forMs`. */
  runAndWait(job: StateJob, forMs: number, done: (result: StateJobResult) => void): void
  /** Fewer bytes than asked for at the end of the file. */
  read(path: string, offset: number, length: number): Promise<Uint8Array>
  /** Makes the file when there is none. Now and then what was written is flushed, so that little is left for the end. */
  write(path: string, offset: number, bytes: Uint8Array): Promise<void>
  /** Whether the file is there or not. Nobody reads it any more. */
  remove(path: string): Promise<void>
  close(): Promise<void>
}

export type StateJob =
  /** Flushes the write-ahead log of the database, and writes what it holds into the database as far as readers allow. */
  | { readonly kind: 'checkpoint'; readonly path: string }
  /** Copies the database as it is at one moment into a new file. */
  | { readonly kind: 'copy'; readonly path: string; readonly to: string }
  /** Flushes a copy that came from elsewhere, and checks that it is what was offered. */
  | { readonly kind: 'verify'; readonly path: string; readonly offer: SnapshotOffer }

export type StateJobResult =
  | { readonly kind: 'checkpointed' }
  | { readonly kind: 'copied'; readonly offer: SnapshotOffer; readonly engineState: Uint8Array }
  | { readonly kind: 'verified' }
  /** The copy is not what was offered. */
  | { readonly kind: 'rejected'; readonly reason: string }
  | { readonly kind: 'failed'; readonly error: Error }

export interface SnapshotOffer {
  /** Names the content: it holds its digest. */
  readonly id: string
  readonly index: number
  readonly sizeBytes: number
}

/** A copy of the state for another replica. */
export interface SnapshotSource extends SnapshotOffer {
  readonly engineState: Uint8Array
  /** Fewer bytes than asked for at the end. */
  read(offset: number, maxBytes: number): Promise<Uint8Array>
  close(): Promise<void>
}

/** A copy of another replica's state on its way in. */
export interface SnapshotSink {
  /** Bytes that are here already. */
  readonly offset: number
  /** `offset` is this sink's; bytes that are here already are passed over. */
  write(offset: number, bytes: Uint8Array): Promise<void>
  /** Checks the copy and makes it survive a power cut, beside the present state. Throws the copy away, and throws, when it is not what was offered. */
  finish(): Promise<void>
  /** Swaps the copy in for the present state: atomic, and quick. Afterwards every statement must be prepared anew. */
  install(): void
  abandon(): Promise<void>
}
