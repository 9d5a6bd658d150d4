import { replicaName } from '../base/ids.ts'
import type { Refusal } from '../peer/links.ts'

export interface RefusalsOptions {
  readonly monotonicMs: () => number
  /** A link with that replica is up: what was refused before is over. */
  readonly isUp: (peer: number) => boolean
  /** This replica must not take part any more, and starting it again does not help; the line says why and what does. Called once. */
  readonly onFatal: (line: string, code: Refusal['code']) => void
}

/** So long may a process that died without a word be taken for the one that runs. */
const runsAlreadyMs = 5000

/** What replicas refuse each other for: shown in `status`; and the end of this process when it is this one that must not take part. */
export class Refusals {
  private readonly options: RefusalsOptions
  private readonly known = new Map<number, Refusal>()
  private runsAlreadySinceMs: number | null = null
  private ended = false

  constructor(options: RefusalsOptions) {
    this.options = options
  }

  add(refusal: Refusal): void {
    this.known.set(refusal.peer, refusal)
    if (this.ended || refusal.by === 'self' || !this.isFatal(refusal)) return
    this.ended = true
    this.options.onFatal(`${replicaName(refusal.peer)} refuses this replica: ${refusal.reason}`, refusal.code)
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

  private isFatal({ code }: Refusal): boolean {
    switch (code) {
      case 'removed':
      case 'regressed':
      case 'diverged':
      case 'incarnation':
        return true
      case 'runsAlready': {
        const now = this.options.monotonicMs()
        this.runsAlreadySinceMs ??= now
        return now - this.runsAlreadySinceMs >= runsAlreadyMs
      }
      case 'version':
      case 'otherCluster':
      case 'otherReplica':
      case 'malformed':
      case 'certificate':
        // Something is wrong between two replicas, and it cannot be told with which.
        return false
    }
  }
}
