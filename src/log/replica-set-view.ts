import type { ReplicaId } from '../base/ids.ts'
import { replicaSetVersion } from '../raft/codec.ts'
import { policyFor } from '../raft/quorum.ts'
import type { ConfigurationChange, CoreStatus } from '../raft/types.ts'
import type { Transport } from './transport.ts'

/** What can be seen of the replica set from here: who could lead instead, and what the others, of earlier versions perhaps, would not understand. */
export class ReplicaSetView {
  private readonly status: () => CoreStatus
  private readonly transport: Transport

  constructor(status: () => CoreStatus, transport: Transport) {
    this.status = status
    this.transport = transport
  }

  /** The voter that this leader should hand over to; null when there is none, or another one leads. */
  bestSuccessor(): ReplicaId | null {
    const { self, role, configuration, progress } = this.status()
    if (role !== 'leader') return null
    const voters = new Set(configuration.members.filter(({ voter }) => voter).map(({ id }) => id))
    const candidates = progress.filter(
      ({ id, active }) => id !== self && active && voters.has(id) && this.transport.isUp(id),
    )
    return candidates.sort((a, b) => b.matchIndex - a.matchIndex)[0]?.id ?? null
  }

  /** Whoever leads now, this one looks for another; at a follower that is itself, when it can. 0 = there is none. */
  successor(): ReplicaId {
    const { self, leader, configuration } = this.status()
    if (leader === self) return this.bestSuccessor() ?? 0
    const able = configuration.members.filter(
      ({ id, voter }) => voter && id !== leader && (id === self || this.transport.isUp(id)),
    )
    return (able.find(({ id }) => id === self) ?? able[0])?.id ?? 0
  }

  /** Whether `leaving` leads, another one can, and nothing is known here for which its removal would be refused. The leader, or whoever takes over, decides what may go; what can be seen beforehand leaves leadership where it is. */
  handsOverFirst(leaving: ReplicaId): boolean {
    const { self, leader, role, progress, configuration } = this.status()
    if (leader !== leaving) return false
    const policy = policyFor(configuration.faultModel)
    const { members } = configuration
    const isSilent = (id: ReplicaId): boolean =>
      role === 'leader' && progress.every((one) => one.id !== id || !one.active)
    const isAlive = (id: ReplicaId): boolean => id === self || (this.transport.isUp(id) && !isSilent(id))
    const staying = members.flatMap(({ id, voter }) => (voter && id !== leaving ? [id] : []))
    return (
      staying.length > 0 &&
      policy.hasQuorum(staying, isAlive) &&
      members.every((member) => member.id !== leaving || policy.mayBeRemoved(member)) &&
      !this.isUnreadable({ kind: 'remove', id: leaving })
    )
  }

  /** A leader of an earlier version does not know what changes and hand-overs are that others ask for. */
  canAskLeader(): boolean {
    const { leader, self } = this.status()
    return leader === 0 || leader === self || this.knowsChanges(leader)
  }

  /** Whether this replica leads and must not make the change yet. */
  mustWait(change: ConfigurationChange): boolean {
    return this.status().role === 'leader' && this.isUnreadable(change)
  }

  /** Whether the entry of the change in the log would tell the highest id ever given, which some who would get it cannot read. */
  private isUnreadable(change: ConfigurationChange): boolean {
    const { members } = this.status().configuration
    if (change.kind !== 'remove' || change.id !== members.at(-1)?.id) return false
    return members.some(({ id }) => id !== change.id && !this.knowsChanges(id))
  }

  private knowsChanges(replica: ReplicaId): boolean {
    return this.transport.version(replica) >= replicaSetVersion
  }
}
