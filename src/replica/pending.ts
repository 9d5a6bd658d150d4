import type { Cancel, Clock } from '../base/clock.ts'
import { encode } from '../base/encode.ts'
import type { Applied } from '../chat/types.ts'
import { Command, CommandBatch } from '../gen/parley/v1/command.ts'
import type { Executed, Unavailable } from './types.ts'

/** What the commands that this replica takes in need of their surroundings. */
export interface PendingOptions {
  readonly origin: number
  readonly incarnation: number
  readonly clock: Clock
  /** What batches are stamped with: milliseconds since 1970. */
  readonly nowMs: () => number
  readonly propose: (batch: Uint8Array) => void
  /** Nothing has come back for a while, and nobody said that it may be lost: it should be proposed again, since that may have been lost too. */
  readonly onStuck: () => void
  /** Most batches proposed and not yet applied here. While so many are under way, what comes in waits and makes the next batch larger. */
  readonly maxUnderWay?: number
  /** Most commands, and roughly most bytes, in one batch. */
  readonly maxBatchCommands?: number
  readonly maxBatchBytes?: number
  /** Most commands, and roughly most bytes, that wait or are under way; above it new ones are refused. */
  readonly maxCommands?: number
  readonly maxBytes?: number
}

type Done = (result: Executed) => void

/** A command that is in no batch yet. */
interface Waiting {
  readonly command: Command
  readonly bytes: number
  readonly deadlineMs: number
  readonly done: Done
}

interface Batch {
  readonly number: number
  readonly encoded: Uint8Array
  readonly commands: number
  readonly bytes: number
  /** One for each command, in order; null once it was called. */
  readonly callbacks: (Done | null)[]
  readonly deadlinesMs: readonly number[]
  /** No deadline is earlier. */
  readonly earliestMs: number
}

/**
 * The commands that this replica took in and has not applied yet. They become batches, one log entry each, that are numbered and proposed in order and kept until they
 * have been applied here, so that they can be proposed again.
 */
export class PendingCommands {
  private readonly origin: number
  private readonly incarnation: number
  private readonly clock: Clock
  private readonly nowMs: () => number
  private readonly propose: (batch: Uint8Array) => void
  private readonly onStuck: () => void
  private readonly maxUnderWay: number
  private readonly maxBatchCommands: number
  private readonly maxBatchBytes: number
  private readonly maxCommands: number
  private readonly maxBytes: number

  private waiting: Waiting[] = []
  private batches: Batch[] = []
  private nextNumber = 1
  private totalCommands = 0
  private totalBytes = 0
  private sealScheduled = false
  private paused = false
  /** When something came back, or was proposed while nothing was under way; or what is under way was proposed again. */
  private progressMs = 0
  /** The same, but for what was proposed again without anybody saying that it was lost. */
  private settledMs = 0
  private cancelSweep: Cancel | null = null

  constructor(options: PendingOptions) {
    this.origin = options.origin
    this.incarnation = options.incarnation
    this.clock = options.clock
    this.nowMs = options.nowMs
    this.propose = options.propose
    this.onStuck = options.onStuck
    this.maxUnderWay = options.maxUnderWay ?? 4
    this.maxBatchCommands = options.maxBatchCommands ?? 2000
    this.maxBatchBytes = options.maxBatchBytes ?? 512 * 1024
    this.maxCommands = options.maxCommands ?? 50_000
    this.maxBytes = options.maxBytes ?? 64 * 1024 * 1024
  }

  /** Commands that wait or are under way. */
  get size(): number {
    return this.totalCommands
  }

  /** A quorum answers, but nothing comes back: its disks take nothing. Whatever came in now would only wait for its time to run out. */
  get isStalled(): boolean {
    return !this.paused && this.batches.length > 0 && this.clock.monotonicMs() - this.settledMs >= stalledMs
  }

  /** Takes a command in. Calls back once, never before this returns. */
  add(command: Command, timeoutMs: number, done: Done): void {
    const bytes = roughBytes(command)
    if (this.totalCommands >= this.maxCommands || this.totalBytes + bytes > this.maxBytes) {
      this.clock.soon(() => done({ kind: 'refused', why: 'overloaded' }))
      return
    }
    this.waiting.push({ command, bytes, deadlineMs: this.clock.monotonicMs() + timeoutMs, done })
    this.totalCommands += 1
    this.totalBytes += bytes
    this.scheduleSeal()
    this.scheduleSweep()
  }

  /**
   * A batch of this origin and incarnation has come back in the log; `applied` is null when the state machine skipped it. Calls back for its commands. To be called after
   * the transaction has committed.
   */
  settle(number: number, applied: readonly Applied[] | null): void {
    const first = this.batches[0]
    if (first === undefined || number < first.number) return
    // A skipped batch that is the oldest one under way was not skipped for a gap: everything before it has been applied, so it was itself, inside a snapshot that this
    // replica took over. One behind the oldest follows a gap and will be proposed again.
    if (applied === null && number !== first.number) return
    while (this.batches[0] !== undefined && this.batches[0].number < number)
      this.finish(this.batches.shift(), null)
    this.finish(this.batches.shift(), applied)
    this.progressMs = this.clock.monotonicMs()
    this.settledMs = this.progressMs
    this.scheduleSeal()
  }

  /** Proposes everything under way again, in order. */
  proposeAgain(): void {
    this.progressMs = this.clock.monotonicMs()
    if (this.paused) this.settledMs = this.progressMs
    this.paused = false
    for (const batch of this.batches) this.propose(batch.encoded)
    this.scheduleSeal()
  }

