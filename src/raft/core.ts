import { assert, unreachable } from '../base/assert.ts'
import type { ReplicaId } from '../base/ids.ts'
import type { Random } from '../base/random.ts'
import { Configurations, termByLineage, votersOf } from './configurations.ts'
import { HaltError } from './halt.ts'
import { Leadership, refusedChange } from './leadership.ts'
import { LogView } from './log-view.ts'
import { Outputs } from './outputs.ts'
import { Questions, type Question } from './reads.ts'
import { recovery } from './recovery.ts'
import { CoreState } from './state.ts'
import type {
  Configuration,
  ConfigurationChange,
  CoreOptions,
  CoreStatus,
  HardState,
  Holdings,
  Index,
  Input,
  LogReader,
  Message,
  Ready,
  SnapshotPoint,
  Term,
} from './types.ts'

type MessageOf<Kind extends Message['kind']> = Message & { readonly kind: Kind }

type Role =
  | { readonly kind: 'follower' }
  /** Asks whether it could win, before it disturbs anybody with a new term (Raft dissertation §9.6). */
  | ({ readonly kind: 'preCandidate' } & Candidacy)
  | ({ readonly kind: 'candidate' } & Candidacy)
  | { readonly kind: 'leader'; readonly leadership: Leadership }
  /** After an outage: finds out who is up and what they hold (`fail-stop`). */
  | {
      readonly kind: 'gathering'
      readonly gathered: Map<ReplicaId, Holdings>
      /** The newest term that was heard of. */
      term: Term
    }

interface Candidacy {
  /** Whose votes count, and what configuration would hold then. */
  readonly electorate: Configuration
  readonly votes: Map<ReplicaId, boolean>
}

/**
 * Raft as a pure state machine: inputs go in through `step`, what is to be done comes out of `takeReady`. Several steps may come before one `takeReady`, and what they
 * ask for leaves together.
 */
export class RaftCore {
  private readonly state: CoreState
  private readonly random: Random
  private readonly questions: Questions
  private role: Role = { kind: 'follower' }
  private leader: ReplicaId = 0
  /** Ticks since the leader was heard, or since this replica began to wait for an election. */
  private electionTicks = 0
  private electionTimeoutTicks = 0
  /** Asked for a pre-vote within the last few ticks, and refused it since they had a leader then. */
  private readonly tooEarly = new Map<ReplicaId, { readonly message: MessageOf<'preVote'>; ticks: number }>()
  /** The leader's process has ended: do not wait for its silence. So many ticks more. */
  private hurryTicks = 0
  /** In a hurry: ticks until this replica asks for votes; null = not planned. */
  private campaignInTicks: number | null = null
  /** The log up to here is known to match the leader's. */
  private verifiedIndex: Index
  /** To be acknowledged to the leader with the next write. */
  private acknowledge: Index | null = null
  /** Proposals on their way to the leader, and how many messages of them it was sent. */
  private forwarding: Uint8Array[] = []
  private forwardedCount = 0
  /** Without them there will be no leader. */
  private missing: readonly ReplicaId[] = []
  /** Replicas that an operator does not want to wait for after an outage. */
  private givenUp: readonly ReplicaId[] = []
  private reported: Reported

  /**
   * @param initial what the replica's disk holds. `configuration` is the one that the replica was created with: the log's newer ones are found here.
   * @throws AssertionError when log and state cannot belong together.
   */
  constructor(
    options: CoreOptions,
    log: LogReader,
    initial: {
      readonly hardState: HardState
      readonly configuration: Configuration
      readonly appliedIndex: Index
    },
    random: Random,
  ) {
    const { start, lastIndex } = log
    const { hardState, appliedIndex } = initial
    assert(appliedIndex >= start.index, 'the log begins after what was applied', {
      appliedIndex,
      start: start.index,
    })
    assert(appliedIndex <= lastIndex, 'more was applied than the log holds', { appliedIndex, lastIndex })
    const view = new LogView(log)
    assert(hardState.term >= view.lastTerm, 'the log is of a later term than the hard state', {
      term: hardState.term,
      lastTerm: view.lastTerm,
    })
    const first = start.configuration.members.length === 0 ? initial.configuration : start.configuration
    const configurations = new Configurations(start.index, first)
    for (let index = start.index + 1; index <= lastIndex;) {
      for (const entry of view.entries(index, scanBytes)) {
        if (entry.kind === 'configuration') configurations.append(entry.index, entry.configuration)
        index = entry.index + 1
      }
    }
    configurations.settle(appliedIndex)
    this.random = random
    this.questions = new Questions(random)
    this.state = new CoreState({
      options,
      log: view,
      configurations,
      outputs: new Outputs(hardState, appliedIndex),
      term: hardState.term,
      vote: hardState.vote,
      commitIndex: appliedIndex,
    })
    this.verifiedIndex = appliedIndex
    this.waitAnew()
    // Nobody else could lead, or nobody leads before it is known who is there.
    if ((this.isPromotable && configurations.voters.length === 1) || this.mustGather) this.campaignInTicks = 1
    this.reported = this.report()
  }

