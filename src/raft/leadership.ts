import { assert } from '../base/assert.ts'
import type { ReplicaId } from '../base/ids.ts'
import { changed, votersOf } from './configurations.ts'
import { entryBytes } from './log-view.ts'
import { Progress } from './progress.ts'
import { ReadRounds } from './reads.ts'
import type { CoreState } from './state.ts'
import type {
  ChangeRefusal,
  Configuration,
  ConfigurationChange,
  Entry,
  Index,
  Member,
  Message,
  SnapshotPoint,
  Term,
} from './types.ts'
import { Window } from './window.ts'

type AppendReply = Message & { readonly kind: 'appendReply' }
/** Where the change is in the log, or why it is not. */
export type ChangeVerdict =
  | { readonly index: Index; readonly refused: null }
  | { readonly index: null; readonly refused: ChangeRefusal }

export function refusedChange(refused: ChangeRefusal): ChangeVerdict {
  return { index: null, refused }
}

type HeartbeatReply = Message & { readonly kind: 'heartbeatReply' }

/**
 * What a leader does in one term: replicates, counts what is committed, confirms reads, changes the configuration, hands over. Steps only change what is known;
 * `flush`, once per Ready, sends what follows from it, so that whatever came together leaves together.
 */
export class Leadership {
  private readonly state: CoreState
  private readonly progress = new Map<ReplicaId, Progress>()
  /** The entry that opened the term: until it is committed nothing is known to be (Raft §5.4.2, §8). */
  private readonly openingIndex: Index
  private readonly uncommitted = new Window()
  /** The largest proposal that there was no room for. */
  private largestDroppedBytes = 0
  private readonly reads = new ReadRounds()
  private round = 0
  private heartbeatTicks = 0
  private heartbeatDue = false
  /** The commit index when the last heartbeats left, older first: who has as much as the older one is caught up. */
  private earlierCommits: readonly [Index, Index]
  /** How long the leader's own disk has not finished anything although something waits for it. */
  private hungTicks = 0
  private transfer: { readonly to: ReplicaId; ticks: number; told: boolean } | null = null
  /** Replicas that did not take over when this leader had no room. */
  private readonly triedSuccessors = new Set<ReplicaId>()

  /** @param electorate those who elected this leader. */
  constructor(state: CoreState, electorate: Configuration) {
    this.state = state
    this.syncMembers()
    const { term } = state
    const index = state.log.lastIndex + 1
    this.openingIndex = index
    this.earlierCommits = [index, index]
    const configuration = state.policy.opening(electorate, { term, index })
    if (configuration === null) state.append([{ kind: 'noop', term, index }])
    else this.appendConfiguration(configuration)
    this.handOverIfFull()
  }

  /** Whether an entry of this term is committed. */
  get opened(): boolean {
    return this.state.commitIndex >= this.openingIndex
  }

  get members(): readonly Progress[] {
    return [...this.progress.values()].filter((progress) => progress.leavingAt === null)
  }

  isActive(id: ReplicaId): boolean {
    if (id === this.state.self) return true
    return this.isHeard(id) && !this.state.suspected.has(id)
  }

  /** Counts a tick. Says whether to go on leading: not without a quorum that was heard lately, and not on a disk that hangs. */
  tick(): 'lead' | 'resign' | 'handOver' {
    const { state } = this
    this.heartbeatTicks += 1
    if (this.heartbeatTicks >= state.options.heartbeatTicks) this.heartbeatDue = true
    for (const progress of this.progress.values()) {
      progress.silentTicks += 1
      if (progress.leavingAt !== null && this.isSilent(progress)) this.progress.delete(progress.id)
    }
    if (this.isUnheard) return 'resign'

    this.hungTicks = state.persistedIndex < state.log.lastIndex ? this.hungTicks + 1 : 0
    if (this.hungTicks > state.options.electionTicks) return 'handOver'

    if (this.transfer !== null) {
      this.transfer.ticks += 1
      if (this.transfer.ticks >= state.options.electionTicks) {
        this.triedSuccessors.add(this.transfer.to)
        this.transfer = null
      }
    }
    this.handOverIfFull()
    this.readmit()
    return 'lead'
  }

