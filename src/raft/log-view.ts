import { assert } from '../base/assert.ts'
import type { Entry, Index, LogReader, SnapshotPoint, Term } from './types.ts'

/** The whole log: what the host holds, and after it (or over its end) what was not handed out to be written yet. */
export class LogView {
  private readonly reader: LogReader
  /** Contiguous, up to the end of the log. What the reader holds from the first one's index on is overwritten. */
  private unwritten: Entry[] = []
  private last: { readonly index: Index; readonly term: Term }

  constructor(reader: LogReader) {
    this.reader = reader
    const term = reader.termAt(reader.lastIndex)
    assert(term !== null, 'the log does not know the term of its last entry', { lastIndex: reader.lastIndex })
    this.last = { index: reader.lastIndex, term }
  }

  /** The point before the first entry. */
  get start(): SnapshotPoint {
    return this.reader.start
  }

  get lastIndex(): Index {
    return this.last.index
  }

  get lastTerm(): Term {
    return this.last.term
  }

  /** The term of the entry at `index`, or of the start point; null when it is not there. */
  termAt(index: Index): Term | null {
    if (index > this.last.index) return null
    if (index === this.last.index) return this.last.term
    const first = this.unwritten[0]
    if (first === undefined || index < first.index) return this.reader.termAt(index)
    return this.unwritten[index - first.index]?.term ?? null
  }

  /** Entries from `from` on, at most to the end of the log, at most `maxBytes` of data but at least one entry. */
  entries(from: Index, maxBytes: number): readonly Entry[] {
    assert(from > this.start.index && from <= this.last.index, 'entries that the log does not hold', {
      from,
      start: this.start.index,
      last: this.last.index,
    })
    const unwrittenFrom = this.unwritten[0]?.index ?? this.last.index + 1
    const found = from < unwrittenFrom ? [...this.reader.entries(from, unwrittenFrom - 1, maxBytes)] : []
    let bytes = 0
    for (const entry of found) bytes += entryBytes(entry)
    while (from + found.length >= unwrittenFrom) {
      const entry = this.unwritten[from + found.length - unwrittenFrom]
      if (entry === undefined) break
      bytes += entryBytes(entry)
      if (found.length > 0 && bytes > maxBytes) break
      found.push(entry)
    }
    assertContiguous(found, from)
    return found
  }

  /** The largest index from `low` to `high` whose term is at most `term`; `low` - 1 when there is none. Terms never fall along the log. */
  lastIndexWithTermUpTo(term: Term, low: Index, high: Index): Index {
    let [below, above] = [low - 1, Math.min(high, this.last.index)]
    while (below < above) {
      const middle = Math.ceil((below + above) / 2)
      const found = this.termAt(middle)
      assert(found !== null, 'a hole in the log', { index: middle, start: this.start.index })
      if (found <= term) below = middle
      else above = middle - 1
    }
    return below
  }

  /** Puts `entries` at their indexes; what was there from the first one's on is gone. */
  append(entries: readonly Entry[]): void {
    const first = entries[0]
    const last = entries.at(-1)
    if (first === undefined || last === undefined) return
    assert(first.index <= this.last.index + 1 && first.index > this.start.index, 'a gap in the log', {
      first: first.index,
      last: this.last.index,
      start: this.start.index,
    })
    assertContiguous(entries, first.index)
    assert(first.term >= (this.termAt(first.index - 1) ?? 0), 'terms fall along the log', {
      first: first.index,
    })
    const unwrittenFrom = this.unwritten[0]?.index ?? first.index
    this.unwritten =
      first.index <= unwrittenFrom
        ? [...entries]
        : [...this.unwritten.slice(0, first.index - unwrittenFrom), ...entries]
    this.last = { index: last.index, term: last.term }
  }

  /** What is to be written now. The reader must hold it before anything else is asked. */
  takeUnwritten(): readonly Entry[] {
    const entries = this.unwritten
    this.unwritten = []
    return entries
  }

  /** The host has begun the log anew after `point`. */
  restart(point: SnapshotPoint): void {
    assert(
      this.reader.start.index === point.index && this.reader.lastIndex === point.index,
      'the log does not start at the snapshot',
      { point: point.index, start: this.reader.start.index, last: this.reader.lastIndex },
    )
    this.unwritten = []
    this.last = { index: point.index, term: point.term }
  }
}

/** What an entry counts for flow control: the bytes of its data. */
export function entryBytes(entry: Entry): number {
  return entry.kind === 'data' ? entry.data.length : 0
}

function assertContiguous(entries: readonly Entry[], from: Index): void {
  let term = 0
  for (const [offset, entry] of entries.entries()) {
    assert(entry.index === from + offset, 'entries are not contiguous', {
      index: entry.index,
      expected: from + offset,
    })
    assert(entry.term >= term, 'terms fall along the log', { index: entry.index })
    term = entry.term
  }
}