  step(input: Input): void {
    const { state } = this
    const leadership = this.leadership
    switch (input.kind) {
      case 'tick':
        this.tick()
        return
      case 'message':
        if (input.message.to === state.self && input.message.from !== state.self) this.receive(input.message)
        return
      case 'incarnation':
        this.learn(input)
        return
      case 'giveUp':
        this.giveUp(input.replicas)
        return
      case 'propose':
        this.propose(input.data)
        return
      case 'persisted':
        this.persisted(input)
        return
      case 'applied':
        assert(input.index <= state.commitIndex, 'applied what is not committed', { index: input.index })
        return
      case 'readIndex':
        this.readIndex(input.id)
        return
      case 'suspect':
        if (state.policy.evidence === 'suspicion') this.suspect(input.replica)
        return
      case 'reachable':
        this.reachable(input.replica)
        return
      case 'change':
        this.change(input.id, input.change)
        return
      case 'transfer':
        if (leadership !== null) leadership.handOver(input.to)
        else if (this.leader !== 0) state.send(this.leader, { kind: 'transfer', successor: input.to })
        return
      case 'snapshotTaken':
        leadership?.snapshotTaken(input.to, input.point)
        return
      case 'snapshotSent':
        leadership?.snapshotSent(input.to, input.index, input.ok)
        return
      case 'snapshotInstalled':
        this.snapshotInstalled(input.point)
        return
      case 'full':
        state.full = input.full
        leadership?.handOverIfFull()
        return
      default:
        unreachable(input)
    }
  }

  /** What is to be done; null when there is nothing. What was handed out to be written must be readable in the log before the next call of any method. */
  takeReady(): Ready | null {
    const { state } = this
    this.leadership?.flush()
    this.flushForwarding()
    this.flushAcknowledgement()
    const interrupted = state.interrupted && this.takesProposals
    if (interrupted) {
      state.interrupted = false
      state.proposedHere = false
    }
    const report = this.report()
    const statusChanged = !sameReport(report, this.reported)
    this.reported = report
    return state.outputs.take({
      hardState: { term: state.term, vote: state.vote },
      entries: state.log.takeUnwritten(),
      commitIndex: Math.min(state.commitIndex, state.persistedIndex),
      interrupted,
      statusChanged,
    })
  }

  /**
   * So many ticks from now on would count time and do nothing else, as long as nothing but ticks is stepped. A host may step them late, so long as it steps them before anything else.
   */
  quietTicks(): number {
    if (this.leadership !== null) return this.leadership.quietTicks()
    if (this.questions.areOpen) return 0
    const timeoutTicks = this.hearsLeader ? this.state.options.electionTicks : this.electionTimeoutTicks
    const due = timeoutTicks - this.electionTicks
    return Math.max(0, Math.min(due, this.campaignInTicks ?? due) - 1)
  }

  status(): CoreStatus {
    const { state } = this
    const { role, leader, term, configuration, available, mayFail, waitingFor } = this.report()
    return {
      self: state.self,
      role,
      term,
      leader,
      commitIndex: state.commitIndex,
      lastIndex: state.log.lastIndex,
      configuration,
      available,
      mayFail,
      waitingFor,
      progress: (this.leadership?.members ?? []).map(({ id, match }) => ({
        id,
        matchIndex: match,
        active: this.leadership?.isActive(id) === true,
      })),
    }
  }

  /** Whether the snapshot at `point` would still bring this replica forward. Taking over one that does not could undo what was acknowledged. */
  needsSnapshot(point: SnapshotPoint): boolean {
    // The log must not begin after a term that a crash could make this replica forget.
    return this.role.kind !== 'leader' && this.lacks(point) && this.state.persistedTerm >= point.term
  }

  private lacks(point: SnapshotPoint): boolean {
    const { commitIndex, log } = this.state
    const index = Math.min(point.index, commitIndex)
    const here = this.committedTermAt(index)
    const there = index === point.index ? point.term : termByLineage(point.configuration, index)
    this.expectSameHistory(here === null || there === null || here === there, { index, here, there })
    const isNeeded = point.index > commitIndex && log.termAt(point.index) !== point.term
    if (isNeeded) this.expectSafeToReplace(point)
    return isNeeded
  }

  /** The term of the entry at `index`, which is committed; null when that is not known any more. */
  private committedTermAt(index: Index): Term | null {
    const { log, configurations } = this.state
    return log.termAt(index) ?? termByLineage(configurations.committed, index)
  }

