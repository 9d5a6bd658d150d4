import type { Cancel, Clock } from '../base/clock.ts'
import type { Command } from '../gen/parley/v1/command.ts'
import { clusterCommand } from './commands.ts'
import type { Executed } from './types.ts'

export interface PresenceOptions {
  readonly self: number
  readonly incarnation: number
  readonly clock: Clock
  readonly execute: (command: Command, done: (result: Executed) => void) => void
}

/** What happens within so many milliseconds is told in one command. */
const togetherMs = 20
/**
 * A session that is gone for less is not told: its client reconnects here or elsewhere. When thousands move at once, as after a replica was killed, their going and coming would be told to
 * everybody, which is more work than all that they say, and keeps them from coming back soon. Who signs out is told at once.
 */
const goneMs = 10_000
const retryMs = 1000
const maxSessionsPerCommand = 5000

/** Keeps the replicated state informed of the sessions that are connected to this replica. */
export class Presence {
  private readonly options: PresenceOptions
  private readonly connected = new Set<number>()
  /** What the replicated state holds of this replica and incarnation. */
  private readonly told = new Set<number>()
  /** Sessions of which it is not known what the state holds: what was told may or may not have taken effect. */
  private readonly uncertain = new Set<number>()
  /** Sessions that may differ between the two. */
  private changed = new Set<number>()
  /** Sessions that are not connected any more, oldest first, with the moment when that is told. */
  private readonly leaving = new Map<number, number>()
  private cancelLeaving: Cancel | null = null
  /** The sessions of this replica's earlier incarnations have been cleared. */
  private cleared = false
  private underWay = false
  private cancel: Cancel | null = null
  private closed = false

  constructor(options: PresenceOptions) {
    this.options = options
  }

  start(): void {
    this.schedule(0)
  }

  /** Writes are possible again: what waits for that need not wait longer. */
  quorumGained(): void {
    if (this.cleared && this.changed.size === 0) return
    this.cancel?.()
    this.cancel = null
    this.schedule(0)
  }

  setConnected(session: number, connected: boolean): void {
    this.leaving.delete(session)
    if (connected) {
      this.connected.add(session)
      this.changed.add(session)
      this.schedule(togetherMs)
    } else {
      this.connected.delete(session)
      this.leaving.set(session, this.options.clock.monotonicMs() + goneMs)
      this.scheduleLeaving()
    }
  }

  /** The log says that the sessions connected through `replica`, up to this incarnation, are gone. When it was this very process, it was a mistake: tell them anew. */
  replicaGone(replica: number, incarnation: number): void {
    if (replica !== this.options.self || incarnation < this.options.incarnation) return
    this.told.clear()
    for (const session of this.connected) this.changed.add(session)
    this.schedule(togetherMs)
  }

  close(): void {
    this.closed = true
    this.cancel?.()
    this.cancelLeaving?.()
  }

  private scheduleLeaving(): void {
    if (this.closed || this.cancelLeaving !== null) return
    const [atMs] = this.leaving.values()
    if (atMs === undefined) return
    this.cancelLeaving = this.options.clock.after(atMs - this.options.clock.monotonicMs(), () => {
      this.cancelLeaving = null
      const nowMs = this.options.clock.monotonicMs()
      for (const [session, dueMs] of this.leaving) {
        if (dueMs > nowMs) break
        this.leaving.delete(session)
        this.changed.add(session)
      }
      this.schedule(togetherMs)
      this.scheduleLeaving()
    })
  }

  private schedule(delayMs: number): void {
    if (this.closed || this.underWay || this.cancel !== null) return
    this.cancel = this.options.clock.after(delayMs, () => {
      this.cancel = null
      this.tell()
    })
  }

  private tell(): void {
    const { self, incarnation } = this.options
    if (!this.cleared) {
      this.run(
        { $case: 'replicaGone', value: { replica: self, incarnation: incarnation - 1 } },
        (applied) => {
          this.cleared = applied
        },
      )
      return
    }
    const sessions: number[] = []
    for (const session of this.changed) {
      if (sessions.length >= maxSessionsPerCommand) break
      this.changed.delete(session)
      if (this.connected.has(session) !== this.told.has(session) || this.uncertain.has(session))
        sessions.push(session)
    }
    if (sessions.length === 0) return
    const connected = sessions.filter((session) => this.connected.has(session))
    const disconnected = sessions.filter((session) => !this.connected.has(session))
    const value = { replica: self, incarnation, connected, disconnected }
    // Noted before the outcome is known: a ReplicaGone that is applied after this command must find it here.
    for (const session of connected) this.told.add(session)
    for (const session of disconnected) this.told.delete(session)
    this.run({ $case: 'presence', value }, (applied) => {
      for (const session of sessions) {
        if (applied) this.uncertain.delete(session)
        else {
          // Telling the same again is harmless.
          this.uncertain.add(session)
          this.changed.add(session)
        }
      }
    })
  }

  private run(op: Command['op'], done: (applied: boolean) => void): void {
    this.underWay = true
    this.options.execute(clusterCommand(op), (result) => {
      this.underWay = false
      const applied = result.kind === 'applied'
      done(applied)
      if (!applied || this.changed.size > 0) this.schedule(applied ? togetherMs : retryMs)
    })
  }
}
