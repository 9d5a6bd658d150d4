import type { Cancel, Clock } from '../base/clock.ts'
import type { Logger } from '../base/logger.ts'
import type { ChatQueries } from '../chat/queries.ts'
import type { Sql } from '../chat/sql.ts'
import type { Applied } from '../chat/types.ts'
import { versionOf } from '../chat/versions.ts'
import type { Command } from '../gen/parley/v1/command.ts'
import type {
  GetStatusResponse,
  SearchMessagesRequest,
  SearchMessagesResponse,
} from '../gen/parley/v1/service.ts'
import type {
  CommittedEntry,
  LogConsumer,
  LogStatus,
  ReplicatedLog,
  SnapshotOffer,
  SnapshotSink,
  SnapshotSource,
} from '../log/port.ts'
import { parseAddresses, type ReplicaAddresses } from './addresses.ts'
import { Applier, type AppliedBatch, type ApplyStore, type OpenChat } from './applier.ts'
import { Housekeeping } from './housekeeping.ts'
import { OwnPlace } from './own-place.ts'
import { OwnTime } from './own-time.ts'
import { PendingCommands } from './pending.ts'
import { Presence } from './presence.ts'
import { ReadWaiters } from './reads.ts'
import { changeReplicaSet, type ReplicaSetAnswer, type ReplicaSetChange } from './replica-set.ts'
import { statusResponse, type Vitals } from './status.ts'
import { Subscriptions } from './subscriptions.ts'
import type {
  Executed,
  ReadOptions,
  Receiver,
  Replica,
  ReplicaState,
  StateCopy,
  Subscription,
  Unavailable,
} from './types.ts'

/** `state.db`, as a replica needs it. */
export interface ReplicaStore extends ApplyStore {
  /** Another one after a snapshot was installed. */
  readonly db: Sql
  readonly appliedIndex: number
  readonly engineState: Uint8Array
  readonly sizeBytes: number
  readonly freeBytes: number
  checkpoint(done: (durableIndex: number) => void): void
  takeSnapshot(atLeast?: number): Promise<SnapshotSource>
  receiveSnapshot(offer: SnapshotOffer): Promise<SnapshotSink>
}

/** Full-text search over the messages of this replica. */
export interface Search {
  /** Messages of conversations of the account, newest first. `position`: the index must have got at least so far. */
  search(account: number, request: SearchMessagesRequest, position: number): Promise<SearchMessagesResponse>
}

export interface ReplicaOptions {
  readonly self: number
  readonly incarnation: number
  readonly clusterId: Uint8Array
  readonly clock: Clock
  readonly logger: Logger
  readonly log: ReplicatedLog
  readonly store: ReplicaStore
  readonly openChat: (db: Sql) => OpenChat
  readonly search: Search | null
  readonly vitals: () => Vitals
  /** What is wrong between this replica and another one, for people; empty when nothing is. */
  readonly problemWith?: (replica: number) => string
  /** Where this replica is found, and whether it wants a vote when it has caught up. Absent: whatever the replica set says of it is right. */
  readonly place?: { readonly addresses: ReplicaAddresses; readonly wantsVote: boolean }
  /** It was removed from the replica set, for good. Called once. */
  readonly onRemoved?: () => void
  /** The replica cannot go on: the process must end. Called once. */
  readonly onFatal: (error: unknown) => void
  /** So long after a quorum was lost clients are not bothered with it: an election usually is over by then; default 2000. */
  readonly graceMs?: number
}

/** A replica with the switches that only its host may use. */
export interface RunningReplica extends Replica {
  /** Joins the others. */
  start(): Promise<void>
  /** Refuses new requests; calls back when what is under way has been answered, or after `timeoutMs`. */
  drain(timeoutMs: number): Promise<void>
  /** The version (src/base/version.ts) that the cluster uses, as far as this replica has applied the log. */
  readonly versionInUse: number
  /** Stops applying and answers nothing any more. The log is stopped first, the store is closed afterwards, both by the host. */
  close(): void
}