  private get leadership(): Leadership | null {
    return this.role.kind === 'leader' ? this.role.leadership : null
  }

  /** Where nobody is left who could vote, others have gone on without this replica, which lives: it is they who can lead. */
  private get isPromotable(): boolean {
    if (!this.state.configurations.mayLead(this.state.self) || this.mustGather) return false
    return votersOf(this.electorate).length > 0
  }

  /** Whether this replica can only find out, together with others, whether there is an outage to recover from. */
  private get mustGather(): boolean {
    const { policy, configurations, self, options } = this.state
    return policy.standing(configurations.committed, self, options.incarnation) === 'gather'
  }

  private get takesProposals(): boolean {
    return this.leadership?.canTakeAgain ?? this.leader !== 0
  }

  // Time

  private tick(): void {
    const { state, leadership } = this
    if (leadership !== null) {
      const verdict = leadership.tick()
      if (verdict === 'resign') this.becomeFollower(state.term, 0)
      else if (verdict === 'handOver') this.resignTo(leadership.bestSuccessor())
      return
    }
    for (const question of this.questions.expire(state.options.electionTicks)) this.unanswered(question)
    for (const [from, request] of this.tooEarly) {
      request.ticks += 1
      if (request.ticks > earlyTicks) this.tooEarly.delete(from)
    }
    this.electionTicks += 1
    this.hurryTicks = Math.max(0, this.hurryTicks - 1)
    if (this.campaignInTicks !== null) this.campaignInTicks -= 1
    const isDue = this.campaignInTicks !== null && this.campaignInTicks <= 0
    if (!isDue && this.electionTicks < this.electionTimeoutTicks) return
    this.campaignInTicks = null
    if (this.role.kind === 'gathering' && this.assessGathering('final')) return
    this.noticeMissing()
    this.seekLeader()
  }

  private seekLeader(): void {
    if (this.mustGather) this.gather()
    else if (this.isPromotable) this.askBeforeCampaign()
    else this.becomeFollower(this.state.term, 0)
  }

  /** Begins a wait of electionTicks up to twice as many. */
  private waitAnew(): void {
    const { electionTicks } = this.state.options
    this.electionTicks = 0
    this.electionTimeoutTicks = electionTicks + this.random.below(electionTicks)
  }

  private suspect(replica: ReplicaId): void {
    const { state } = this
    if (replica === state.self) return
    state.suspected.add(replica)
    this.leadership?.suspect(replica)
    if (replica !== this.leader) return
    this.campaignInTurn()
    for (const { message } of this.tooEarly.values())
      if (!this.refusesElection(message.from)) this.onPreVote(message)
    this.tooEarly.clear()
  }

  /** Something is known for certain of the processes of a replica. Where a policy needs proof, this is it. */
  private learn({ replica, incarnation, lives }: Input & { readonly kind: 'incarnation' }): void {
    const { state, leadership, role } = this
    if (replica === state.self || !state.incarnations.learn(replica, incarnation, lives)) return
    if (state.policy.evidence !== 'proof') return
    const wasLeader = replica === this.leader
    this.suspect(replica)
    if (lives) state.suspected.delete(replica)
    if (leadership !== null) {
      if (leadership.exclude()) this.advanceCommit()
      else {
        this.becomeFollower(state.term, 0)
        this.campaignSoon(0)
      }
      return
    }
    if (role.kind === 'gathering') {
      role.gathered.delete(replica)
      this.assessGathering('early')
    } else if (wasLeader) this.setLeader(0)
    else if (this.leader === 0) {
      // Nobody can be elected with the vote of the dead.
      if (role.kind === 'candidate' || role.kind === 'preCandidate') this.role = { kind: 'follower' }
      this.campaignInTurn()
    }
  }

  /** One after another, so that votes do not split. The first tick may come at any moment, so one more. */
  private campaignInTurn(): void {
    const { state } = this
    const survivors = state.configurations.voters.filter((voter) => !state.suspected.has(voter))
    const rank = survivors.indexOf(state.self)
    if (rank >= 0) this.campaignSoon(rank === 0 ? 0 : rank + 1)
  }

  /** There is no leader for sure: does not wait for silence, and asks again and again for a while. */
  private campaignSoon(inTicks: number): void {
    this.hurryTicks = 2 * this.state.options.electionTicks
    this.campaignInTicks = inTicks
    if (inTicks === 0) this.seekLeader()
  }

  private reachable(replica: ReplicaId): void {
    const { state } = this
    state.suspected.delete(replica)
    this.leadership?.reachable(replica)
    if (this.role.kind === 'gathering') this.ask(replica)
    if (replica !== this.leader || this.leadership !== null) return
    // What was on the way to the leader when the link broke may be lost.
    this.forgetForwarded()
  }

