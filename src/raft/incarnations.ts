import type { ReplicaId } from '../base/ids.ts'
import type { Incarnation, Member } from './types.ts'

/** What is known for certain of the processes of the other replicas. A process that has died never comes back: its replica does, with a later incarnation. */
export class Incarnations {
  private readonly newest = new Map<ReplicaId, Incarnation>()
  /** Up to here they are dead. */
  private readonly dead = new Map<ReplicaId, Incarnation>()

  /** Returns whether somebody is dead who was not known to be. */
  learn(replica: ReplicaId, incarnation: Incarnation, lives: boolean): boolean {
    const deadUpTo = lives ? incarnation - 1 : incarnation
    const before = this.dead.get(replica) ?? 0
    this.newest.set(replica, Math.max(incarnation, this.newest.get(replica) ?? 0))
    this.dead.set(replica, Math.max(before, deadUpTo))
    return deadUpTo > before
  }

  /** The newest incarnation that was heard of; 0 = none. */
  newestOf(replica: ReplicaId): Incarnation {
    return this.newest.get(replica) ?? 0
  }

  /** Whether no process of `replica` is known that has not died. What still comes from one that has died counts no more. */
  isGone(replica: ReplicaId): boolean {
    const dead = this.dead.get(replica) ?? 0
    return dead > 0 && dead >= this.newestOf(replica)
  }

  /** Whether the incarnation that is a member is dead. */
  isDead({ id, incarnation = 0 }: Member): boolean {
    return incarnation > 0 && incarnation <= (this.dead.get(id) ?? 0)
  }
}