  /** Nothing is proposed until `proposeAgain`. */
  pause(): void {
    this.paused = true
  }

  /** Answers everything that has not been answered: what was never proposed did not happen, of the rest nobody knows yet. */
  giveUp(why: Unavailable): void {
    this.refuseWaiting(why)
    for (const batch of this.batches) {
      for (let i = 0; i < batch.callbacks.length; i += 1) {
        const callback = batch.callbacks[i]
        batch.callbacks[i] = null
        callback?.({ kind: 'outcomeUnknown', why })
      }
    }
  }

  /** No callback is called any more. */
  close(): void {
    this.cancelSweep?.()
    this.waiting = []
    this.batches = []
    this.totalCommands = 0
    this.totalBytes = 0
  }

  private scheduleSeal(): void {
    if (this.sealScheduled || this.waiting.length === 0) return
    this.sealScheduled = true
    this.clock.soon(() => {
      this.sealScheduled = false
      while (!this.paused && this.waiting.length > 0 && this.batches.length < this.maxUnderWay) this.seal()
    })
  }

  private seal(): void {
    let count = 0
    let bytes = 0
    let earliestMs = Infinity
    for (const item of this.waiting) {
      if (count > 0 && (count >= this.maxBatchCommands || bytes + item.bytes > this.maxBatchBytes)) break
      count += 1
      bytes += item.bytes
      earliestMs = Math.min(earliestMs, item.deadlineMs)
    }
    const items = count === this.waiting.length ? this.waiting : this.waiting.slice(0, count)
    this.waiting = count === this.waiting.length ? [] : this.waiting.slice(count)
    const number = this.nextNumber
    this.nextNumber += 1
    const encoded = encode(CommandBatch, {
      origin: this.origin,
      incarnation: this.incarnation,
      number,
      atMs: this.nowMs(),
      commands: items.map((item) => item.command),
    })
    if (this.batches.length === 0) {
      this.progressMs = this.clock.monotonicMs()
      this.settledMs = this.progressMs
    }
    this.batches.push({
      number,
      encoded,
      commands: count,
      bytes,
      callbacks: items.map((item) => item.done),
      deadlinesMs: items.map((item) => item.deadlineMs),
      earliestMs,
    })
    this.propose(encoded)
  }

  private finish(batch: Batch | undefined, applied: readonly Applied[] | null): void {
    if (batch === undefined) return
    this.totalCommands -= batch.commands
    this.totalBytes -= batch.bytes
    for (let i = 0; i < batch.callbacks.length; i += 1) {
      const callback = batch.callbacks[i]
      if (callback === null || callback === undefined) continue
      const result = applied?.[i]
      callback(
        result === undefined
          ? { kind: 'outcomeUnknown', why: 'deadline' }
          : { kind: 'applied', outcome: result.outcome, position: result.position },
      )
    }
  }

  private refuseWaiting(why: Unavailable): void {
    const { waiting } = this
    this.waiting = []
    for (const item of waiting) this.refuse(item, why)
  }

  private refuse(item: Waiting, why: Unavailable): void {
    this.totalCommands -= 1
    this.totalBytes -= item.bytes
    item.done({ kind: 'refused', why })
  }

  private scheduleSweep(): void {
    if (this.cancelSweep !== null) return
    this.cancelSweep = this.clock.after(sweepMs, () => {
      this.cancelSweep = null
      this.sweep(this.clock.monotonicMs())
      if (this.totalCommands > 0) this.scheduleSweep()
    })
  }

  private sweep(nowMs: number): void {
    if (this.batches.length > 0 && !this.paused && nowMs - this.progressMs >= stuckMs) {
      this.progressMs = nowMs
      this.onStuck()
    }
    if (this.isStalled) this.refuseWaiting('stalled')
    const late = this.waiting.filter((item) => item.deadlineMs <= nowMs)
    if (late.length > 0) {
      this.waiting = this.waiting.filter((item) => item.deadlineMs > nowMs)
      for (const item of late) this.refuse(item, 'deadline')
    }
    for (const batch of this.batches) {
      if (batch.earliestMs > nowMs) continue
      for (let i = 0; i < batch.callbacks.length; i += 1) {
        const callback = batch.callbacks[i]
        if (callback === null || (batch.deadlinesMs[i] ?? 0) > nowMs) continue
        batch.callbacks[i] = null
        callback?.({ kind: 'outcomeUnknown', why: 'deadline' })
      }
    }
  }
}

/** Deadlines are kept this exactly. */
const sweepMs = 50
/** Much longer than a batch takes, and than it takes to hear that it was lost. */
const stuckMs = 2000
/** Longer than a disk that is only busy takes. */
const stalledMs = 5000

/** An upper bound, near enough, of what the command takes in its batch: texts are up to three bytes for each UTF-16 unit. */
function roughBytes(command: Command): number {
  switch (command.op?.$case) {
    case 'sendMessage':
    case 'editMessage':
      return 128 + command.op.value.text.length * 3
    case 'saveDraft':
      return 256 + command.op.value.text.length * 3 + command.op.value.recipients.length * 64
    case 'presence':
      return 64 + (command.op.value.connected.length + command.op.value.disconnected.length) * 8
    case 'touchSessions':
      return 64 + command.op.value.sessions.length * 8
    default:
      return encode(Command, command).length
  }
}