  /** How many ticks from now on would only count. */
  quietTicks(): number {
    const { full, persistedIndex, log, options } = this.state
    if (full || persistedIndex < log.lastIndex || this.transfer !== null || this.returned().length > 0)
      return 0
    if (this.isUnheard) return 0
    let due = options.heartbeatTicks - this.heartbeatTicks
    for (const progress of this.progress.values())
      if (!this.isSilent(progress)) due = Math.min(due, options.electionTicks - progress.silentTicks)
    return Math.max(0, due - 1)
  }

  /** The leader's own disk has finished a write. */
  persisted(): void {
    this.hungTicks = 0
  }

  propose(from: ReplicaId, data: readonly Uint8Array[]): void {
    const { state } = this
    // After a gap nothing of it can take effect: it will come again, in order.
    const gap = from === state.self ? state.interrupted : this.progress.get(from)?.owesNotice === true
    if (gap) return
    for (const item of data) {
      if (!this.takes(item.length)) {
        this.largestDroppedBytes = Math.max(this.largestDroppedBytes, item.length)
        this.owe(from)
        return
      }
      const index = state.log.lastIndex + 1
      state.append([{ kind: 'data', term: state.term, index, data: item }])
      this.uncommitted.add(index, item.length)
    }
  }

  forwarded(from: ReplicaId, message: Message & { readonly kind: 'propose' }): void {
    const progress = this.progress.get(from)
    if (progress === undefined) return
    if (message.number > progress.proposedNumber + 1) progress.owesNotice = true
    progress.proposedNumber = message.number
    this.propose(from, message.data)
  }

  read(from: ReplicaId, id: number): void {
    this.reads.add({ from, id })
  }

  /** Refuses the change, or appends it. */
  change(change: ConfigurationChange): ChangeVerdict {
    const { state } = this
    const { configurations } = state
    if (this.transfer !== null) return refusedChange('notLeader')
    if (configurations.currentIndex > state.commitIndex) return refusedChange('changeInProgress')
    // Without an entry of its own term a leader may not know of a change that is committed (Ongaro, raft-dev 2015).
    if (!this.opened) return refusedChange('termNotOpened')
    const result = changed(configurations.current, change, {
      promoted: (member) => state.policy.promoted(member, state.incarnations.newestOf(member.id)),
      mayBeRemoved: (member) => state.policy.mayBeRemoved(member),
    })
    if ('refused' in result) return refusedChange(result.refused)
    if (change.kind === 'promote') {
      const progress = this.progress.get(change.id)
      if (progress === undefined || progress.regressed || progress.match < this.earlierCommits[0])
        return refusedChange('notCaughtUp')
    }
    const voters = votersOf(result.configuration)
    if (!state.policy.hasQuorum(voters, (id) => this.isActive(id))) return refusedChange('quorumAtRisk')
    return { index: this.appendConfiguration(result.configuration), refused: null }
  }

  /**
   * Takes out of the configuration the voters that are known dead. Says whether the term can go on: one that is not opened cannot, since other configurations than the one that
   * would open it may be on disks.
   */
  exclude(): boolean {
    const { policy, configurations, incarnations } = this.state
    const without = policy.electorate(configurations.current, (member) => incarnations.isDead(member))
    if (without === configurations.current) return true
    if (!this.opened) return false
    this.appendConfiguration(without)
    return true
  }

  /** Takes in again, as soon as one of them has caught up, a voter that died and has come back. */
  private readmit(): void {
    // One that is far behind must not keep the others waiting.
    for (const { id } of this.returned()) if (this.change({ kind: 'promote', id }).refused === null) return
  }

  private returned(): readonly Member[] {
    const { configurations, incarnations } = this.state
    return configurations.current.members.filter(
      ({ id, voter, incarnation }) =>
        !voter && incarnation !== undefined && incarnations.newestOf(id) > incarnation && this.isActive(id),
    )
  }

  private appendConfiguration(configuration: Configuration): Index {
    const { state } = this
    const index = state.log.lastIndex + 1
    state.append([{ kind: 'configuration', term: state.term, index, configuration }])
    this.syncMembers()
    return index
  }

  handOver(to: ReplicaId): void {
    if (this.transfer?.to === to || to === this.state.self || !this.state.configurations.isVoter(to)) return
    // While it is waited for, nothing can be proposed.
    if (!this.isActive(to)) return
    this.transfer = { to, ticks: 0, told: false }
  }