/** Makes one replica over its log and its store. */
export function createReplica(options: ReplicaOptions): RunningReplica {
  return new LogReplica(options)
}

class LogReplica implements RunningReplica, LogConsumer {
  private readonly options: ReplicaOptions
  private readonly clock: Clock
  private readonly log: ReplicatedLog
  private readonly store: ReplicaStore
  private readonly time: OwnTime
  private readonly pending: PendingCommands
  private readonly subscriptions: Subscriptions
  private readonly presence: Presence
  private readonly housekeeping: Housekeeping
  private readonly reads: ReadWaiters
  private readonly place: OwnPlace | null
  private readonly listeners = new Set<() => void>()
  private readonly startedMs: number
  /** Of the newest entry that was applied. */
  appliedIndex: number
  private chat: OpenChat
  private applier: Applier
  private cancelCommit: Cancel | null = null
  private logStatus: LogStatus
  /** Where clients find the replicas, as `logStatus` has it. */
  private addresses: readonly string[]
  private draining = false
  private failed = false
  private removed = false
  private appliedCommands = 0
  /** `missing`: lost so lately that clients are not bothered with it. At the start there never was one. */
  private quorum: 'there' | 'missing' | 'lost' = 'lost'
  /** It is not known that everything is applied here that was committed when the quorum came (back). Until then an answer might be long in coming. */
  private isBehind = true
  /** How often the quorum has come back. */
  private returns = 0
  private cancelGrace: Cancel | null = null
  private cancelAgain: Cancel | null = null
  private stateText = ''

  constructor(options: ReplicaOptions) {
    this.options = options
    const { clock, logger, log, store, self, incarnation } = options
    this.clock = clock
    this.log = log
    this.store = store
    this.startedMs = clock.monotonicMs()
    this.chat = options.openChat(store.db)
    this.applier = new Applier(this.chat.machine, store, logger)
    this.appliedIndex = store.appliedIndex
    this.logStatus = log.status()
    this.addresses = addressesForClients(this.logStatus.members)
    this.time = new OwnTime(clock, logger, () => log.otherClocksMs())
    this.pending = new PendingCommands({
      origin: self,
      incarnation,
      clock,
      nowMs: () => this.time.nowMs,
      propose: (batch) => log.propose(batch),
      // Nobody said that anything is lost, so what follows need not wait for it.
      onStuck: () => this.proposeAgainSoon(0),
    })
    const execute = (command: Command, done: (result: Executed) => void): void =>
      this.executeOwn(command, done)
    this.presence = new Presence({ self, incarnation, clock, execute })
    const queries = (): ChatQueries => this.chat.queries
    this.subscriptions = new Subscriptions({
      clock,
      logger,
      queries,
      position: () => this.chat.machine.position,
      whenCaughtUp: (done) =>
        this.reads.linearizable(this.appliedIndex, ownTimeoutMs, (failure) => done(failure === null)),
      onConnected: (session, connected) => this.presence.setConnected(session, connected),
    })
    this.housekeeping = new Housekeeping({
      clock,
      queries,
      status: () => this.logStatus,
      nowMs: () => this.nowMs,
      versionInUse: () => this.versionInUse,
      execute,
      lookAtClock: () => this.time.look(),
    })
    this.reads = new ReadWaiters(clock, log)
    this.place =
      options.place === undefined
        ? null
        : new OwnPlace({
            ...options.place,
            clock,
            logger,
            status: () => log.status(),
            change: (change, timeoutMs) => this.change(change, timeoutMs),
          })
  }

  // Replica

  get queries(): ChatQueries {
    return this.chat.queries
  }

  get position(): number {
    return this.chat.machine.position
  }

  get nowMs(): number {
    return Math.max(this.time.nowMs, this.chat.machine.nowMs)
  }

