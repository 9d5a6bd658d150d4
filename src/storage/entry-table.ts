import { assert } from '../base/assert.ts'
import type { Index, Term } from '../raft/types.ts'

/** Where an entry's record lies; null while it is only in memory. */
export interface RecordPlace {
  readonly segment: number
  /** In the content of the segment (frames left out). */
  readonly offset: number
  readonly length: number
}

const perSegment = 2 ** 32
const unwritten = -1

/** Terms and places of all entries that are in the log: 20 bytes each. */
export class EntryTable {
  private terms = new Float64Array(1024)
  private places = new Float64Array(1024)
  private lengths = new Uint32Array(1024)
  /** Of the arrays, the first element in use. */
  private head = 0
  private count = 0
  /** The index before the first entry. */
  private base: Index

  constructor(base: Index) {
    this.base = base
  }

  get lastIndex(): Index {
    return this.base + this.count
  }

  has(index: Index): boolean {
    return index > this.base && index <= this.base + this.count
  }

  term(index: Index): Term {
    return this.terms[this.at(index)] ?? 0
  }

  place(index: Index): RecordPlace | null {
    const at = this.at(index)
    const place = this.places[at] ?? unwritten
    if (place === unwritten) return null
    const segment = Math.floor(place / perSegment)
    return { segment, offset: place - segment * perSegment, length: this.lengths[at] ?? 0 }
  }

  isWritten(index: Index): boolean {
    return this.places[this.at(index)] !== unwritten
  }

  push(term: Term): void {
    if (this.head + this.count === this.terms.length) this.grow()
    const at = this.head + this.count
    this.terms[at] = term
    this.places[at] = unwritten
    this.count += 1
  }

  setPlace(index: Index, place: RecordPlace): void {
    const at = this.at(index)
    this.places[at] = place.segment * perSegment + place.offset
    this.lengths[at] = place.length
  }

  /** Forgets the entries after `index`. */
  truncate(index: Index): void {
    this.count = index - this.base
    assert(this.count >= 0, 'the log ends after its start', { index, base: this.base })
  }

  /** Forgets the entries up to `index`. */
  dropThrough(index: Index): void {
    const dropped = index - this.base
    assert(dropped >= 0 && dropped <= this.count, 'what is dropped is there', { index, base: this.base })
    this.head += dropped
    this.count -= dropped
    this.base = index
  }

  reset(base: Index): void {
    this.head = 0
    this.count = 0
    this.base = base
  }

  private at(index: Index): number {
    if (!this.has(index))
      assert(false, 'the entry is in the log', { index, base: this.base, count: this.count })
    return this.head + index - this.base - 1
  }

  private grow(): void {
    // What was dropped in front makes room before the arrays get larger.
    const size = this.count * 2 > this.terms.length ? this.terms.length * 2 : this.terms.length
    const from = this.head
    const to = this.head + this.count
    const terms = new Float64Array(size)
    terms.set(this.terms.subarray(from, to))
    const places = new Float64Array(size)
    places.set(this.places.subarray(from, to))
    const lengths = new Uint32Array(size)
    lengths.set(this.lengths.subarray(from, to))
    this.terms = terms
    this.places = places
    this.lengths = lengths
    this.head = 0
  }
}
