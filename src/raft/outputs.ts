import type { ReplicaId } from '../base/ids.ts'
import type { ChangeAnswer, Entry, HardState, Index, Message, Ready, SnapshotPoint, Term } from './types.ts'

/** What the core has to say since the last Ready. */
export class Outputs {
  send: Message[] = []
  sendAfterWrite: Message[] = []
  reads: { readonly id: number; readonly index: Index | null }[] = []
  changes: ChangeAnswer[] = []
  snapshotsWanted: ReplicaId[] = []
  snapshotOffered: {
    readonly from: ReplicaId
    readonly term: Term
    readonly point: SnapshotPoint
  } | null = null
  regressed: ReplicaId[] = []
  diverged: ReplicaId[] = []
  private lastHardState: HardState
  private lastCommitIndex: Index

  constructor(hardState: HardState, commitIndex: Index) {
    this.lastHardState = hardState
    this.lastCommitIndex = commitIndex
  }

  /** Hands out everything and begins anew; null when there is nothing. */
  take(now: {
    readonly hardState: HardState
    readonly entries: readonly Entry[]
    readonly commitIndex: Index
    readonly interrupted: boolean
    readonly statusChanged: boolean
  }): Ready | null {
    const hardStateChanged =
      now.hardState.term !== this.lastHardState.term || now.hardState.vote !== this.lastHardState.vote
    const something =
      hardStateChanged ||
      now.entries.length > 0 ||
      now.commitIndex !== this.lastCommitIndex ||
      now.interrupted ||
      now.statusChanged ||
      this.send.length > 0 ||
      this.sendAfterWrite.length > 0 ||
      this.reads.length > 0 ||
      this.changes.length > 0 ||
      this.snapshotsWanted.length > 0 ||
      this.snapshotOffered !== null ||
      this.regressed.length > 0 ||
      this.diverged.length > 0
    if (!something) return null
    const ready: Ready = {
      hardState: hardStateChanged ? now.hardState : null,
      entries: now.entries,
      send: this.send,
      sendAfterWrite: this.sendAfterWrite,
      commitIndex: now.commitIndex,
      reads: this.reads,
      interrupted: now.interrupted,
      snapshotsWanted: this.snapshotsWanted,
      snapshotOffered: this.snapshotOffered,
      changes: this.changes,
      regressed: this.regressed,
      diverged: this.diverged,
      statusChanged: now.statusChanged,
    }
    this.lastHardState = now.hardState
    this.lastCommitIndex = now.commitIndex
    this.send = []
    this.sendAfterWrite = []
    this.reads = []
    this.changes = []
    this.snapshotsWanted = []
    this.snapshotOffered = null
    this.regressed = []
    this.diverged = []
    return ready
  }
}