  // Elections

  private askBeforeCampaign(): void {
    const { state, electorate } = this
    const candidacy: Candidacy = { electorate, votes: new Map([[state.self, true]]) }
    this.setLeader(0)
    this.role = { kind: 'preCandidate', ...candidacy }
    this.waitAnew()
    this.campaignInTicks = this.hurryTicks > 0 ? 2 + this.random.below(2) : null
    if (this.countVotes(candidacy) !== 'pending') return
    const { lastIndex, lastTerm } = state.log
    for (const voter of votersOf(electorate))
      if (voter !== state.self) state.send(voter, { kind: 'preVote', lastIndex, lastTerm }, this.nextTerm)
  }

  /** Those whose votes an election is about now. */
  private get electorate(): Configuration {
    const { policy, configurations, incarnations } = this.state
    return policy.electorate(configurations.current, (member) => incarnations.isDead(member))
  }

  private get nextTerm(): Term {
    const { policy, term, self } = this.state
    return policy.termAfter(term, self)
  }

  private campaign(electorate: Configuration, transfer: boolean): void {
    const { state } = this
    this.setTerm(this.nextTerm)
    state.vote = state.self
    // The own vote counts, as all others, when it is on disk.
    this.role = { kind: 'candidate', electorate, votes: new Map() }
    this.waitAnew()
    this.campaignInTicks = null
    const { lastIndex, lastTerm } = state.log
    for (const voter of votersOf(electorate))
      if (voter !== state.self) state.sendAfterWrite(voter, { kind: 'vote', lastIndex, lastTerm, transfer })
  }

  private countVotes({ electorate, votes }: Candidacy): 'won' | 'lost' | 'pending' {
    const { state } = this
    const result = state.policy.election(votersOf(electorate), votes, state.suspected)
    if (result === 'won') {
      if (this.role.kind === 'preCandidate') this.campaign(electorate, false)
      else this.becomeLeader(electorate)
    } else if (result === 'lost') {
      const isHurried = this.hurryTicks > 0
      if (isHurried) this.campaignInTicks = 1 + this.random.below(2)
      // Those who have not noticed yet that the leader is gone grant it as soon as they do.
      if (!isHurried || this.role.kind !== 'preCandidate') this.role = { kind: 'follower' }
    }
    return result
  }

  private becomeLeader(electorate: Configuration): void {
    const { state } = this
    assert(state.persistedIndex === state.log.lastIndex, 'elected before the own log was on disk', {
      persisted: state.persistedIndex,
      last: state.log.lastIndex,
    })
    this.campaignInTicks = null
    this.hurryTicks = 0
    this.role = { kind: 'leader', leadership: new Leadership(state, electorate) }
    this.setLeader(state.self)
  }

  private becomeFollower(term: Term, leader: ReplicaId): void {
    if (term > this.state.term) this.setTerm(term)
    this.endLeadership()
    this.role = { kind: 'follower' }
    this.waitAnew()
    this.setLeader(leader)
  }

  /** Stops leading, and lets another one begin at once. */
  private resignTo(successor: ReplicaId | null): void {
    this.leadership?.flush()
    if (successor !== null) this.state.send(successor, { kind: 'timeoutNow' })
    this.becomeFollower(this.state.term, 0)
  }

  private endLeadership(): void {
    this.leadership?.end()
  }

  private setTerm(term: Term): void {
    const { state } = this
    assert(term > state.term, 'the term went back', { from: state.term, to: term })
    this.endLeadership()
    this.role = { kind: 'follower' }
    this.setLeader(0)
    state.term = term
    state.vote = 0
    this.verifiedIndex = state.commitIndex
    this.acknowledge = null
  }

  private setLeader(leader: ReplicaId): void {
    if (leader === this.leader) return
    this.leader = leader
    this.forgetForwarded()
    this.forwardedCount = 0
    if (leader === 0) return
    this.hurryTicks = 0
    this.campaignInTicks = null
    this.missing = []
    this.givenUp = []
  }

  /** Nobody knows what became of what went to the leader. */
  private forgetForwarded(): void {
    const { state } = this
    this.forwarding = []
    if (state.proposedHere) state.interrupted = true
    for (const question of this.questions.drop()) this.unanswered(question)
  }

  /** Whether a leader was heard within the shortest election time-out, so that there is no reason to elect another (Raft dissertation §4.2.3). */
  private get hearsLeader(): boolean {
    const { state } = this
    if (this.role.kind === 'leader') return true
    return (
      this.leader !== 0 &&
      !state.suspected.has(this.leader) &&
      this.electionTicks < state.options.electionTicks
    )
  }

