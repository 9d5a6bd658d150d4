import type { Cancel, Clock } from '../base/clock.ts'
import { Reason } from '../gen/parley/v1/model.ts'
import type { ReadBackupRequest } from '../gen/parley/v1/service.ts'
import type { Replica, StateCopy } from '../replica/types.ts'
import { failed, type Result } from './calls.ts'
import { makeError } from './errors.ts'

/** Each takes as much room on the disk as the state, while it is read. */
const maxOpen = 2
/** A backup that nobody reads from for so long is given up. */
const idleMs = 60_000

interface OpenBackup {
  readonly copy: StateCopy
  readonly cancel: Cancel
}

/** Copies of the state that administrators read piece by piece. */
export class Backups {
  private readonly replica: Replica
  private readonly clock: Clock
  private readonly version: string
  private readonly open = new Map<string, OpenBackup>()
  private underWay = 0
  private lastNumber = 0

  /** @param version of Parley. */
  constructor(replica: Replica, clock: Clock, version: string) {
    this.replica = replica
    this.clock = clock
    this.version = version
  }

  async start(): Promise<Result> {
    if (this.open.size + this.underWay >= maxOpen)
      return failed(makeError(Reason.OVERLOADED, { retryAfterMs: 1000 }))
    this.underWay += 1
    try {
      const { clusterId, faultModel } = this.replica.status()
      // What comes while the copy is made may not be in it.
      const { position, nowMs } = this.replica
      const copy = await this.replica.takeCopy()
      this.lastNumber += 1
      // Two that are read at the same time are closed one by one, though they may share their bytes.
      const backupId = `${this.replica.state.self}-${this.lastNumber}-${copy.id}`
      this.keep(backupId, copy)
      return {
        $case: 'startBackup',
        value: {
          backupId,
          sizeBytes: copy.sizeBytes,
          sha256: Buffer.from(copy.id.slice(copy.id.indexOf('-') + 1), 'hex'),
          index: copy.index,
          position,
          atMs: nowMs,
          clusterId,
          faultModel,
          version: this.version,
        },
      }
    } catch (error) {
      if (isNoSpace(error)) return failed(makeError(Reason.NO_SPACE))
      throw error
    } finally {
      this.underWay -= 1
    }
  }

  async read({ backupId, offset, maxBytes }: ReadBackupRequest): Promise<Result> {
    const backup = this.open.get(backupId)
    if (backup === undefined) return failed(makeError(Reason.BACKUP_NOT_FOUND))
    this.keep(backupId, backup.copy)
    const data = await backup.copy.read(offset, maxBytes)
    if (offset + data.length >= backup.copy.sizeBytes) this.giveUp(backupId)
    return { $case: 'readBackup', value: { data } }
  }

  private keep(backupId: string, copy: StateCopy): void {
    this.open.get(backupId)?.cancel()
    this.open.set(backupId, { copy, cancel: this.clock.after(idleMs, () => this.giveUp(backupId)) })
  }

  private giveUp(backupId: string): void {
    const backup = this.open.get(backupId)
    this.open.delete(backupId)
    backup?.cancel()
    void backup?.copy.close()
  }
}

function isNoSpace(error: unknown): boolean {
  return (
    error instanceof Error &&
    (('code' in error && error.code === 'ENOSPC') || ('errcode' in error && error.errcode === 13))
  )
}
