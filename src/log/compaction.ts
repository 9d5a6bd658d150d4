import type { Entry, Index } from '../raft/types.ts'

export interface CompactionOptions {
  /** The log is shortened when it has grown by so much since the last time. Default 64 MiB and 100,000 entries. */
  readonly afterBytes: number
  readonly afterEntries: number
  /** So much of the newest log is kept for followers that fall behind for a while. Default 32 MiB. */
  readonly keepBytes: number
  /** Above this size nothing is kept for followers that lag further. Default 512 MiB. */
  readonly mostBytes: number
  /** So many bytes apart are the places at which the log can be cut. Default 1 MiB. */
  readonly markBytes: number
}

export const defaultCompaction: CompactionOptions = {
  afterBytes: 64 * 1024 * 1024,
  afterEntries: 100_000,
  keepBytes: 32 * 1024 * 1024,
  mostBytes: 512 * 1024 * 1024,
  markBytes: 1024 * 1024,
}

/** A checkpoint that is not done after so long failed, for want of space perhaps: another is asked for. */
const checkpointPatienceMs = 60_000

/** Decides when the log is to be shortened, and up to where. */
export class Compaction {
  private readonly options: CompactionOptions
  /** How much log had been written when the entry `index` had been. */
  private readonly marks: { readonly index: Index; readonly bytes: number }[] = []
  private bytes = 0
  private newest: Index
  private sinceIndex: Index
  private sinceBytes = 0
  private checkpointSinceMs: number | null = null

  /** @param log what is there at start: where in it an entry lies is estimated, as if all were of the same size. */
  constructor(
    options: CompactionOptions,
    log: { readonly startIndex: Index; readonly lastIndex: Index; readonly sizeBytes: number },
  ) {
    this.options = options
    this.newest = log.lastIndex
    this.sinceIndex = log.startIndex
    this.bytes = log.sizeBytes
    const marks = Math.floor(log.sizeBytes / options.markBytes)
    for (let i = 1; i <= marks; i += 1) {
      const part = i / marks
      const index = log.startIndex + Math.floor((log.lastIndex - log.startIndex) * part)
      this.marks.push({ index, bytes: log.sizeBytes * part })
    }
  }

  written(entries: readonly Entry[]): void {
    for (const entry of entries) this.bytes += entry.kind === 'data' ? entry.data.length + 16 : 256
    const last = entries.at(-1)
    if (last === undefined) return
    const first = entries[0]?.index ?? last.index
    // An overwritten suffix: its marks stand for entries that are gone.
    while ((this.marks.at(-1)?.index ?? 0) >= first) this.marks.pop()
    this.newest = last.index
    const before = this.marks.at(-1)
    if (before === undefined || this.bytes - before.bytes >= this.options.markBytes)
      this.marks.push({ index: last.index, bytes: this.bytes })
  }

  /** Whether a checkpoint should be made now, so that the log can be shortened. Once it says so, `checked` or `restarted` must follow. */
  due(nowMs: number): boolean {
    if (this.checkpointSinceMs !== null && nowMs - this.checkpointSinceMs < checkpointPatienceMs) return false
    const { afterBytes, afterEntries } = this.options
    if (this.bytes - this.sinceBytes < afterBytes && this.newest - this.sinceIndex < afterEntries)
      return false
    this.checkpointSinceMs = nowMs
    return true
  }

  /**
   * The state is safe up to `durableIndex`: up to where may the log be dropped? Null: nothing.
   *
   * @param neededFrom the entry after this one is still needed by a follower that is on its way.
   */
  checked(facts: {
    readonly durableIndex: Index
    readonly neededFrom: Index
    readonly startIndex: Index
    readonly sizeBytes: number
  }): Index | null {
    this.checkpointSinceMs = null
    this.sinceIndex = this.newest
    this.sinceBytes = this.bytes
    const { keepBytes, mostBytes } = this.options
    const kept = this.marks.findLast((mark) => mark.bytes <= this.bytes - keepBytes)
    if (kept === undefined) return null
    const needed = facts.sizeBytes > mostBytes ? Number.POSITIVE_INFINITY : facts.neededFrom
    const index = Math.min(facts.durableIndex, kept.index, needed)
    if (index <= facts.startIndex) return null
    const cut = this.marks.findIndex((mark) => mark.index > index)
    this.marks.splice(0, cut === -1 ? this.marks.length : cut)
    return index
  }

  /** The log starts anew behind `index`. */
  restarted(index: Index): void {
    this.checkpointSinceMs = null
    this.marks.length = 0
    this.newest = index
    this.sinceIndex = index
    this.sinceBytes = this.bytes
  }
}
