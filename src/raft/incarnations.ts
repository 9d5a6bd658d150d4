import type { ReplicaId } from '../base/ids.ts'
import type { Incarnation, Member } from './types.ts'

/** What is known for certain of the processes of the other replicas. A process that has died never comes back: its replica does, with a later incarnation. */
export class Incarnations {
  private readonly newest = new Map<ReplicaId, Incarnation>()
  /** Up to here they are dead. */
  private readonly dead = new Map<ReplicaId, Incarnation>()
  private readonly gone = new Set<ReplicaId>()

  /** Returns whether somebody is dead who was not known to be. */
  learn(replica: ReplicaId, incarnation: Incarnation, lives: boolean): boolean {
    const deadUpTo = lives ? incarnation - 1 : incarnation
    const before = this.dead.get(replica) ?? 0
    if (incarnation >= this.newestOf(replica)) {
      this.newest.set(replica, incarnation)
      if (lives) this.gone.delete(replica)
      else this.gone.add(replica)
    }
    this.dead.set(replica, Math.max(before, deadUpTo))
    return deadUpTo > before
  }

  /** The newest incarnation that was heard of; 0 = none. */
  newestOf(replica: ReplicaId): Incarnation {
    return this.newest.get(replica) ?? 0
  }

  /**
   * Whether the newest process of `replica` is known to be dead, and has not greeted since. What still comes from it counts no more. One that greets nevertheless was taken for dead
   * and lives: it remains dead for all that rests on that, but must be heard, so that it is found out whether both sides went on.
   */
  isGone(replica: ReplicaId): boolean {
    return this.gone.has(replica)
  }

  /** Whether the incarnation that is a member is dead. */
  isDead({ id, incarnation = 0 }: Member): boolean {
    return incarnation > 0 && incarnation <= (this.dead.get(id) ?? 0)
  }
}