  handOverIfFull(): void {
    if (!this.state.full || this.transfer !== null) return
    const successor = this.bestSuccessor()
    if (successor !== null) this.handOver(successor)
    else this.triedSuccessors.clear()
  }

  /** The voter that is alive and has most of the log; null when there is none. */
  bestSuccessor(): ReplicaId | null {
    let best: Progress | null = null
    for (const progress of this.members) {
      if (!this.state.configurations.isVoter(progress.id) || !this.isActive(progress.id)) continue
      if (progress.regressed || this.triedSuccessors.has(progress.id)) continue
      if (best === null || progress.match > best.match) best = progress
    }
    return best?.id ?? null
  }

  appendReply(message: AppendReply): void {
    const progress = this.heard(message.from)
    if (progress === null) return
    if (!message.accepted) {
      this.refused(progress, message)
      return
    }
    this.matched(progress, message.index)
  }

  heartbeatReply(message: HeartbeatReply): void {
    const progress = this.heard(message.from)
    if (progress === null) return
    progress.answeredRound = Math.max(progress.answeredRound, message.round)
    // Proposals and replies keep their order on a link, so what was sent before this reply has come, or never will.
    if (message.proposed > progress.proposedNumber) {
      progress.proposedNumber = message.proposed
      progress.owesNotice = true
    }
    if (progress.state === 'probe') progress.paused = false
    const { check } = progress
    if (check === null || message.round < check.round) return
    progress.check = null
    // The replica wrote this reply after the round began, when it had long acknowledged `check.match`.
    if (message.lastIndex < check.match) this.regressed(progress)
    else if (progress.state === 'replicate' && message.lastIndex < check.sent)
      progress.probeFrom(message.lastIndex + 1)
    else if (progress.state === 'replicate' && progress.match < check.sent) progress.askAgain = true
  }

  snapshotReply(from: ReplicaId, index: Index): void {
    const progress = this.heard(from)
    if (progress !== null) this.matched(progress, index)
  }

  snapshotTaken(to: ReplicaId, point: SnapshotPoint): void {
    const progress = this.progress.get(to)
    if (progress?.state !== 'snapshot') return
    assert(point.index <= this.state.commitIndex, 'a snapshot of what is not committed', {
      index: point.index,
    })
    progress.snapshot = point
    this.state.send(to, { kind: 'snapshot', point })
  }

  snapshotSent(to: ReplicaId, index: Index, ok: boolean): void {
    const progress = this.progress.get(to)
    if (progress?.state !== 'snapshot') return
    progress.probeFrom(ok ? index + 1 : progress.match + 1)
    // Otherwise the same snapshot would be asked for at once.
    progress.paused = !ok
  }

  reachable(id: ReplicaId): void {
    const progress = this.progress.get(id)
    if (progress === undefined) return
    progress.check = null
    this.reads.drop(id)
    // What was on the way when the link broke may be lost.
    if (progress.state !== 'snapshot') progress.probeFrom(progress.match + 1)
    else if (progress.snapshot !== null) this.state.send(id, { kind: 'snapshot', point: progress.snapshot })
  }

  suspect(id: ReplicaId): void {
    const progress = this.progress.get(id)
    if (progress === undefined) return
    this.reads.drop(id)
    if (progress.state === 'snapshot') return
    progress.probeFrom(progress.match + 1)
    progress.paused = true
  }

  /** Commits what a quorum has. Returns whether the leader should go, since it was removed. */
  advanceCommit(): boolean {
    const { state } = this
    const { policy, configurations } = state
    const index = policy.reached(configurations.voters, (id) => this.matchOf(id))
    const isEarly = policy.commitsConfigurationFirst && index < configurations.currentIndex
    // Only entries of the leader's own term commit by counting (Raft §5.4.2).
    if (index > state.commitIndex && !isEarly && state.log.termAt(index) === state.term) {
      state.commit(index)
      this.uncommitted.release(index)
    }
    return !state.configurations.isVoter(state.self) && state.configurations.currentIndex <= state.commitIndex
  }