  /** A leader that asks for votes leads no more. */
  private refusesElection(candidate: ReplicaId): boolean {
    return this.hearsLeader && candidate !== this.leader
  }

  private isUpToDate(message: MessageOf<'vote' | 'preVote'>): boolean {
    const { lastIndex, lastTerm } = this.state.log
    return message.lastTerm > lastTerm || (message.lastTerm === lastTerm && message.lastIndex >= lastIndex)
  }

  // After an outage

  /** By an operator's order. Where there is an outage to recover from, the order travels with what is asked then; otherwise it stands for the proof that they are dead. */
  private giveUp(replicas: readonly ReplicaId[]): void {
    const { configurations } = this.state
    if (this.mustGather) {
      this.givenUp = [...new Set([...this.givenUp, ...replicas])]
      if (this.role.kind === 'gathering') this.gather()
      return
    }
    for (const { id, voter, incarnation } of configurations.current.members)
      if (voter && incarnation !== undefined && replicas.includes(id))
        this.learn({ kind: 'incarnation', replica: id, incarnation, lives: false })
  }

  private gather(): void {
    const { state } = this
    this.setLeader(0)
    const gathered = new Map([[state.self, this.holdings]])
    this.role = { kind: 'gathering', gathered, term: state.term }
    this.waitAnew()
    for (const { id } of state.configurations.current.members) this.ask(id)
    this.assessGathering('early')
  }

  private ask(replica: ReplicaId): void {
    const { state, givenUp } = this
    if (replica !== state.self) state.send(replica, { kind: 'gather', givenUp })
  }

  private get holdings(): Holdings {
    const { state, givenUp } = this
    const { log, configurations, options } = state
    return {
      lastIndex: log.lastIndex,
      lastTerm: log.lastTerm,
      configurationIndex: configurations.currentIndex,
      configuration: configurations.current,
      incarnation: options.incarnation,
      continuous: this.hearsLeader || this.isPromotable,
      givenUp,
    }
  }

  private onGather({ from, givenUp }: MessageOf<'gather'>): void {
    const { state } = this
    if (this.mustGather && this.leader === 0) this.givenUp = [...new Set([...this.givenUp, ...givenUp])]
    state.sendAfterWrite(from, { kind: 'gatherReply', ...this.holdings })
  }

  private onGatherReply({ from, term, ...holdings }: MessageOf<'gatherReply'>): void {
    const { role } = this
    if (role.kind !== 'gathering') return
    role.gathered.set(from, holdings)
    role.term = Math.max(role.term, term)
    this.assessGathering('early')
  }

  /** Waits for the answers of all that may be up, except when it is `final`; then campaigns if those that are there can go on with this replica. Returns whether it does. */
  private assessGathering(when: 'early' | 'final'): boolean {
    const { state, role } = this
    if (role.kind !== 'gathering') return false
    const { members } = state.configurations.current
    const isHeardOf = (id: ReplicaId) => role.gathered.has(id) || state.incarnations.isGone(id)
    if (when === 'early' && !members.every(({ id }) => isHeardOf(id))) return false
    const result = recovery(role.gathered)
    this.missing = result.kind === 'waiting' ? result.waitingFor : []
    if (result.kind !== 'possible' || result.candidate !== state.self) return false
    if (role.term > state.term) this.setTerm(role.term)
    this.campaign(result.electorate, false)
    return true
  }

  /** Votes were asked for in vain: who has not answered is missing. */
  private noticeMissing(): void {
    const { state, role } = this
    if (role.kind !== 'preCandidate' && role.kind !== 'candidate') return
    this.missing = state.policy.waitsFor(votersOf(role.electorate), (id) => role.votes.has(id))
  }

  // Messages

  private receive(message: Message): void {
    const { state } = this
    if (state.policy.evidence === 'proof' && state.incarnations.isGone(message.from)) return
    state.suspected.delete(message.from)
    if (message.kind === 'preVote') {
      this.onPreVote(message)
      return
    }
    if (message.kind === 'gather') {
      this.onGather(message)
      return
    }
    if (message.kind === 'gatherReply') {
      this.onGatherReply(message)
      return
    }
    if (message.kind === 'preVoteReply' && (message.granted || message.term <= state.term)) {
      const isCurrent = !message.granted || message.term === this.nextTerm
      if (this.role.kind === 'preCandidate' && isCurrent) {
        this.role.votes.set(message.from, message.granted)
        this.countVotes(this.role)
      }
      return
    }
    if (message.term > state.term) {
      if (message.kind === 'vote' && this.refusesElection(message.from) && !message.transfer) return
      const isDeposedByFollower = this.role.kind === 'leader' && message.kind !== 'vote'
      this.becomeFollower(message.term, 0)
      // A replica with a later term came back, and nobody else wants to lead.
      if (isDeposedByFollower) this.campaignSoon(1)
    } else if (message.term < state.term) {
      this.onStale(message)
      return
    }
    this.onCurrent(message)
  }

