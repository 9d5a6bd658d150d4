import type { ReplicaId } from '../base/ids.ts'
import type { Configuration, FaultModel, Incarnation, Index, Member, Term } from './types.ts'

/**
 * Who must agree to what, and who may act upon what: the whole difference between fault models. Any two quorums that a policy accepts for commit and for election must share
 * a voter that does not lie.
 */
export interface QuorumPolicy {
  /** The highest number that a commit quorum has reached, by what each voter has reached; 0 without voters. */
  reached(voters: readonly ReplicaId[], by: (voter: ReplicaId) => number): number

  /** Whether nothing is committed under a configuration before that configuration is: then whoever has committed something has on its disk with whom. */
  readonly commitsConfigurationFirst: boolean

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

  /** The voters of which each single one is needed and not alive. */
  waitsFor(voters: readonly ReplicaId[], isAlive: (voter: ReplicaId) => boolean): readonly ReplicaId[]

  /** Whether a leader must go that no longer hears a quorum: where another one could be elected without it. */
  readonly resignsUnheard: boolean

  /**
   * What makes a replica act as if another one had died: a suspicion, where only liveness rests on it; or proof, where safety does. With proof, the voters that are known dead are
   * taken out of the configuration, and come back in with a later incarnation.
   */
  readonly evidence: 'suspicion' | 'proof'

  /** The next term that `self` may campaign in. */
  termAfter(term: Term, self: ReplicaId): Term

  /** What a replica without a leader does about it, by the newest configuration that it knows to be committed. */
  standing(committed: Configuration, self: ReplicaId, incarnation: Incarnation): 'campaign' | 'gather'

  /** Those whose votes an election is about, given the newest configuration; the same object when nobody is left out. */
  electorate(newest: Configuration, isDead: (member: Member) => boolean): Configuration

  /** The configuration that opens the term of a leader whom `electorate` has elected; null: the configuration stays, and an entry without content opens the term. */
  opening(electorate: Configuration, at: { readonly term: Term; readonly index: Index }): Configuration | null

  /**
   * Whether the end of a log, of which it is not known that it was committed, may give way to another one that begins with an entry of the term `to`. What it tells is what of the
   * configurations and terms goes. A replica may have forgotten what it knew to be committed: the state need not be on disk when it is acted upon.
   */
  mayGiveWay(
    end: { readonly lastTerm: Term; readonly configurations: readonly Configuration[] },
    to: Term,
  ): boolean

  /** A voter with the rights of its present incarnation. */
  promoted(member: Member, incarnation: Incarnation): Member

  /** Whether a member may be taken out of the replica set while nothing is known against it. */
  mayBeRemoved(member: Member): boolean
}

export function policyFor(faultModel: FaultModel): QuorumPolicy {
  return policies[faultModel]
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

  waitsFor: () => [],
  commitsConfigurationFirst: false,
  resignsUnheard: true,
  evidence: 'suspicion',
  termAfter: (term) => term + 1,
  standing: () => 'campaign',
  electorate: (newest) => newest,
  opening: () => null,
  mayGiveWay: () => true,
  promoted: (member) => ({ ...member, voter: true }),
  mayBeRemoved: () => true,
}

/**
 * Every voter of the newest configuration has everything that is committed, so any one of them can go on alone, once the others are known dead and a configuration without
 * them is committed. Whoever restarts is no voter before it has been taken in again.
 */
const failStop: QuorumPolicy = {
  reached(voters, by) {
    return voters.length === 0 ? 0 : Math.min(...voters.map(by))
  },

  election(voters, votes, suspected) {
    if (voters.length > 0 && voters.every((voter) => votes.get(voter) === true)) return 'won'
    const isOpen = (voter: ReplicaId) => votes.get(voter) ?? !suspected.has(voter)
    return voters.length > 0 && voters.every(isOpen) ? 'pending' : 'lost'
  },

  hasQuorum(voters, isAlive) {
    return this.mayFail(voters, isAlive) >= 0
  },

  mayFail(voters, isAlive) {
    const missing = this.waitsFor(voters, isAlive).length
    return missing > 0 ? -missing : voters.length - 1
  },

  waitsFor: (voters, isAlive) => voters.filter((voter) => !isAlive(voter)),

  // A leader that takes somebody for dead who lives, commits alone and loses power would otherwise not know any more that it went on alone.
  commitsConfigurationFirst: true,

  // Nobody is elected without the vote of a voter that lives.
  resignsUnheard: false,
  evidence: 'proof',

  // No two replicas ever campaign in the same term. So should the assumption break and two lead at once, index and term still tell their entries apart.
  termAfter: (term, self) => term + 1 + ((((self - term - 1) % termStride) + termStride) % termStride),

  standing(committed, self, incarnation) {
    const isContinuous = committed.members.some(
      (member) => member.id === self && member.voter && member.incarnation === incarnation,
    )
    return isContinuous ? 'campaign' : 'gather'
  },

  electorate(newest, isDead) {
    const isOut = (member: Member) => member.voter && isDead(member)
    if (!newest.members.some(isOut)) return newest
    const members = newest.members.map((member) => (isOut(member) ? { ...member, voter: false } : member))
    return { ...newest, members }
  },

  opening: (electorate, at) => ({
    ...electorate,
    lineage: [...(electorate.lineage ?? []), at].slice(-mostLineage),
  }),

  // Whoever leads after a configuration that it has not in its log was elected with the votes of those that are voters there and live, itself among them; and by then they had no entry of
  // a later term. Otherwise two sides have gone on without each other, and the voters of that configuration may have committed by themselves what goes.
  mayGiveWay: ({ lastTerm, configurations }, to) =>
    to > lastTerm &&
    configurations.every((one) => one.members.some(({ id, voter }) => voter && mayHaveLed(id, to))),

  promoted: (member, incarnation) => ({ ...member, voter: true, incarnation }),

  // A voter that lives and has not heard of its removal could go on alone when the others die.
  mayBeRemoved: (member) => !member.voter,
}

const policies: Readonly<Record<FaultModel, QuorumPolicy>> = { majority, 'fail-stop': failStop }

/** The last two digits of a term are those of the replica that led it. */
const termStride = 100
/** Older terms are forgotten. */
const mostLineage = 256

function mayHaveLed(id: ReplicaId, term: Term): boolean {
  return (term - id) % termStride === 0
}

function majorityOf(voters: readonly ReplicaId[]): number {
  return Math.floor(voters.length / 2) + 1
}
