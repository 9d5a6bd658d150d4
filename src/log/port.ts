/**
 * The replicated log as everything above sees it: bytes go in at any replica and come out at every replica in one order. Nothing here says how the
 * replicas agree, so that another engine can take the place of the built-in one.
 */
export interface ReplicatedLog {
  /** Joins the others. Committed entries after `consumer.appliedIndex` arrive from now on. */
  start(consumer: LogConsumer): Promise<void>

  /**
   * Asks for `data` to be appended. Proposals of one replica are appended in the order in which they were made, until `consumer.interrupted()` is
   * called: then those that have not been applied may be lost, and all of them should be proposed again, in order. One proposal is at most
   * `maxProposalBytes` long.
   */
  propose(data: Uint8Array): void

  /**
   * The index up to which this replica must have applied the log before it answers a read that began now, so that the read is linearizable.
   * Calls that wait share one round. Calls back with null when no quorum confirmed it within `timeoutMs`.
   */
  readBarrier(timeoutMs: number, done: (index: number | null) => void): void

  status(): LogStatus

  /**
   * Changes who takes part, or who orders proposals; at any replica. Resolves when that is committed and applied here, or refused; at the latest a little after `timeoutMs`.
   * One change is made at a time: others wait for it.
   */
  change(change: ReplicaSetChange, timeoutMs: number): Promise<ReplicaSetResult>

  /** Whether that replica took part once and was removed for good, as far as this one has applied the log. Ids are never used again. */
  isRemoved(replica: number): boolean

  /** What the wall clocks of the other replicas show now (milliseconds since 1970), one for each; null where that is not known. */
  otherClocksMs(): readonly (number | null)[]

  /** Hands its duties to another replica where it can, writes what it must and stops. */
  stop(): Promise<void>
}

export type ReplicaSetChange =
  /** A new replica, which gets the log and has no vote yet. `id` 0: the next one. */
  | { readonly kind: 'add'; readonly id: number; readonly address: string }
  /** It has caught up and gets a vote. */
  | { readonly kind: 'promote'; readonly id: number }
  | { readonly kind: 'remove'; readonly id: number }
  /** It is found elsewhere now. */
  | { readonly kind: 'move'; readonly id: number; readonly address: string }
  /** It orders proposals from now on. `id` 0: whichever can do it best. */
  | { readonly kind: 'handOver'; readonly id: number }

/** `id`: the replica that was added, promoted, …. */
export type ReplicaSetResult =
  { readonly ok: true; readonly id: number } | { readonly ok: false; readonly refused: ReplicaSetRefusal }

export type ReplicaSetRefusal =
  /** No quorum could be asked in time; nothing was changed. */
  | 'unavailable'
  /** The time ran out while it was under way: it may take effect or not. */
  | 'unknown'
  /** Another change has not ended in time. */
  | 'inProgress'
  | 'alreadyMember'
  /** The id belonged to a replica before, or could have. */
  | 'idUsed'
  | 'notMember'
  /** Only one that has a vote can order proposals. */
  | 'notVoter'
  /** It has too little of the log for a vote. */
  | 'notCaughtUp'
  /** Those that would be left and can be reached could decide nothing. */
  | 'quorumAtRisk'
  /** In the fault model `fail-stop` only a replica that has been stopped can be removed. */
  | 'stillAlive'
  /** Replicas of an earlier version of Parley could not follow: they must be upgraded first. */
  | 'upgradePending'
  /** The other replica did not take over; the one before goes on. */
  | 'notTaken'

export const maxProposalBytes = 4 * 1024 * 1024

export interface CommittedEntry {
  readonly index: number
  /** Null for an entry of the engine's own. */
  readonly data: Uint8Array | null
}

/** Who applies the log: one per replica. Its methods are called on one thread, never one inside another. */
export interface LogConsumer {
  /** What has been applied. At start, and after an installed snapshot, the log goes on from here; so at start it is what survived the crash of the process. */
  readonly appliedIndex: number
  /** The bytes that the engine gave with the newest applied entry; empty when there are none. */
  readonly engineState: Uint8Array

  /**
   * Applies entries, all or none. `engineState` is to be stored in the same transaction as the applied index.
   *
   * @returns 'later' when it cannot now (no space left on the disk): the same entries come again after a while.
   */
  apply(entries: readonly CommittedEntry[], engineState: Uint8Array): 'applied' | 'later'

  /** Proposals of this replica that have not been applied may be lost: propose them again, in order. */
  interrupted(): void

  /** Something in `status()` that people or clients care about has changed: who leads, whether there is a quorum, who is reachable. */
  statusChanged(): void

  /** Makes everything that was applied survive a power cut. Calls back with the index that is safe now: the log before it may be dropped. */
  checkpoint(done: (durableIndex: number) => void): void

  /** A consistent copy of the state for another replica. Takes as long as it takes, off the replication thread. */
  takeSnapshot(): Promise<SnapshotSource>

  /** Begins, or goes on with, taking over a copy. */
  receiveSnapshot(offer: SnapshotOffer): Promise<SnapshotSink>
}

export interface SnapshotOffer {
  /** The same for the same copy: a transfer that broke off resumes where it was. */
  readonly id: string
  readonly index: number
  readonly sizeBytes: number
}

export interface SnapshotSource extends SnapshotOffer {
  /** The engine's bytes at `index`. */
  readonly engineState: Uint8Array
  read(offset: number, maxBytes: number): Promise<Uint8Array>
  close(): Promise<void>
}

export interface SnapshotSink {
  /** Bytes that are here already. */
  readonly offset: number
  write(offset: number, bytes: Uint8Array): Promise<void>
  /** Checks the copy and makes it survive a power cut, beside the present state. */
  finish(): Promise<void>
  /** Swaps the copy in for the present state: atomic, and quick. `appliedIndex` and `engineState` are the copy's afterwards. */
  install(): void
  /** Throws away what came. */
  abandon(): Promise<void>
}

export interface LogStatus {
  /** A quorum is reachable: proposals and barriers can succeed. */
  readonly available: boolean
  /** The disk of this replica, or of the quorum, has no room for proposals. */
  readonly full: boolean
  /** The replica that orders proposals now; 0 = none known. */
  readonly leader: number
  readonly self: number
  readonly faultModel: string
  readonly role: string
  readonly term: number
  readonly commitIndex: number
  readonly firstIndex: number
  readonly lastIndex: number
  readonly logBytes: number
  readonly voters: number
  /** How many more replicas may fail; negative: so many must come back. */
  readonly mayFail: number
  /** Replicas without which nothing can go on and that do not answer, where it is known that each of them is needed. */
  readonly waitingFor: readonly number[]
  /**
   * The newest version (src/base/version.ts) that all members know, those included that a change takes out which is under way: it may come to nothing. 0 = somebody has not
   * been met since the start.
   */
  readonly commonVersion: number
  readonly members: readonly LogMember[]
}

export interface LogMember {
  readonly id: number
  readonly voter: boolean
  readonly address: string
  readonly reachable: boolean
  /** The newest version (src/base/version.ts) that it knows, as far as this replica can tell; 0 = it has not been met since the start. */
  readonly version: number
  readonly roundTripUs: number
  /** How far its log is known to match; 0 when this replica cannot know. */
  readonly matchIndex: number
  /** How much it has of the copy of the state that it is being sent; null when there is none, or this replica neither sends nor gets it. */
  readonly copy: CopyProgress | null
}

export interface CopyProgress {
  readonly doneBytes: number
  readonly sizeBytes: number
}
