import type { Cancel, Clock } from '../base/clock.ts'
import { newestVersion } from '../base/version.ts'
import type { ChatQueries } from '../chat/queries.ts'
import type { Command } from '../gen/parley/v1/command.ts'
import type { LogStatus } from '../log/port.ts'
import { clusterCommand } from './commands.ts'
import type { Executed } from './types.ts'

export interface HousekeepingOptions {
  readonly clock: Clock
  readonly queries: () => ChatQueries
  readonly status: () => LogStatus
  /** By the cluster's clock. */
  readonly nowMs: () => number
  /** The version (src/base/version.ts) that the cluster uses. */
  readonly versionInUse: () => number
  readonly execute: (command: Command, done: (result: Executed) => void) => void
  readonly lookAtClock: () => void
}

const tickMs = 2000
/** The sessions of a replica that cannot be reached for so long are shown as gone: until then most have come back through another one, and nobody need be told anything. */
const unreachableMs = 20_000
/** Replicas that can write have told by then what their sessions did while they could not. */
const endSessionsMs = 15_000
/** With the tick, and with what a command takes, well below `activityToldWithinMs` of src/chat/presence.ts. */
const touchedTellMs = 12_000
/** Between two commands that remove messages for their age: others come first. */
const expirePauseMs = 50
const maxSessionsPerCommand = 10_000

/** What has to be done now and then: by every replica, or by the one that leads. */
export class Housekeeping {
  private readonly options: HousekeepingOptions
  private readonly touched = new Set<number>()
  private touchedToldMs: number
  private sessionsEndedMs: number
  /** As the policy said at the last tick of who leads. */
  private isIdleLogoutOn = false
  /** Since when each unreachable replica has been so. */
  private readonly unreachableSinceMs = new Map<number, number>()
  private readonly underWay = new Set<string>()
  private cancel: Cancel | null = null
  private cancelExpire: Cancel | null = null

  constructor(options: HousekeepingOptions) {
    this.options = options
    this.touchedToldMs = options.clock.monotonicMs()
    this.sessionsEndedMs = this.touchedToldMs
  }

  start(): void {
    this.cancel = this.options.clock.after(tickMs, () => {
      this.tick(this.options.clock.monotonicMs())
      this.start()
    })
  }

  touch(session: number): void {
    this.touched.add(session)
  }

  close(): void {
    this.cancel?.()
    this.cancelExpire?.()
  }

  private tick(nowMs: number): void {
    this.options.lookAtClock()
    const status = this.options.status()
    if (status.available) this.tellTouched(nowMs)
    if (!status.available || status.leader !== status.self) {
      this.unreachableSinceMs.clear()
      // Who leads anew ends none at once: all replicas tell first what was done while nothing could be written.
      this.sessionsEndedMs = nowMs
      return
    }
    const wasIdleLogoutOn = this.isIdleLogoutOn
    this.isIdleLogoutOn = this.options.queries().policy().idleLogoutS > 0
    // Without it replicas have told seldom what was done: now all of them tell first. Nothing is put off when only the time is changed.
    if (this.isIdleLogoutOn && !wasIdleLogoutOn) this.sessionsEndedMs = nowMs
    this.raiseVersion(status)
    this.clearLostReplicas(status, nowMs)
    this.expireMessages()
    if (nowMs - this.sessionsEndedMs >= endSessionsMs) {
      this.sessionsEndedMs = nowMs
      if (this.options.queries().sessionsDue(this.options.nowMs()))
        this.run('endSessions', { $case: 'endSessions', value: {} })
    }
  }

  private tellTouched(nowMs: number): void {
    if (this.touched.size === 0 || this.underWay.has('touchSessions')) return
    // Only an idle log-out needs to know early; otherwise it just shows in the list of sessions.
    const everyMs = this.options.queries().policy().idleLogoutS === 0 ? 300_000 : touchedTellMs
    if (nowMs - this.touchedToldMs < everyMs) return
    const sessions = [...this.touched].slice(0, maxSessionsPerCommand)
    for (const session of sessions) this.touched.delete(session)
    // The next ones at once, if these were not all.
    if (this.touched.size === 0) this.touchedToldMs = nowMs
    this.run('touchSessions', { $case: 'touchSessions', value: { sessions } }, (result) => {
      if (result.kind !== 'applied') for (const session of sessions) this.touched.add(session)
    })
  }

  /** Somebody leads, or has been met. A command that waits for the version should not wait for the next tick as well. */
  statusChanged(): void {
    const status = this.options.status()
    if (status.available && status.leader === status.self) this.raiseVersion(status)
  }

  /** What all replicas know may be used from now on. One that has not been met yet is waited for: it may be an older one. */
  private raiseVersion({ commonVersion }: LogStatus): void {
    const version = Math.min(newestVersion, commonVersion)
    if (version > this.options.versionInUse())
      this.run('raiseVersion', { $case: 'raiseVersion', value: { version } })
  }

  private clearLostReplicas(status: LogStatus, nowMs: number): void {
    const lost = new Set<number>()
    for (const member of status.members) {
      if (member.reachable || member.id === status.self) {
        this.unreachableSinceMs.delete(member.id)
        continue
      }
      const sinceMs = this.unreachableSinceMs.get(member.id) ?? nowMs
      this.unreachableSinceMs.set(member.id, sinceMs)
      if (nowMs - sinceMs >= unreachableMs) lost.add(member.id)
    }
    const members = new Set(status.members.map(({ id }) => id))
    for (const { replica, incarnation } of this.options.queries().presentReplicas()) {
      // One that was removed is gone, whether it could say so or not.
      if (lost.has(replica) || !members.has(replica))
        this.run(`gone ${replica}`, { $case: 'replicaGone', value: { replica, incarnation } })
    }
  }

  /** In small steps, one after another, until nothing is due any more. */
  private expireMessages(): void {
    const { clock, nowMs, queries, status, versionInUse } = this.options
    const { available, leader, self } = status()
    if (versionInUse() < 2 || !available || leader !== self || !queries().isExpiryDue(nowMs())) return
    this.run('expireMessages', { $case: 'expireMessages', value: {} }, (result) => {
      this.cancelExpire?.()
      if (result.kind === 'applied')
        this.cancelExpire = clock.after(expirePauseMs, () => this.expireMessages())
    })
  }

  /** One command of each kind at a time. One that fails is due again at a later tick. */
  private run(kind: string, op: Command['op'], done?: (result: Executed) => void): void {
    if (this.underWay.has(kind)) return
    this.underWay.add(kind)
    this.options.execute(clusterCommand(op), (result) => {
      this.underWay.delete(kind)
      done?.(result)
    })
  }
}