  /** Sends what is due. */
  flush(): void {
    if (this.transfer !== null && !this.state.configurations.isVoter(this.transfer.to)) this.transfer = null
    const successor = this.transfer === null ? undefined : this.progress.get(this.transfer.to)
    for (const progress of this.progress.values()) this.sendAppends(progress)
    if (this.transfer !== null && !this.transfer.told && successor?.match === this.state.log.lastIndex) {
      this.transfer.told = true
      this.state.send(this.transfer.to, { kind: 'timeoutNow' })
    }
    this.confirmReads()
    if (this.heartbeatDue || (this.opened && this.reads.wantsRound)) {
      this.sendHeartbeats()
      this.confirmReads()
    }
    this.tellCommit()
    this.giveNotice()
  }

  /** The replica leads no more: reads that wait are to be asked again. */
  end(): void {
    for (const { from, id } of this.reads.drop(null)) this.answerRead(from, id, null)
  }

  private matchOf(id: ReplicaId): Index {
    return id === this.state.self ? this.state.persistedIndex : (this.progress.get(id)?.match ?? 0)
  }

  private get isUnheard(): boolean {
    const { policy, configurations } = this.state
    return policy.resignsUnheard && !policy.hasQuorum(configurations.voters, (id) => this.isHeard(id))
  }

  /** Whether it was heard lately, whatever is suspected. */
  isHeard(id: ReplicaId): boolean {
    if (id === this.state.self) return true
    const progress = this.progress.get(id)
    return progress !== undefined && !progress.regressed && !this.isSilent(progress)
  }

  private isSilent(progress: Progress): boolean {
    return progress.silentTicks >= this.state.options.electionTicks
  }

  private heard(from: ReplicaId): Progress | null {
    const progress = this.progress.get(from)
    if (progress === undefined) return null
    progress.silentTicks = 0
    return progress.regressed ? null : progress
  }

  /** The members of the newest configuration are those who get the log; who was removed gets it until it knows. */
  private syncMembers(): void {
    const { state } = this
    const { members } = state.configurations.current
    for (const { id } of members) {
      const known = this.progress.get(id)
      if (known !== undefined) known.leavingAt = null
      else if (id !== state.self) this.progress.set(id, new Progress(id, state.log.lastIndex + 1))
    }
    for (const progress of this.progress.values())
      if (progress.leavingAt === null && !members.some(({ id }) => id === progress.id))
        progress.leavingAt = state.configurations.currentIndex
  }

  private matched(progress: Progress, index: Index): void {
    const { log, policy, outputs } = this.state
    if (index > log.lastIndex) {
      assert(policy.evidence === 'proof', 'a replica acknowledged more than there is', {
        replica: progress.id,
        index,
        last: log.lastIndex,
      })
      // What it acknowledged it has committed, and nobody here knows of it.
      this.shutOut(progress)
      outputs.diverged.push(progress.id)
      return
    }
    if (progress.state === 'snapshot' && index < log.start.index) return
    progress.matched(index)
  }

  private refused(progress: Progress, message: AppendReply): void {
    const { log } = this.state
    if (progress.state === 'snapshot' || message.prevIndex <= progress.match) return
    // An answer to an earlier append, which says nothing about the present one.
    if (progress.state === 'probe' && message.prevIndex !== progress.next - 1) return
    const low = Math.max(progress.match, log.start.index)
    const high = Math.min(message.index, message.prevIndex - 1)
    progress.probeFrom(high < low ? high + 1 : log.lastIndexWithTermUpTo(message.conflictTerm, low, high) + 1)
  }

  private regressed(progress: Progress): void {
    this.shutOut(progress)
    this.state.outputs.regressed.push(progress.id)
  }

  private shutOut(progress: Progress): void {
    progress.regressed = true
    progress.match = 0
    progress.probeFrom(progress.next)
    progress.paused = true
  }

  private sendAppends(progress: Progress): void {
    if (progress.regressed) return
    const { log, options } = this.state
    switch (progress.state) {
      case 'snapshot':
        return
      case 'probe':
        if (progress.paused) return
        progress.paused = true
        if (this.sendAppend(progress, options.maxAppendBytes) !== null) return
        // A replica that is away has no use for a snapshot.
        if (!this.isActive(progress.id)) return
        progress.state = 'snapshot'
        this.state.outputs.snapshotsWanted.push(progress.id)
        return
      case 'replicate': {
        const { inflight } = progress
        while (
          progress.next <= log.lastIndex &&
          inflight.count < options.maxInflightMessages &&
          inflight.bytes < options.maxInflightBytes
        ) {
          const sent = this.sendAppend(progress, options.maxAppendBytes)
          if (sent === null) {
            progress.probeFrom(progress.next)
            this.sendAppends(progress)
            return
          }
          let bytes = 0
          for (const entry of sent) bytes += entryBytes(entry)
          progress.next += sent.length
          inflight.add(progress.next - 1, bytes)
          progress.askAgain = false
        }
        if (!progress.askAgain) return
        progress.askAgain = false
        if (this.sendAppend(progress, 0) !== null) return
        // The log has been shortened meanwhile.
        progress.probeFrom(progress.next)
        this.sendAppends(progress)
        return
      }
    }
  }

