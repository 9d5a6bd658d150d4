import type { Configuration, Entry, Index, SnapshotPoint, Term } from '../raft/types.ts'

export interface CompactionOptions {
  /** The log is shortened when it has grown by so much since the last time. Default 64 MiB and 100,000 entries. */
  readonly afterBytes: number
  readonly afterEntries: number
  /** So much of the newest log is kept for followers that fall behind for a while. Default 32 MiB. */
  readonly keepBytes: number
  /** Above this size nothing is kept for followers that lag further. Default 512 MiB. */
  readonly mostBytes: number
}

export const defaultCompaction: CompactionOptions = {
  afterBytes: 64 * 1024 * 1024,
  afterEntries: 100_000,
  keepBytes: 32 * 1024 * 1024,
  mostBytes: 512 * 1024 * 1024,
}

/** So many bytes apart are the places at which the log can be cut. */
const markBytes = 1024 * 1024

/** A checkpoint that is not done after so long failed, for want of space perhaps: another is asked for. */
const checkpointPatienceMs = 60_000

/** Decides when the log is to be shortened, and up to where. */
export class Compaction {
  private readonly options: CompactionOptions
  /** How much log had been written when the entry `index` had been. */
  private readonly marks: { readonly index: Index; readonly bytes: number }[] = []
  private bytes = 0
  private newest: Index
  /** The configurations in force, each from `index` on, up to the newest applied one. */
  private readonly configurations: { readonly index: Index; readonly configuration: Configuration }[]
  private sinceIndex: Index
  private sinceBytes = 0
  private checkpointSinceMs: number | null = null

  constructor(options: CompactionOptions, applied: SnapshotPoint, lastIndex: Index) {
    this.options = options
    this.newest = lastIndex
    this.sinceIndex = lastIndex
    this.configurations = [{ index: applied.index, configuration: applied.configuration }]
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
    if (before === undefined || this.bytes - before.bytes >= markBytes)
      this.marks.push({ index: last.index, bytes: this.bytes })
  }

  configured(index: Index, configuration: Configuration): void {
    this.configurations.push({ index, configuration })
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
    readonly termAt: (index: Index) => Term | null
  }): SnapshotPoint | null {
    this.checkpointSinceMs = null
    this.sinceIndex = this.newest
    this.sinceBytes = this.bytes
    const { keepBytes, mostBytes } = this.options
    const kept = this.marks.findLast((mark) => mark.bytes <= this.bytes - keepBytes)
    if (kept === undefined) return null
    const needed = facts.sizeBytes > mostBytes ? Number.POSITIVE_INFINITY : facts.neededFrom
    const index = Math.min(facts.durableIndex, kept.index, needed)
    if (index <= facts.startIndex) return null
    const term = facts.termAt(index)
    // Before the first known configuration lies what was there at start: it goes when more has come.
    const position = this.configurations.findLastIndex((known) => known.index <= index)
    const known = this.configurations[position]
    if (term === null || known === undefined) return null
    this.configurations.splice(0, position)
    const cut = this.marks.findIndex((mark) => mark.index > index)
    this.marks.splice(0, cut === -1 ? this.marks.length : cut)
    return { index, term, configuration: known.configuration }
  }

  /** The log starts anew behind `point`. */
  restarted(point: SnapshotPoint): void {
    this.checkpointSinceMs = null
    this.marks.length = 0
    this.configurations.splice(0, this.configurations.length, {
      index: point.index,
      configuration: point.configuration,
    })
    this.newest = point.index
    this.sinceIndex = point.index
    this.sinceBytes = this.bytes
  }
}
