import type { ReplicaId } from '../base/ids.ts'
import type { Index, SnapshotPoint } from './types.ts'
import { Window } from './window.ts'

/**
 * What the leader knows of one other replica and how it sends to it:
 * - `probe`: it is not known where the logs match; one append at a time, and the next after an answer or a sign of life;
 * - `replicate`: appends follow each other without waiting for answers, up to the limits;
 * - `snapshot`: the log no longer reaches back to where the replica is; nothing is appended until it has a snapshot.
 */
export class Progress {
  readonly id: ReplicaId
  state: 'probe' | 'replicate' | 'snapshot' = 'probe'
  /** Everything up to here is on the replica's disk and matches. */
  match: Index = 0
  /** The next entry to send. */
  next: Index
  /** In `probe`: an append is under way. */
  paused = false
  readonly inflight = new Window()
  /** In `replicate`: an answer seems to be lost; an empty append asks for it again. */
  askAgain = false
  /** In `snapshot`: what was announced. */
  snapshot: SnapshotPoint | null = null
  /** Since its last reply. */
  silentTicks = 0
  /** The commit index that it was sent last. */
  toldCommit: Index = 0
  /** The newest heartbeat round that it answered. */
  answeredRound = 0
  /** What was true when a heartbeat round began that it has not answered. */
  check: { readonly round: number; readonly sent: Index; readonly match: Index } | null = null
  /** The number of the newest `propose` message that came from it. */
  proposedNumber = 0
  /** Proposals of it were dropped, and it has not been told. */
  owesNotice = false
  /** Its log went back behind what it had acknowledged. */
  regressed = false
  /** It was removed by the entry at this index, which it should still get. */
  leavingAt: Index | null = null

  constructor(id: ReplicaId, next: Index) {
    this.id = id
    this.next = next
  }

  probeFrom(next: Index): void {
    this.state = 'probe'
    this.next = Math.max(next, this.match + 1)
    this.paused = false
    this.askAgain = false
    this.snapshot = null
    this.check = null
    this.inflight.clear()
  }

  /** Everything up to `index` is known to match. */
  matched(index: Index): void {
    this.match = Math.max(this.match, index)
    this.inflight.release(index)
    if (this.state === 'replicate') {
      this.next = Math.max(this.next, this.match + 1)
      return
    }
    this.probeFrom(this.match + 1)
    this.state = 'replicate'
  }
}
