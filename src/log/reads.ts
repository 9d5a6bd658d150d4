import type { Index } from '../raft/types.ts'

interface Read {
  readonly deadlineMs: number
  readonly done: (index: Index | null) => void
}

/** A round that gets no answer in so many ticks is asked again: the message, or the leader, was lost. */
const patienceTicks = 10

/**
 * The read barriers that wait. All that were asked for while a round was under way share the next one, since a round proves something only about reads that began
 * before it. A read is answered when everything up to its index has been applied.
 */
export class Reads {
  private readonly ask: (id: number) => void
  private waiting: Read[] = []
  private round: { readonly id: number; readonly reads: readonly Read[]; ticks: number } | null = null
  private confirmed: { readonly index: Index; reads: readonly Read[] }[] = []
  private lastId = 0
  /** After a refusal the next round waits for a tick, or for news about the leader. */
  private pausing = false

  /** @param ask starts a round with the core. */
  constructor(ask: (id: number) => void) {
    this.ask = ask
  }

  get areWaiting(): boolean {
    return this.waiting.length > 0 || this.round !== null || this.confirmed.length > 0
  }

  add(read: Read): void {
    this.waiting.push(read)
  }

  /** Starts a round when reads wait and none is under way. */
  begin(): void {
    if (this.round !== null || this.waiting.length === 0 || this.pausing) return
    this.lastId += 1
    this.round = { id: this.lastId, reads: this.waiting, ticks: 0 }
    this.waiting = []
    this.ask(this.lastId)
  }

  answered(id: number, index: Index | null): void {
    const { round } = this
    if (round === null || round.id !== id) return
    this.round = null
    if (index !== null) {
      this.confirmed.push({ index, reads: round.reads })
      return
    }
    this.waiting = [...round.reads, ...this.waiting]
    this.pausing = true
  }

  applied(index: Index): void {
    if (this.confirmed.length === 0) return
    const ripe = this.confirmed.filter((group) => group.index <= index)
    if (ripe.length === 0) return
    this.confirmed = this.confirmed.filter((group) => group.index > index)
    for (const group of ripe) for (const read of group.reads) read.done(group.index)
  }

  /** Who leads has changed: a round that was lost or refused may succeed now. */
  retry(): void {
    this.pausing = false
    if (this.round === null) return
    this.waiting = [...this.round.reads, ...this.waiting]
    this.round = null
  }

  tick(nowMs: number): void {
    this.pausing = false
    if (this.round !== null) {
      this.round.ticks += 1
      if (this.round.ticks >= patienceTicks) this.retry()
    }
    const late: Read[] = []
    const inTime = (read: Read): boolean => {
      if (read.deadlineMs > nowMs) return true
      late.push(read)
      return false
    }
    this.waiting = this.waiting.filter(inTime)
    if (this.round !== null) this.round = { ...this.round, reads: this.round.reads.filter(inTime) }
    for (const group of this.confirmed) group.reads = group.reads.filter(inTime)
    for (const read of late) read.done(null)
  }

  /** Nothing will be confirmed any more. */
  end(): void {
    const reads = [
      ...this.waiting,
      ...(this.round?.reads ?? []),
      ...this.confirmed.flatMap((group) => group.reads),
    ]
    this.waiting = []
    this.round = null
    this.confirmed = []
    for (const read of reads) read.done(null)
  }
}
