import type { Index } from './types.ts'

/** Bytes that are on their way, each up to an index at which they have arrived. */
export class Window {
  private readonly items: { readonly upTo: Index; readonly bytes: number }[] = []
  private total = 0

  get bytes(): number {
    return this.total
  }

  get count(): number {
    return this.items.length
  }

  add(upTo: Index, bytes: number): void {
    this.items.push({ upTo, bytes })
    this.total += bytes
  }

  /** What was to arrive at `index` or before has arrived. */
  release(index: Index): void {
    for (;;) {
      const first = this.items[0]
      if (first === undefined || first.upTo > index) return
      this.items.shift()
      this.total -= first.bytes
    }
  }

  clear(): void {
    this.items.length = 0
    this.total = 0
  }
}
