import { assert } from '../base/assert.ts'
import type { ReplicaId } from '../base/ids.ts'
import type { FaultModel } from './types.ts'

/**
 * Who must agree to what: the whole difference between fault models. Any two quorums that a policy accepts for commit and for election must share a voter that
 * does not lie.
 */
export interface QuorumPolicy {
  /** The highest number that a commit quorum has reached, by what each voter has reached; 0 without voters. */
  reached(voters: readonly ReplicaId[], by: (voter: ReplicaId) => number): number

  /** How an election stands. A voter that has not answered is not in `votes`; one that is suspected will hardly answer. */
  election(
    voters: readonly ReplicaId[],
    votes: ReadonlyMap<ReplicaId, boolean>,
    suspected: ReadonlySet<ReplicaId>,
  ): 'won' | 'lost' | 'pending'

  /** Whether those that are alive suffice to commit. */
  hasQuorum(voters: readonly ReplicaId[], isAlive: (voter: ReplicaId) => boolean): boolean

  /** How many more voters may fail before there is no quorum; negative: so many must come back. */
  mayFail(voters: readonly ReplicaId[], isAlive: (voter: ReplicaId) => boolean): number
}

export function policyFor(faultModel: FaultModel): QuorumPolicy {
  assert(faultModel === 'majority', 'this fault model is not there yet', { faultModel })
  return majority
}

const majority: QuorumPolicy = {
  reached(voters, by) {
    if (voters.length === 0) return 0
    const numbers = voters.map(by).sort((a, b) => b - a)
    return numbers[majorityOf(voters) - 1] ?? 0
  },

  election(voters, votes, suspected) {
    const granted = voters.filter((voter) => votes.get(voter) === true).length
    if (voters.length > 0 && granted >= majorityOf(voters)) return 'won'
    const open = voters.filter((voter) => !votes.has(voter) && !suspected.has(voter)).length
    return granted + open >= majorityOf(voters) ? 'pending' : 'lost'
  },

  hasQuorum(voters, isAlive) {
    return this.mayFail(voters, isAlive) >= 0
  },

  mayFail(voters, isAlive) {
    return voters.filter(isAlive).length - majorityOf(voters)
  },
}

function majorityOf(voters: readonly ReplicaId[]): number {
  return Math.floor(voters.length / 2) + 1
}
