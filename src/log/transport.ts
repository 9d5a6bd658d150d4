import type { ReplicaId } from '../base/ids.ts'
import type { Message } from '../raft/types.ts'

/** Links to the other replicas. Messages to one replica arrive in order or not at all; some may be lost when a link breaks. */
export interface Transport {
  start(handler: TransportHandler): Promise<void>
  /** Never blocks; drops the message when the link is down or too much waits on it. */
  send(message: Message): void
  /** A chunk of a snapshot, at lower urgency than messages. */
  sendChunk(chunk: SnapshotChunk): void
  sendChunkReply(reply: SnapshotChunkReply): void
  /** Whom to keep links with, and where they are. */
  setPeers(peers: readonly { readonly id: ReplicaId; readonly address: string }[]): void
  /** Tells `peer` why it may not take part, and listens to it no more as long as this process runs. `regressed`: it forgot what it had acknowledged. */
  shutOut(peer: ReplicaId, why: 'regressed' | 'removed' | 'diverged', reason: string): void
  isUp(peer: ReplicaId): boolean
  /** The newest version (src/base/version.ts) that `peer` is known to know, but for what this replica does not know itself; 0 = it has not greeted since this replica started. */
  version(peer: ReplicaId): number
  /** The newest measured round trip in microseconds; 0 = none yet. */
  roundTripUs(peer: ReplicaId): number
  /** What the wall clock of `peer` shows now (milliseconds since 1970), by what it told last; null = it has told nothing, or its clock was never set. */
  clockMs(peer: ReplicaId): number | null
  stop(): Promise<void>
}

export interface TransportHandler {
  message(message: Message): void
  chunk(chunk: SnapshotChunk): void
  chunkReply(reply: SnapshotChunkReply): void
  /** A link can carry messages now. */
  up(peer: ReplicaId): void
  /**
   * A link is gone. `died`: the other side's socket was closed or reset, or refuses connections: its process has ended. Otherwise only silence is known.
   */
  down(peer: ReplicaId, evidence: 'died' | 'silent'): void
  /**
   * What is certain of the processes of `peer`. `lives`: the one of this incarnation talks now; told before any message of it, and no message of an earlier one follows.
   * Otherwise nobody listens where it did, so it is dead. Told as often as it is found.
   */
  incarnation(peer: ReplicaId, incarnation: number, lives: boolean): void
}

export interface SnapshotChunk {
  readonly from: ReplicaId
  readonly to: ReplicaId
  readonly term: number
  readonly snapshotId: string
  readonly index: number
  readonly sizeBytes: number
  readonly engineState: Uint8Array
  readonly offset: number
  /** Empty in the first chunk, which asks from where to go on. */
  readonly bytes: Uint8Array
}

export interface SnapshotChunkReply {
  readonly from: ReplicaId
  readonly to: ReplicaId
  readonly snapshotId: string
  /** Send from here on; equal to the size when everything has been taken over. */
  readonly nextOffset: number
}