  private onCurrent(message: Exclude<Message, { kind: 'preVote' | 'gather' | 'gatherReply' }>): void {
    const { state, leadership, role } = this
    switch (message.kind) {
      case 'preVoteReply':
        return
      case 'vote':
        this.onVote(message)
        return
      case 'voteReply':
        if (role.kind !== 'candidate') return
        role.votes.set(message.from, message.granted)
        this.countVotes(role)
        return
      case 'append':
        this.hearLeader(message.from)
        this.onAppend(message)
        return
      case 'appendReply':
        leadership?.appendReply(message)
        this.advanceCommit()
        return
      case 'heartbeat':
        this.hearLeader(message.from)
        state.commit(Math.min(message.commit, this.verifiedIndex))
        if (message.round > 0) this.answerHeartbeat(message.from, message.round)
        return
      case 'heartbeatReply':
        leadership?.heartbeatReply(message)
        return
      case 'readIndex':
        if (leadership !== null) leadership.read(message.from, message.id)
        else state.send(message.from, { kind: 'readIndexReply', id: message.id, index: 0 })
        return
      case 'readIndexReply': {
        const id = this.questions.answered(message.id)
        if (id !== null) state.outputs.reads.push({ id, index: message.index === 0 ? null : message.index })
        return
      }
      case 'propose':
        leadership?.forwarded(message.from, message)
        return
      case 'proposalsLost':
        if (message.from === this.leader) state.interrupted = true
        return
      case 'snapshot':
        this.hearLeader(message.from)
        this.onSnapshot(message)
        return
      case 'snapshotReply':
        leadership?.snapshotReply(message.from, message.index)
        this.advanceCommit()
        return
      case 'change': {
        const isMember = state.configurations.current.members.some(({ id }) => id === message.from)
        const { index, refused } = isMember
          ? (leadership?.change(message.change) ?? refusedChange('notLeader'))
          : refusedChange('notMember')
        state.send(message.from, { kind: 'changeReply', id: message.id, index: index ?? 0, refused })
        this.advanceCommit()
        return
      }
      case 'changeReply': {
        const { term, index, refused } = message
        const id = this.questions.answered(message.id)
        if (id !== null) state.outputs.changes.push({ id, index: index === 0 ? null : index, term, refused })
        return
      }
      case 'transfer':
        leadership?.handOver(message.successor)
        return
      case 'timeoutNow':
        if (role.kind !== 'leader' && this.isPromotable && !state.full) this.campaign(this.electorate, true)
        return
      default:
        unreachable(message)
    }
  }

  /** A message of an earlier term: whoever still leads or campaigns in it must hear that it is over. */
  private onStale(message: Message): void {
    const { state } = this
    switch (message.kind) {
      case 'append':
      case 'heartbeat':
      case 'snapshot':
        this.answerHeartbeat(message.from, 0)
        return
      case 'vote':
        state.sendAfterWrite(message.from, { kind: 'voteReply', granted: false })
        return
      default:
    }
  }

  private onPreVote(message: MessageOf<'preVote'>): void {
    const { state } = this
    const isLate = message.term <= state.term || this.refusesElection(message.from)
    const granted = !isLate && this.isUpToDate(message)
    // A refusal carries the voter's term, so that a candidate that was away catches up.
    state.send(message.from, { kind: 'preVoteReply', granted }, granted ? message.term : state.term)
    if (this.refusesElection(message.from)) this.tooEarly.set(message.from, { message, ticks: 0 })
    if (!granted) return
    if (this.campaignInTicks !== null) this.campaignInTicks = Math.max(this.campaignInTicks, 2)
    // Of two that ask at the same time one steps back, or both would campaign and split the votes.
    if (this.role.kind === 'preCandidate' && message.from < state.self) this.role = { kind: 'follower' }
  }

  /** A learner votes too: it may have been promoted without knowing it yet (etcd 10998). */
  private onVote(message: MessageOf<'vote'>): void {
    const { state } = this
    const isFree = state.vote === message.from || (state.vote === 0 && this.leader === 0)
    const granted = isFree && this.isUpToDate(message)
    if (granted) {
      state.vote = message.from
      this.waitAnew()
      this.campaignInTicks = null
    }
    state.sendAfterWrite(message.from, { kind: 'voteReply', granted })
  }

  private hearLeader(from: ReplicaId): void {
    const { state } = this
    assert(
      this.role.kind !== 'leader' && (this.leader === 0 || this.leader === from),
      'two leaders in one term',
      {
        term: state.term,
        self: state.self,
        leader: this.leader,
        other: from,
      },
    )
    this.role = { kind: 'follower' }
    this.setLeader(from)
    this.electionTicks = 0
  }

