import type { Clock } from '../base/clock.ts'
import { replicaName } from '../base/ids.ts'
import type { Refusal } from '../peer/links.ts'

export interface RefusalsOptions {
  readonly clock: Pick<Clock, 'after' | 'monotonicMs'>
  /** A link with that replica is up: what was refused before is over. */
  readonly isUp: (peer: number) => boolean
  /** This replica must not take part any more, and starting it again does not help; the line says why and what does. Called once. */
  readonly onFatal: (line: string, code: Refusal['code']) => void
}

/** So long may a process that died without a word be taken for one that runs. */
const runsAlreadyMs = 5000
/** Who is refused asks again within so long. */
const againMs = 3000
/** So long is shown that somebody was refused who does not belong to the cluster. */
const shownMs = 60_000

/** What replicas refuse each other for: shown in `status`; and the end of this process when it is this one that must not take part. */
export class Refusals {
  private readonly options: RefusalsOptions
  private readonly known = new Map<number, Refusal>()
  /** Who says, again and again, that this replica runs already: since when, and when last. */
  private readonly claims = new Map<number, { readonly sinceMs: number; readonly lastMs: number }>()
  private ended = false

  constructor(options: RefusalsOptions) {
    this.options = options
  }

  add(refusal: Refusal): void {
    this.known.set(refusal.peer, refusal)
    if (refusal.by === 'self') {
      // Such a one never comes up: without this it would be shown to the end of this process.
      if (refusal.code === 'removed' || refusal.peer === 0)
        this.options.clock.after(shownMs, () => this.forget(refusal))
      return
    }
    if (isFinal(refusal) || (refusal.code === 'runsAlready' && this.lasts(refusal.peer))) this.end(refusal)
  }

  /** What is wrong between this replica and another one; empty when nothing is. */
  problemWith(peer: number): string {
    const refusal = this.known.get(peer)
    if (refusal === undefined) return ''
    if (this.options.isUp(peer)) {
      this.known.delete(peer)
      return ''
    }
    return refusal.by === 'self'
      ? `${peer === 0 ? 'a stranger' : replicaName(peer)} was refused: ${refusal.reason}`
      : `${replicaName(peer)} refuses this replica: ${refusal.reason}`
  }

  /** The first problem there is with any of the others; empty when there is none. */
  get problem(): string {
    for (const peer of this.known.keys()) {
      const problem = this.problemWith(peer)
      if (problem !== '') return problem
    }
    return ''
  }

  /** Whether `peer`, which says now that this replica runs already, has said so for long: what it said before it died itself proves nothing. */
  private lasts(peer: number): boolean {
    const nowMs = this.options.clock.monotonicMs()
    const before = this.claims.get(peer)
    const sinceMs = before !== undefined && nowMs - before.lastMs <= againMs ? before.sinceMs : nowMs
    this.claims.set(peer, { sinceMs, lastMs: nowMs })
    return nowMs - sinceMs >= runsAlreadyMs
  }

  private forget(refusal: Refusal): void {
    if (this.known.get(refusal.peer) === refusal) this.known.delete(refusal.peer)
  }

  private end({ peer, code, reason }: Refusal): void {
    if (this.ended) return
    this.ended = true
    this.options.onFatal(`${replicaName(peer)} refuses this replica: ${reason}`, code)
  }
}

/** Whether this replica is refused for a reason that cannot pass. */
function isFinal({ code }: Refusal): boolean {
  switch (code) {
    case 'removed':
    case 'regressed':
    case 'diverged':
    case 'incarnation':
      return true
    case 'runsAlready':
    case 'version':
    case 'otherCluster':
    case 'otherReplica':
    case 'malformed':
    case 'certificate':
      // It may pass; or something is wrong between two replicas, and it cannot be told with which.
      return false
  }
}