  get state(): ReplicaState {
    return {
      self: this.options.self,
      clusterId: this.options.clusterId,
      leader: this.logStatus.leader,
      quorum: this.hasQuorum(),
      waitingFor: this.logStatus.waitingFor,
      draining: this.draining,
      hindered: this.isBehind || this.logStatus.full,
      addresses: this.addresses,
    }
  }

  execute(command: Command, timeoutMs: number, done: (result: Executed) => void): void {
    const why = this.draining ? 'draining' : (this.unwritable() ?? this.unknownTo(command))
    if (why === null) this.pending.add(command, timeoutMs, done)
    else this.clock.soon(() => done({ kind: 'refused', why }))
  }

  whenReadable(read: ReadOptions, done: (failure: Unavailable | null) => void): void {
    if (this.draining) {
      this.clock.soon(() => done('draining'))
    } else if (read.local) {
      this.reads.atPosition(read.minPosition, this.position, read.timeoutMs, done)
    } else if (this.hasQuorum()) {
      this.reads.linearizable(this.appliedIndex, read.timeoutMs, done)
    } else {
      this.clock.soon(() => done('noQuorum'))
    }
  }

  async search(account: number, request: SearchMessagesRequest): Promise<SearchMessagesResponse> {
    if (this.options.search === null) return { messages: [], nextPageToken: '' }
    // The index reads the state through a connection of its own.
    this.commit()
    return this.options.search.search(account, request, this.position)
  }

  subscribe(
    who: { readonly account: number; readonly session: number },
    cursor: number,
    receiver: Receiver,
  ): Subscription {
    return this.subscriptions.open(who, cursor, receiver)
  }

  async takeCopy(): Promise<StateCopy> {
    // The copy is made through another connection, which sees what has been committed.
    this.commit()
    if (this.store.appliedIndex < this.appliedIndex)
      throw Object.assign(new Error('ENOSPC: what was applied cannot be written'), { code: 'ENOSPC' })
    return this.store.takeSnapshot(this.appliedIndex)
  }

  touch(session: number): void {
    this.housekeeping.touch(session)
  }

  change(change: ReplicaSetChange, timeoutMs: number): Promise<ReplicaSetAnswer> {
    return changeReplicaSet(this.log, change, timeoutMs)
  }

  status(): GetStatusResponse {
    return statusResponse({
      clusterId: this.options.clusterId,
      log: this.log.status(),
      appliedIndex: this.appliedIndex,
      stateBytes: this.store.sizeBytes,
      stateFreeBytes: this.store.freeBytes,
      due: this.queries.expiryDue(this.nowMs),
      position: this.position,
      versionInUse: this.versionInUse,
      quorum: this.hasQuorum(),
      uptimeS: Math.floor((this.clock.monotonicMs() - this.startedMs) / 1000),
      appliedCommands: this.appliedCommands,
      connections: this.subscriptions.size,
      vitals: this.options.vitals(),
      problemWith: this.options.problemWith ?? (() => ''),
      stalled: this.pending.isStalled,
      clockProblem: this.time.problem,
    })
  }