  private answerHeartbeat(to: ReplicaId, round: number): void {
    const { state } = this
    state.send(to, {
      kind: 'heartbeatReply',
      round,
      lastIndex: state.log.lastIndex,
      proposed: this.forwardedCount,
    })
  }

  // The log

  private onAppend(message: MessageOf<'append'>): void {
    const { state } = this
    const lastNew = message.prevIndex + message.entries.length
    if (!this.matches(message.prevIndex, message.prevTerm)) {
      this.refuseAppend(message)
      return
    }
    const conflict = message.entries.findIndex(({ index, term }) => !this.matches(index, term))
    // An append that brings nothing new may be an old one: it deletes nothing.
    if (conflict !== -1) {
      const newest = message.entries.at(-1)
      assert(newest === undefined || newest.term <= message.term, 'an entry of a later term than its leader')
      const fresh = message.entries.slice(conflict)
      for (const { index, term } of fresh.slice(0, 1)) this.expectSafeToCut(index, term)
      state.append(fresh)
    }
    this.verifiedIndex = Math.max(this.verifiedIndex, lastNew, state.commitIndex)
    state.commit(Math.min(message.commit, this.verifiedIndex))
    this.acknowledge = Math.max(this.acknowledge ?? 0, lastNew, state.commitIndex)
  }

  /** Whether the leader's entry is the one here. What is committed always is; it may be gone from the log already. */
  private matches(index: Index, term: Term): boolean {
    const { log, commitIndex } = this.state
    if (index > commitIndex) return log.termAt(index) === term
    const here = this.committedTermAt(index)
    this.expectSameHistory(here === null || here === term, { index, term, here, commitIndex })
    return true
  }

  /** With a snapshot at `point` the log goes, together with what in it differs from the history that the snapshot comes from. */
  private expectSafeToReplace(point: SnapshotPoint): void {
    const { log, commitIndex } = this.state
    for (let index = commitIndex + 1; index <= Math.min(point.index, log.lastIndex); index += 1) {
      const term = termByLineage(point.configuration, index)
      if (term === null || term === log.termAt(index)) continue
      this.expectSafeToCut(index, term)
      return
    }
  }

  /** What the log holds from `index` on goes, since the leader has an entry of `term` there. */
  private expectSafeToCut(index: Index, term: Term): void {
    const { policy, log, configurations } = this.state
    if (index > log.lastIndex) return
    const { lastTerm } = log
    if (policy.mayGiveWay({ lastTerm, configurations: configurations.from(index) }, term)) return
    throw new HaltError(
      'diverged',
      `this replica may have committed what the leader lacks ${JSON.stringify({ index, term, lastTerm })}`,
    )
  }

  /** What is committed here and what the leader has are the same. Where safety rests on an assumption, that may have been broken. */
  private expectSameHistory(same: boolean, values: Readonly<Record<string, unknown>>): void {
    if (same) return
    assert(this.state.policy.evidence === 'proof', 'the leader lacks what is committed', values)
    throw new HaltError(
      'diverged',
      `this replica and the leader have gone on without each other ${JSON.stringify(values)}`,
    )
  }

  private refuseAppend({ from, prevIndex, prevTerm }: MessageOf<'append'>): void {
    const { state } = this
    const { log, commitIndex } = state
    // Entries of terms after the leader's there cannot match: skip them in one step (Raft §5.3).
    const index = log.lastIndexWithTermUpTo(prevTerm, commitIndex + 1, Math.min(prevIndex, log.lastIndex))
    state.send(from, {
      kind: 'appendReply',
      accepted: false,
      prevIndex,
      index,
      conflictTerm: log.termAt(index) ?? 0,
      lastIndex: log.lastIndex,
    })
  }

  private flushAcknowledgement(): void {
    const index = this.acknowledge
    this.acknowledge = null
    if (index === null || this.leader === 0) return
    this.state.sendAfterWrite(this.leader, {
      kind: 'appendReply',
      accepted: true,
      prevIndex: 0,
      index,
      conflictTerm: 0,
      lastIndex: this.state.log.lastIndex,
    })
  }

  private persisted(input: Input & { readonly kind: 'persisted' }): void {
    const { state, role } = this
    const { index, term, hardState } = input
    if (hardState !== null) state.persistedTerm = Math.max(state.persistedTerm, hardState.term)
    // A write from before entries were overwritten may have held the same entries as one that came after it and is not on disk yet.
    const isOld = state.persistedTerm < state.overwriteTerm
    if (!isOld && index > state.persistedIndex && state.log.termAt(index) === term)
      state.persistedIndex = index
    this.leadership?.persisted()
    this.advanceCommit()
    if (role.kind !== 'candidate' || hardState?.term !== state.term || hardState.vote !== state.self) return
    role.votes.set(state.self, true)
    this.countVotes(role)
  }

