/** So many bits for so many ids: at most one in 270 of the others looks like one of them. */
const filterBits = 2 ** 20
const idsPerFilter = 2 ** 15

/** A Bloom filter (B. H. Bloom, CACM 13(7), 1970). Its two hashes are the last bytes of the ids, which are random. */
class Filter {
  private readonly bits = new Uint32Array(filterBits / 32)
  count = 0
  newestMs = 0

  add(id: Uint8Array, timeMs: number): void {
    this.set(bitAt(id, 10))
    this.set(bitAt(id, 13))
    this.count += 1
    if (timeMs > this.newestMs) this.newestMs = timeMs
  }

  mayHave(id: Uint8Array): boolean {
    return this.isSet(bitAt(id, 10)) && this.isSet(bitAt(id, 13))
  }

  clear(): void {
    this.bits.fill(0)
    this.count = 0
    this.newestMs = 0
  }

  private set(bit: number): void {
    this.bits[bit >>> 5] = (this.bits[bit >>> 5] ?? 0) | (1 << (bit & 31))
  }

  private isSet(bit: number): boolean {
    return ((this.bits[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0
  }
}

/**
 * Tells of most new ids (UUIDv7) that they are new, without a look into the table of outcomes. It knows the last 32,768 to 65,536 ids, and of older ones only until when
 * they reach: an id with an earlier time may be among them. A client whose clock is ahead makes the ids of the others look old; that costs the look, nothing else.
 */
export class RecentIds {
  private newer = new Filter()
  private older = new Filter()
  /** Every id of this time or later that was added is in one of the filters. */
  private fromMs = 0

  /** @param newestMs no id that was used before has a later time. */
  clear(newestMs: number): void {
    this.newer.clear()
    this.older.clear()
    this.fromMs = newestMs + 1
  }

  /** @param timeMs the time inside `id`. */
  add(id: Uint8Array, timeMs: number): void {
    if (this.newer.count === idsPerFilter) {
      const { older } = this
      this.fromMs = Math.max(this.fromMs, older.newestMs + 1)
      older.clear()
      this.older = this.newer
      this.newer = older
    }
    this.newer.add(id, timeMs)
  }

  /** False when `id` was certainly never added. */
  mayHave(id: Uint8Array, timeMs: number): boolean {
    return timeMs < this.fromMs || this.newer.mayHave(id) || this.older.mayHave(id)
  }
}

function bitAt(id: Uint8Array, offset: number): number {
  return (((id[offset] ?? 0) << 16) | ((id[offset + 1] ?? 0) << 8) | (id[offset + 2] ?? 0)) % filterBits
}