  onStateChange(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  // The host

  get versionInUse(): number {
    return this.chat.machine.version
  }

  async start(): Promise<void> {
    this.watchQuorum()
    this.presence.start()
    this.housekeeping.start()
    await this.log.start(this)
    this.statusChanged()
  }

  drain(timeoutMs: number): Promise<void> {
    this.draining = true
    this.presence.close()
    this.housekeeping.close()
    this.place?.close()
    this.tellState()
    const endMs = this.clock.monotonicMs() + timeoutMs
    return new Promise((resolve) => {
      const check = (): void => {
        if (this.pending.size === 0 || this.clock.monotonicMs() >= endMs) resolve()
        else this.clock.after(10, check)
      }
      check()
    })
  }

  close(): void {
    this.commit()
    this.failed = true
    this.presence.close()
    this.housekeeping.close()
    this.place?.close()
    this.cancelGrace?.()
    this.cancelAgain?.()
    this.pending.giveUp('draining')
    this.pending.close()
    this.reads.close()
    this.subscriptions.close()
    this.listeners.clear()
  }

  // LogConsumer

  get engineState(): Uint8Array {
    return this.store.engineState
  }

  apply(entries: readonly CommittedEntry[], engineState: Uint8Array): 'applied' | 'later' {
    // After a failure nothing may be applied any more: the process is about to end.
    if (this.failed) return 'later'
    const result = this.applier.apply(entries, engineState)
    switch (result.kind) {
      case 'applied':
        this.appliedIndex = entries.at(-1)?.index ?? this.appliedIndex
        this.cancelCommit ??= this.clock.after(commitMs, () => this.commit())
        this.tell(result.batches)
        return 'applied'
      case 'noSpace':
        this.cancelCommit ??= this.clock.after(commitAgainMs, () => this.commit())
        return 'later'
      case 'failed':
        this.fail(result.error)
        return 'later'
    }
  }

  interrupted(): void {
    this.pending.pause()
    this.proposeAgainSoon(0)
  }

  statusChanged(): void {
    this.logStatus = this.log.status()
    this.addresses = addressesForClients(this.logStatus.members)
    this.watchQuorum()
    this.housekeeping.statusChanged()
    this.tellState()
    this.place?.look()
    if (this.removed || !this.log.isRemoved(this.options.self)) return
    this.removed = true
    this.options.onRemoved?.()
  }

  checkpoint(done: (durableIndex: number) => void): void {
    this.store.checkpoint(done)
  }

  takeSnapshot(): Promise<SnapshotSource> {
    return this.store.takeSnapshot()
  }

  async receiveSnapshot(offer: SnapshotOffer): Promise<SnapshotSink> {
    const sink = await this.store.receiveSnapshot(offer)
    return {
      get offset() {
        return sink.offset
      },
      write: (offset, bytes) => sink.write(offset, bytes),
      finish: () => sink.finish(),
      install: () => {
        sink.install()
        this.stateSwapped()
      },
      abandon: () => sink.abandon(),
    }
  }

  // Inside

  private commit(): void {
    this.cancelCommit?.()
    this.cancelCommit = null
    if (this.failed) return
    const startedMs = this.clock.monotonicMs()
    const result = this.applier.commit()
    if (result.kind === 'failed') this.fail(result.error)
    else if (result.kind === 'noSpace') {
      // In vain, that takes the longer the more is waiting: it must not fill this replica's time.
      const tookMs = this.clock.monotonicMs() - startedMs
      this.cancelCommit = this.clock.after(Math.max(commitAgainMs, 20 * tookMs), () => this.commit())
    }
  }

  private fail(error: unknown): void {
    this.failed = true
    this.options.onFatal(error)
  }

  private stateSwapped(): void {
    this.chat = this.options.openChat(this.store.db)
    this.applier = new Applier(this.chat.machine, this.store, this.options.logger)
    this.appliedIndex = this.store.appliedIndex
    this.subscriptions.reload()
    this.reads.advanced(this.appliedIndex, this.position)
  }

  /** Answers, then events. */
  private tell(batches: readonly AppliedBatch[]): void {
    const all: Applied[] = []
    const { self, incarnation } = this.options
    for (const { batch, applied } of batches) {
      if (applied !== null) {
        this.appliedCommands += applied.length
        for (const one of applied) all.push(one)
        this.noticeReplicaGone(batch.commands)
      }
      if (batch.origin === self && batch.incarnation === incarnation)
        this.pending.settle(batch.number, applied)
    }
    this.subscriptions.publish(all)
    this.reads.advanced(this.appliedIndex, this.position)
  }

  private noticeReplicaGone(commands: readonly Command[]): void {
    for (const { id, op } of commands) {
      if (id.length === 0 && op?.$case === 'replicaGone')
        this.presence.replicaGone(op.value.replica, op.value.incarnation)
    }
  }

  private executeOwn(command: Command, done: (result: Executed) => void): void {
    const why = this.unwritable()
    if (why === null) this.pending.add(command, ownTimeoutMs, done)
    else this.clock.soon(() => done({ kind: 'refused', why }))
  }

  private unwritable(): Unavailable | null {
    if (!this.hasQuorum()) return 'noQuorum'
    if (this.logStatus.full) return 'noSpace'
    if (this.pending.isStalled) return 'stalled'
    return this.isBehind ? 'catchingUp' : null
  }

  /** Whether some replica may not know the command. */
  private unknownTo({ op }: Command): Unavailable | null {
    return versionOf(op) > this.chat.machine.version ? 'upgradePending' : null
  }

  private hasQuorum(): boolean {
    return this.quorum !== 'lost'
  }

  private watchQuorum(): void {
    if (this.logStatus.available) {
      const before = this.quorum
      this.quorum = 'there'
      this.cancelGrace?.()
      this.cancelGrace = null
      if (before === 'lost') {
        this.returns += 1
        this.isBehind = true
        this.catchUp(this.returns)
      } else if (before === 'missing' && !this.isBehind) {
        this.presence.quorumGained()
      }
      return
    }
    if (this.quorum !== 'there') return
    const graceMs = this.options.graceMs ?? 2000
    this.quorum = graceMs > 0 ? 'missing' : 'lost'
    this.cancelGrace = this.clock.after(graceMs, () => {
      // The timer decides, not a look at the clock: timers fire a little early now and then, and this is told only once.
      this.quorum = 'lost'
      // What is under way cannot come back before there is a quorum again, and no disk is at fault.
      this.interrupted()
      this.pending.giveUp('noQuorum')
      this.reads.giveUp('noQuorum')
      this.tellState()
    })
  }

  /** Clients are served once this replica has applied what the others had committed when it came back: a read tells. */
  private catchUp(returns: number): void {
    this.reads.linearizable(this.appliedIndex, catchUpAgainMs, (failure) => {
      if (this.failed || this.returns !== returns || this.quorum === 'lost') return
      if (failure === null) {
        this.isBehind = false
        this.presence.quorumGained()
        this.housekeeping.statusChanged()
        this.tellState()
      } else {
        this.clock.after(10, () => this.catchUp(returns))
      }
    })
  }

  /** Not while nobody would take it: each attempt without a leader would only be interrupted again. */
  private proposeAgainSoon(delayMs: number): void {
    this.cancelAgain?.()
    this.cancelAgain = this.clock.after(delayMs, () => {
      this.cancelAgain = null
      if (this.logStatus.available) this.pending.proposeAgain()
      else this.proposeAgainSoon(10)
    })
  }

  private tellState(): void {
    const { leader, quorum, waitingFor, draining, hindered, addresses } = this.state
    const text = `${leader} ${quorum} ${waitingFor.join()} ${draining} ${hindered} ${addresses.join(' ')}`
    if (text === this.stateText) return
    this.stateText = text
    for (const listener of this.listeners) listener()
  }
}

/** A learner may be far behind: clients that know it by its address find it, and no others are sent there. */
function addressesForClients(members: LogStatus['members']): readonly string[] {
  const voters = members.filter(({ voter }) => voter)
  return (voters.length > 0 ? voters : members).map(({ address }) => parseAddresses(address).http)
}

/** Commands of the cluster itself are asked again by those who made them. */
const ownTimeoutMs = 10_000
/** What was applied is committed so often: a commit costs as much as applying tens of messages, and writes every page anew that it changed. */
export const commitMs = 150
/** How far the others are is asked again so often. */
const catchUpAgainMs = 5000
/** A disk without room is tried again so often. */
const commitAgainMs = 1000