  /** One append from `next` on, without entries when `maxBytes` is 0; null when the log does not reach back so far. */
  private sendAppend(progress: Progress, maxBytes: number): readonly Entry[] | null {
    const { log, commitIndex } = this.state
    const prevIndex = progress.next - 1
    const prevTerm: Term | null = log.termAt(prevIndex)
    if (prevTerm === null) return null
    const entries = maxBytes > 0 && progress.next <= log.lastIndex ? log.entries(progress.next, maxBytes) : []
    this.state.send(progress.id, { kind: 'append', prevIndex, prevTerm, entries, commit: commitIndex })
    progress.toldCommit = commitIndex
    return entries
  }

  private sendHeartbeats(): void {
    const { state } = this
    this.heartbeatDue = false
    this.heartbeatTicks = 0
    this.round += 1
    if (this.opened) this.reads.begin(this.round, state.commitIndex)
    this.earlierCommits = [this.earlierCommits[1], Math.max(state.commitIndex, this.openingIndex)]
    for (const progress of this.progress.values()) {
      progress.check ??= { round: this.round, sent: progress.next - 1, match: progress.match }
      progress.toldCommit = state.commitIndex
      state.send(progress.id, { kind: 'heartbeat', commit: state.commitIndex, round: this.round })
    }
  }

  /** Followers apply what is committed, and answer whom they serve, as soon as they know of it. */
  private tellCommit(): void {
    const { state } = this
    for (const progress of this.progress.values()) {
      if (progress.toldCommit < state.commitIndex && this.isActive(progress.id)) {
        progress.toldCommit = state.commitIndex
        state.send(progress.id, { kind: 'heartbeat', commit: state.commitIndex, round: 0 })
      }
      const { leavingAt } = progress
      if (leavingAt !== null && progress.match >= leavingAt && progress.toldCommit >= leavingAt)
        this.progress.delete(progress.id)
    }
  }

  private confirmReads(): void {
    const { state } = this
    if (!this.reads.isConfirming) return
    const round = state.policy.reached(state.configurations.voters, (id) =>
      id === state.self ? this.round : (this.progress.get(id)?.answeredRound ?? 0),
    )
    const confirmed = this.reads.confirm(round)
    if (confirmed === null) return
    for (const { from, id } of confirmed.reads) this.answerRead(from, id, confirmed.index)
  }

  private answerRead(from: ReplicaId, id: number, index: Index | null): void {
    if (from === this.state.self) this.state.outputs.reads.push({ id, index })
    else this.state.send(from, { kind: 'readIndexReply', id, index: index ?? 0 })
  }

  private takes(bytes: number): boolean {
    if (this.transfer !== null || this.state.full) return false
    const { bytes: waiting } = this.uncommitted
    return waiting === 0 || waiting + bytes <= this.state.options.maxUncommittedBytes
  }

  private owe(to: ReplicaId): void {
    if (to === this.state.self) this.state.interrupted = true
    const progress = this.progress.get(to)
    if (progress !== undefined) progress.owesNotice = true
  }

  /** Tells whose proposals were dropped to propose again, but only when there is a chance that they are taken. */
  private giveNotice(): void {
    if (!this.canTakeAgain) return
    for (const progress of this.progress.values()) {
      if (!progress.owesNotice) continue
      progress.owesNotice = false
      this.state.send(progress.id, { kind: 'proposalsLost' })
    }
  }

  /** Whether proposals that were dropped may come again. */
  get canTakeAgain(): boolean {
    // Whoever is asked again for a proposal that is dropped again would come back without end.
    return (
      this.takes(this.largestDroppedBytes) &&
      this.uncommitted.bytes <= this.state.options.maxUncommittedBytes / 2
    )
  }
}
