import type { Clock } from '../base/clock.ts'
import type { ReplicatedLog } from '../log/port.ts'
import type { Unavailable } from './types.ts'

type Done = (failure: Unavailable | null) => void

interface Waiting {
  /** The index, or the position, that must have been applied. */
  readonly target: number
  readonly deadlineMs: number
  readonly done: Done
}

/** Reads that wait until this replica has applied enough to answer them. */
export class ReadWaiters {
  private readonly clock: Clock
  private readonly log: ReplicatedLog
  private forIndex: Waiting[] = []
  private forPosition: Waiting[] = []
  /** Reads that began in this turn of the event loop: they share one barrier. */
  private begun: { readonly timeoutMs: number; readonly done: Done }[] = []
  private appliedIndex = 0
  private sweepScheduled = false
  private closed = false

  constructor(clock: Clock, log: ReplicatedLog) {
    this.clock = clock
    this.log = log
  }

  linearizable(appliedIndex: number, timeoutMs: number, done: Done): void {
    this.appliedIndex = Math.max(this.appliedIndex, appliedIndex)
    this.begun.push({ timeoutMs, done })
    if (this.begun.length === 1) this.clock.soon(() => this.askBarrier())
  }

  atPosition(minPosition: number, position: number, timeoutMs: number, done: Done): void {
    if (minPosition <= position) {
      this.clock.soon(() => done(null))
      return
    }
    const deadlineMs = this.clock.monotonicMs() + timeoutMs
    this.forPosition.push({ target: minPosition, deadlineMs, done })
    this.scheduleSweep()
  }

  /** The replica has applied up to here. */
  advanced(appliedIndex: number, position: number): void {
    this.appliedIndex = appliedIndex
    const index = split(this.forIndex, (read) => read.target <= appliedIndex)
    const positions = split(this.forPosition, (read) => read.target <= position)
    this.forIndex = index.rest
    this.forPosition = positions.rest
    for (const read of index.chosen) read.done(null)
    for (const read of positions.chosen) read.done(null)
  }

  giveUp(why: Unavailable): void {
    const waiting = this.forIndex
    this.forIndex = []
    for (const read of waiting) read.done(why)
  }

  close(): void {
    this.closed = true
    const waiting = [...this.forIndex, ...this.forPosition]
    this.forIndex = []
    this.forPosition = []
    for (const read of waiting) read.done('draining')
  }

  private askBarrier(): void {
    const reads = this.begun
    this.begun = []
    if (this.closed) {
      for (const read of reads) read.done('draining')
      return
    }
    const nowMs = this.clock.monotonicMs()
    const timeoutMs = Math.max(...reads.map((read) => read.timeoutMs))
    this.log.readBarrier(timeoutMs, (index) => {
      for (const read of reads) {
        if (index === null) read.done('noQuorum')
        else if (index <= this.appliedIndex) read.done(null)
        else this.forIndex.push({ target: index, deadlineMs: nowMs + read.timeoutMs, done: read.done })
      }
      if (this.forIndex.length > 0) this.scheduleSweep()
    })
  }

  private scheduleSweep(): void {
    if (this.sweepScheduled) return
    this.sweepScheduled = true
    this.clock.after(sweepMs, () => {
      this.sweepScheduled = false
      const nowMs = this.clock.monotonicMs()
      const index = split(this.forIndex, (read) => read.deadlineMs <= nowMs)
      const positions = split(this.forPosition, (read) => read.deadlineMs <= nowMs)
      this.forIndex = index.rest
      this.forPosition = positions.rest
      if (this.forIndex.length + this.forPosition.length > 0) this.scheduleSweep()
      for (const read of [...index.chosen, ...positions.chosen]) read.done('deadline')
    })
  }
}

/** Deadlines are kept this exactly. */
const sweepMs = 50

/** Taken apart before any of them is called back: a callback may begin another read. */
function split(
  waiting: Waiting[],
  choose: (read: Waiting) => boolean,
): { readonly chosen: readonly Waiting[]; readonly rest: Waiting[] } {
  if (waiting.length === 0) return { chosen: [], rest: waiting }
  const chosen: Waiting[] = []
  const rest: Waiting[] = []
  for (const read of waiting) (choose(read) ? chosen : rest).push(read)
  return { chosen, rest }
}