  private advanceCommit(): void {
    const { leadership } = this
    if (leadership?.advanceCommit() === true) this.resignTo(leadership.bestSuccessor())
  }

  private onSnapshot({ from, term, point }: MessageOf<'snapshot'>): void {
    const { state } = this
    if (this.lacks(point)) {
      state.outputs.snapshotOffered = { from, term, point }
      return
    }
    this.verifiedIndex = Math.max(this.verifiedIndex, point.index, state.commitIndex)
    state.commit(point.index)
    state.sendAfterWrite(from, { kind: 'snapshotReply', index: state.commitIndex })
  }

  private snapshotInstalled(point: SnapshotPoint): void {
    const { state } = this
    assert(
      this.role.kind !== 'leader' && point.index > state.commitIndex,
      'a snapshot was taken over that was not needed',
      { index: point.index, commit: state.commitIndex, role: this.role.kind },
    )
    state.restart(point)
    this.verifiedIndex = point.index
    this.acknowledge = null
    if (this.leader !== 0) state.sendAfterWrite(this.leader, { kind: 'snapshotReply', index: point.index })
  }

  // What clients ask for

  private propose(data: readonly Uint8Array[]): void {
    const { state, leadership } = this
    state.proposedHere = true
    if (leadership !== null) leadership.propose(state.self, data)
    else if (this.leader === 0) state.interrupted = true
    else if (!state.interrupted) for (const item of data) this.forwarding.push(item)
  }

  private flushForwarding(): void {
    if (this.forwarding.length === 0) return
    this.forwardedCount += 1
    this.state.send(this.leader, { kind: 'propose', number: this.forwardedCount, data: this.forwarding })
    this.forwarding = []
  }

  private readIndex(id: number): void {
    const { state, leadership } = this
    if (leadership !== null) leadership.read(state.self, id)
    else if (this.leader === 0) this.failRead(id)
    else state.send(this.leader, { kind: 'readIndex', id: this.questions.ask({ kind: 'read', id }) })
  }

  private change(id: number, change: ConfigurationChange): void {
    const { state, leadership } = this
    if (leadership === null && this.leader !== 0) {
      state.send(this.leader, { kind: 'change', id: this.questions.ask({ kind: 'change', id }), change })
      return
    }
    const answer = leadership?.change(change) ?? refusedChange('notLeader')
    state.outputs.changes.push({ id, term: state.term, ...answer })
    this.advanceCommit()
  }

  private failRead(id: number): void {
    this.state.outputs.reads.push({ id, index: null })
  }

  private unanswered({ kind, id }: Question): void {
    const { term, outputs } = this.state
    if (kind === 'read') this.failRead(id)
    else outputs.changes.push({ id, term, ...refusedChange('unanswered') })
  }

  // Status

  private report(): Reported {
    const { state, leadership, role, leader } = this
    const { voters, current } = state.configurations
    const isAlive = (id: ReplicaId) =>
      leadership?.isActive(id) ??
      (id === state.self || !(state.suspected.has(id) || this.missing.includes(id)))
    // A voter that does not know yet that it has been taken in again could not go on without the others.
    const able = voters.filter((id) => id !== state.self || !this.mustGather)
    const waitingFor =
      leadership === null ? this.missing : state.policy.waitsFor(voters, (id) => leadership.isActive(id))
    return {
      role: reportedRole(role, state.configurations.isVoter(state.self)),
      leader,
      term: state.term,
      configuration: current,
      available: leadership === null ? this.hearsLeader : state.policy.hasQuorum(voters, isAlive),
      mayFail: state.policy.mayFail(able, isAlive),
      waitingFor,
    }
  }
}

type Reported = Pick<
  CoreStatus,
  'role' | 'leader' | 'term' | 'configuration' | 'available' | 'mayFail' | 'waitingFor'
>

function sameReport(a: Reported, b: Reported): boolean {
  return (
    a.role === b.role &&
    a.leader === b.leader &&
    a.term === b.term &&
    a.configuration === b.configuration &&
    a.available === b.available &&
    a.mayFail === b.mayFail &&
    a.waitingFor.join() === b.waitingFor.join()
  )
}

function reportedRole(role: Role, isVoter: boolean): CoreStatus['role'] {
  if (role.kind === 'leader') return 'leader'
  if (role.kind === 'preCandidate' || role.kind === 'candidate') return 'candidate'
  return isVoter ? 'follower' : 'learner'
}

/** Replicas notice within so many ticks of each other that a process has ended. */
const earlyTicks = 3
/** How much of the log is read at once when it is searched for configurations. */
const scanBytes = 4 * 1024 * 1024
