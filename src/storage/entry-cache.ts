import type { Entry, Index } from '../raft/types.ts'

/** The newest entries, and all that are not on disk yet. */
export class EntryCache {
  private entries: Entry[] = []
  /** Elements before this one are no longer held. */
  private head = 0
  private bytes = 0
  /** Of the elements before `head`. */
  private forgottenBytes = 0
  private readonly limitBytes: number

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes
  }

  get(index: Index): Entry | undefined {
    const first = this.entries[this.head]
    return first === undefined || index < first.index
      ? undefined
      : this.entries[this.head + index - first.index]
  }

  push(entry: Entry): void {
    this.entries.push(entry)
    this.bytes += entryBytes(entry)
  }

  /** Forgets the entries after `index`. */
  truncate(index: Index): void {
    for (;;) {
      const last = this.entries.length > this.head ? this.entries.at(-1) : undefined
      if (last === undefined || last.index <= index) return
      this.entries.pop()
      this.bytes -= entryBytes(last)
    }
  }

  /** Forgets the oldest entries above the limit, as long as `mayForget`. */
  trim(mayForget: (index: Index) => boolean): void {
    while (this.bytes > this.limitBytes) {
      const first = this.entries[this.head]
      if (first === undefined || !mayForget(first.index)) break
      this.forget(first)
    }
    this.dropForgotten()
  }

  /** Forgets the entries up to `index`. */
  dropThrough(index: Index): void {
    for (;;) {
      const first = this.entries[this.head]
      if (first === undefined || first.index > index) break
      this.forget(first)
    }
    this.dropForgotten()
  }

  clear(): void {
    this.entries = []
    this.head = 0
    this.bytes = 0
    this.forgottenBytes = 0
  }

  private forget(first: Entry): void {
    const bytes = entryBytes(first)
    this.bytes -= bytes
    this.forgottenBytes += bytes
    this.head += 1
  }

  /** Not one by one, which would copy the array each time; but what is forgotten is still in memory. */
  private dropForgotten(): void {
    if (this.head < this.entries.length && this.forgottenBytes < this.limitBytes / 4) return
    this.entries = this.entries.slice(this.head)
    this.head = 0
    this.forgottenBytes = 0
  }
}

/** What an entry takes in memory, roughly. */
export function entryBytes(entry: Entry): number {
  return 100 + (entry.kind === 'data' ? entry.data.length : 0)
}
