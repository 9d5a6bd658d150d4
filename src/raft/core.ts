import { assert, unreachable } from '../base/assert.ts'
import type { ReplicaId } from '../base/ids.ts'
import type { Random } from '../base/random.ts'
import { Configurations } from './configurations.ts'
import { Leadership, refusedChange } from './leadership.ts'
import { LogView } from './log-view.ts'
import { Outputs } from './outputs.ts'
import { policyFor } from './quorum.ts'
import { Questions, type Question } from './reads.ts'
import { CoreState } from './state.ts'
import type {
  Configuration,
  ConfigurationChange,
  CoreOptions,
  CoreStatus,
  HardState,
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
  | { readonly kind: 'preCandidate'; readonly votes: Map<ReplicaId, boolean> }
  | { readonly kind: 'candidate'; readonly votes: Map<ReplicaId, boolean> }
  | { readonly kind: 'leader'; readonly leadership: Leadership }

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
      policy: policyFor(configurations.current.faultModel),
      outputs: new Outputs(hardState, appliedIndex),
      term: hardState.term,
      vote: hardState.vote,
      commitIndex: appliedIndex,
    })
    this.verifiedIndex = appliedIndex
    this.waitAnew()
    // Nobody else could lead.
    if (this.isPromotable && configurations.voters.length === 1) this.campaignInTicks = 1
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
        this.suspect(input.replica)
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

  status(): CoreStatus {
    const { state } = this
    const { role, leader, term, configuration, available, mayFail } = this.report()
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
    return point.index > commitIndex && log.termAt(point.index) !== point.term
  }

  private get leadership(): Leadership | null {
    return this.role.kind === 'leader' ? this.role.leadership : null
  }

  private get isPromotable(): boolean {
    return this.state.configurations.mayLead(this.state.self)
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
    this.electionTicks += 1
    this.hurryTicks = Math.max(0, this.hurryTicks - 1)
    if (this.campaignInTicks !== null) this.campaignInTicks -= 1
    const isDue = this.campaignInTicks !== null && this.campaignInTicks <= 0
    if (!isDue && this.electionTicks < this.electionTimeoutTicks) return
    this.campaignInTicks = null
    if (this.isPromotable) this.askBeforeCampaign()
    else this.becomeFollower(state.term, 0)
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
    // One after another, so that votes do not split. The first tick may come at any moment, so one more.
    const survivors = state.configurations.voters.filter((voter) => !state.suspected.has(voter))
    const rank = survivors.indexOf(state.self)
    if (rank >= 0) this.campaignSoon(rank === 0 ? 0 : rank + 1)
  }

  /** There is no leader for sure: does not wait for silence, and asks again and again for a while. */
  private campaignSoon(inTicks: number): void {
    this.hurryTicks = 2 * this.state.options.electionTicks
    this.campaignInTicks = inTicks
    if (inTicks === 0) this.askBeforeCampaign()
  }

  private reachable(replica: ReplicaId): void {
    const { state } = this
    state.suspected.delete(replica)
    this.leadership?.reachable(replica)
    if (replica !== this.leader || this.leadership !== null) return
    // What was on the way to the leader when the link broke may be lost.
    this.forgetForwarded()
  }

  // Elections

  private askBeforeCampaign(): void {
    const { state } = this
    const votes = new Map([[state.self, true]])
    this.setLeader(0)
    this.role = { kind: 'preCandidate', votes }
    this.waitAnew()
    this.campaignInTicks = this.hurryTicks > 0 ? 2 + this.random.below(2) : null
    if (this.countVotes(votes) !== 'pending') return
    const { lastIndex, lastTerm } = state.log
    for (const voter of state.configurations.voters)
      if (voter !== state.self) state.send(voter, { kind: 'preVote', lastIndex, lastTerm }, state.term + 1)
  }

  private campaign(transfer: boolean): void {
    const { state } = this
    this.setTerm(state.term + 1)
    state.vote = state.self
    // The own vote counts, as all others, when it is on disk.
    this.role = { kind: 'candidate', votes: new Map() }
    this.waitAnew()
    this.campaignInTicks = null
    const { lastIndex, lastTerm } = state.log
    for (const voter of state.configurations.voters)
      if (voter !== state.self) state.sendAfterWrite(voter, { kind: 'vote', lastIndex, lastTerm, transfer })
  }

  private countVotes(votes: ReadonlyMap<ReplicaId, boolean>): 'won' | 'lost' | 'pending' {
    const { state } = this
    const result = state.policy.election(state.configurations.voters, votes, state.suspected)
    if (result === 'won') {
      if (this.role.kind === 'preCandidate') this.campaign(false)
      else this.becomeLeader()
    } else if (result === 'lost') {
      this.role = { kind: 'follower' }
      if (this.hurryTicks > 0) this.campaignInTicks = 1 + this.random.below(2)
    }
    return result
  }

  private becomeLeader(): void {
    const { state } = this
    assert(state.persistedIndex === state.log.lastIndex, 'elected before the own log was on disk', {
      persisted: state.persistedIndex,
      last: state.log.lastIndex,
    })
    this.campaignInTicks = null
    this.hurryTicks = 0
    this.role = { kind: 'leader', leadership: new Leadership(state) }
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

  // Messages

  private receive(message: Message): void {
    const { state } = this
    state.suspected.delete(message.from)
    if (message.kind === 'preVote') {
      this.onPreVote(message)
      return
    }
    if (message.kind === 'preVoteReply' && (message.granted || message.term <= state.term)) {
      const isCurrent = !message.granted || message.term === state.term + 1
      if (this.role.kind === 'preCandidate' && isCurrent) {
        this.role.votes.set(message.from, message.granted)
        this.countVotes(this.role.votes)
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

  private onCurrent(message: Exclude<Message, { kind: 'preVote' }>): void {
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
        this.countVotes(role.votes)
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
        if (role.kind !== 'leader' && this.isPromotable && !state.full) this.campaign(true)
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
      state.append(message.entries.slice(conflict))
    }
    this.verifiedIndex = Math.max(this.verifiedIndex, lastNew, state.commitIndex)
    state.commit(Math.min(message.commit, this.verifiedIndex))
    this.acknowledge = Math.max(this.acknowledge ?? 0, lastNew, state.commitIndex)
  }

  /** Whether the leader's entry is the one here. What is committed always is; it may be gone from the log already. */
  private matches(index: Index, term: Term): boolean {
    const { log, commitIndex } = this.state
    const here = log.termAt(index)
    if (index > commitIndex) return here === term
    assert(here === null || here === term, 'the leader lacks what is committed', {
      index,
      term,
      here,
      commitIndex,
    })
    return true
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
    this.countVotes(role.votes)
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
      leadership?.isActive(id) ?? (id === state.self || !state.suspected.has(id))
    return {
      role: reportedRole(role, state.configurations.isVoter(state.self)),
      leader,
      term: state.term,
      configuration: current,
      available: leadership === null ? this.hearsLeader : state.policy.hasQuorum(voters, isAlive),
      mayFail: state.policy.mayFail(voters, isAlive),
    }
  }
}

type Reported = Pick<CoreStatus, 'role' | 'leader' | 'term' | 'configuration' | 'available' | 'mayFail'>

function sameReport(a: Reported, b: Reported): boolean {
  return (
    a.role === b.role &&
    a.leader === b.leader &&
    a.term === b.term &&
    a.configuration === b.configuration &&
    a.available === b.available &&
    a.mayFail === b.mayFail
  )
}

function reportedRole(role: Role, isVoter: boolean): CoreStatus['role'] {
  if (role.kind === 'leader') return 'leader'
  if (role.kind !== 'follower') return 'candidate'
  return isVoter ? 'follower' : 'learner'
}

/** How much of the log is read at once when it is searched for configurations. */
const scanBytes = 4 * 1024 * 1024
