import type { Entry, HardState, Index, LogReader, SnapshotPoint, Term } from '../raft/types.ts'

/**
 * The write-ahead log: entries, terms and votes. What is appended can be read at once through {@link LogReader}; it is on disk when the callback says so.
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

  /** Drops segments that hold nothing after `point.index`. The state up to there is safe elsewhere. */
  compact(point: SnapshotPoint): void

  /** Starts anew after `point`: what the log held is covered by a snapshot, or conflicts with it. `done` when that is on disk. */
  reset(point: SnapshotPoint, done: () => void): void

  close(done: () => void): void
}

export interface WalOptions {
  /** Default 16 MiB. */
  readonly segmentBytes: number
  /** Newest entries kept in memory for followers; default 16 MiB. */
  readonly cacheBytes: number
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

export type { Entry, HardState, Index, Term }
