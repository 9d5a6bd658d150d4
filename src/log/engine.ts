import { assert } from '../base/assert.ts'
import type { Clock } from '../base/clock.ts'
import { replicaName, type ReplicaId } from '../base/ids.ts'
import type { Logger } from '../base/logger.ts'
import type { Random } from '../base/random.ts'
import { highestIdOf } from '../raft/configurations.ts'
import { RaftCore } from '../raft/core.ts'
import type {
  Configuration,
  ConfigurationChange,
  CoreOptions,
  Entry,
  HardState,
  Index,
  Input,
  Message,
  Ready,
  SnapshotPoint,
  Term,
} from '../raft/types.ts'
import type { Disk } from '../storage/disk.ts'
import type { WalOptions, WriteAheadLog } from '../storage/types.ts'
import { openLog } from '../storage/wal.ts'
import { Changes, type ChangeResult } from './changes.ts'
import { Compaction, defaultCompaction, type CompactionOptions } from './compaction.ts'
import { decodeSnapshotPoint, encodeEngineState } from './engine-state.ts'
import {
  maxProposalBytes,
  type CommittedEntry,
  type LogConsumer,
  type LogStatus,
  type ReplicaSetChange,
  type ReplicaSetResult,
  type ReplicatedLog,
  type SnapshotSink,
} from './port.ts'
import { Reads } from './reads.ts'
import { changeReplicaSet } from './replica-set.ts'
import { ReplicaSetView } from './replica-set-view.ts'
import { SnapshotReceiver } from './snapshot-receiver.ts'
import { SnapshotSender } from './snapshot-sender.ts'
import { Ticks } from './ticks.ts'
import type { SnapshotChunk, Transport } from './transport.ts'

export interface EngineOptions {
  readonly self: ReplicaId
  /** How often this replica has started, durably. Default 1; the `fail-stop` model rests on it. */
  readonly incarnation?: number
  /** Of a new cluster, the same at all its replicas. Without members for a replica that joins a cluster: it learns them from the leader. */
  readonly configuration: Configuration
  readonly disk: Disk
  readonly clock: Clock
  readonly random: Random
  readonly transport: Transport
  readonly logger: Logger
  /** The engine cannot go on and has stopped: a write failed, or an invariant is broken. Called once; the process should end with the message. */
  readonly onFatal: (error: Error) => void
  /** The log is on the disk, and nobody has been promised anything yet: the last moment to note that this replica has a memory that can be missed. */
  readonly onOpened?: () => void
  readonly tuning?: Partial<EngineTuning>
}

export interface EngineTuning {
  /** The unit of the core's time-outs. Default 30 ms. */
  readonly tickMs: number
  /** See {@link CoreOptions}. */
  readonly core: Partial<Omit<CoreOptions, 'self' | 'incarnation'>>
  /** See {@link WalOptions}. */
  readonly wal: Partial<Pick<WalOptions, 'segmentBytes' | 'cacheBytes'>>
  readonly compaction: Partial<CompactionOptions>
  /** Most bytes that are applied before input is handled again. Default 1 MiB. */
  readonly maxApplyBytes: number
  /** Most bytes of a copy of the state that travel in one piece. Default 256 KiB. */
  readonly chunkBytes: number
  /** How long a leader that stops waits for another one. Default 1,000 ms. */
  readonly handOverMs: number
}

const defaultTuning: EngineTuning = {
  tickMs: 30,
  core: {},
  wal: {},
  compaction: {},
  maxApplyBytes: 1024 * 1024,
  chunkBytes: 256 * 1024,
  handOverMs: 1000,
}

const defaultCore: Omit<CoreOptions, 'self' | 'incarnation'> = {
  heartbeatTicks: 3,
  electionTicks: 10,
  maxAppendBytes: 256 * 1024,
  maxInflightBytes: 1024 * 1024,
  maxInflightMessages: 64,
  maxUncommittedBytes: 64 * 1024 * 1024,
}

const defaultWal = { segmentBytes: 16 * 1024 * 1024, cacheBytes: 4 * 1024 * 1024 }

/** Proposals that are handed to the core, and travel, in one piece. */
const proposalGroupBytes = 1024 * 1024
/** Applying should not keep input waiting for longer; how many bytes that is depends on what they hold, so it is measured. */
const applyTargetMs = 5
const leastApplyBytes = 16 * 1024
const applyAgainMs = 500

/** A leader that cannot make a copy of its state hands over at most once in so long: the others may be no better off. */
const handOverAgainMs = 600_000

/** A replica that was removed is not listened to any more after so long. */
const farewellMs = 3000

/** Why a replica that was removed may not take part. */
export function removedWords(replica: ReplicaId): string {
  return `${replicaName(replica)} was removed from this cluster, and ids are never used again. Its folder is of no more use; a new replica joins with a new one: parley replica add, or parley join`
}

/** Something that was handed to the log, and what waits for it to be on disk. */
interface Write {
  readonly index: Index
  readonly term: Term
  readonly hardState: HardState | null
  readonly messages: Message[]
}

/**
 * The built-in engine of the log: carries out what the Raft core decides, with a disk, a clock and links. All input is stepped into the core as it comes; once per turn of
 * the event loop the core is asked what to do, so that everything that came in together is written, sent and applied together.
 */
export class Engine implements ReplicatedLog {
  private readonly options: EngineOptions
  private readonly tuning: EngineTuning
  private readonly clock: Clock
  private readonly transport: Transport
  private readonly logger: Logger
  private readonly reads: Reads
  private readonly changes = new Changes()
  private readonly ticks: Ticks
  private readonly view: ReplicaSetView
  private readonly sender: SnapshotSender
  private readonly receiver: SnapshotReceiver

  private phase: 'new' | 'running' | 'stopping' | 'halted' = 'new'
  private parts: {
    readonly consumer: LogConsumer
    readonly log: WriteAheadLog
    readonly core: RaftCore
    readonly compaction: Compaction
  } | null = null

  private turnScheduled = false
  private pending: Uint8Array[] = []
  private readonly writes: Write[] = []
  private onWritten: (() => void)[] = []
  private commitIndex: Index = 0
  private appliedIndex: Index = 0
  private appliedConfiguration: Configuration
  private engineState: Uint8Array = new Uint8Array(0)
  private engineStateTerm: Term = 0
  private applyBytes: number
  private applyBlocked = false
  private couldNotSendMs = Number.NEGATIVE_INFINITY
  /** There was no room for a copy of the state up to here, and nothing else has brought this replica that far. */
  private noRoomUpTo: Index = 0
  /** A copy of the state is being swapped in: the core must not run. */
  private installing = false
  /** What came meanwhile that must not be lost. */
  private missed: Input[] = []
  private installation: Promise<unknown> = Promise.resolve()
  private offered: Ready['snapshotOffered'] = null
  private toldFull = false
  private statusDirty = false
  private peersOf: Configuration | null = null
  private onStatus: (() => void)[] = []

  constructor(options: EngineOptions) {
    this.options = options
    this.tuning = { ...defaultTuning, ...options.tuning }
    this.clock = options.clock
    this.transport = options.transport
    this.logger = options.logger
    this.appliedConfiguration = options.configuration
    this.applyBytes = Math.min(leastApplyBytes, this.tuning.maxApplyBytes)
    this.reads = new Reads((id) => this.step({ kind: 'readIndex', id }))
    this.view = new ReplicaSetView(() => this.running().core.status(), this.transport)
    const shared = { self: options.self, clock: this.clock, transport: this.transport, logger: this.logger }
    this.sender = new SnapshotSender({
      ...shared,
      chunkBytes: this.tuning.chunkBytes,
      takeSnapshot: () => this.running().consumer.takeSnapshot(),
      taken: (to, source) =>
        this.guarded(() => {
          const point = decodeSnapshotPoint(source.index, source.engineState, options.configuration)
          this.step({ kind: 'snapshotTaken', to, point })
          // The announcement must leave before the chunks.
          this.takeReadies()
        }),
      ended: (to, index, ok) => this.guarded(() => this.step({ kind: 'snapshotSent', to, index, ok })),
      failed: (error) => this.guarded(() => this.cannotSend(error)),
    })
    this.ticks = new Ticks(this.clock, this.tuning.tickMs, () => this.guarded(() => this.tick()))
    this.receiver = new SnapshotReceiver({
      ...shared,
      receiveSnapshot: (offer) => this.running().consumer.receiveSnapshot(offer),
      pointOf: (chunk) => decodeSnapshotPoint(chunk.index, chunk.engineState, options.configuration),
      isOffered: (chunk, point) => this.isOffered(chunk, point),
      noRoom: (index) =>
        this.guarded(() => {
          this.noRoomUpTo = index
          this.updateFull()
        }),
      isKnown: (index) => this.appliedIndex >= index || this.commitIndex >= index,
      install: (sink, point) => {
        const installation = this.install(sink, point)
        this.installation = installation.catch(() => {})
        return installation
      },
    })
  }

  async start(consumer: LogConsumer): Promise<void> {
    assert(this.phase === 'new', 'the engine was started twice')
    const { self, incarnation = 1, disk, random, configuration } = this.options
    const applied = decodeSnapshotPoint(consumer.appliedIndex, consumer.engineState, configuration)
    const { log, cutBytes } = openLog(
      disk,
      {
        ...defaultWal,
        ...this.tuning.wal,
        clock: this.clock,
        onFailed: (error) => this.fail(error),
        onFullChanged: () =>
          this.guarded(() => {
            this.updateFull()
            this.tellWritten()
          }),
      },
      applied,
    )
    if (cutBytes > 0)
      this.logger.info(
        { cutBytes },
        'an unfinished write at the end of the log was cut off: nobody relied on it',
      )
    const core = new RaftCore(
      { ...defaultCore, ...this.tuning.core, self, incarnation },
      log,
      { hardState: log.hardState, configuration, appliedIndex: applied.index },
      random,
    )
    this.parts = {
      consumer,
      log,
      core,
      compaction: new Compaction(
        { ...defaultCompaction, ...this.tuning.compaction },
        { startIndex: log.start.index, lastIndex: log.lastIndex, sizeBytes: log.sizeBytes },
      ),
    }
    this.appliedIndex = applied.index
    this.commitIndex = applied.index
    this.appliedConfiguration = applied.configuration
    this.engineState = consumer.engineState
    this.engineStateTerm = applied.term
    this.phase = 'running'
    this.updateFull()
    this.updatePeers()
    try {
      this.options.onOpened?.()
      await this.startLinks()
    } catch (error) {
      this.halt()
      await new Promise<void>((resolve) => log.close(resolve))
      throw error
    }
    this.statusDirty = true
    if (this.canStep()) this.ticks.start(this.quietTicks())
    this.schedule()
  }

  propose(data: Uint8Array): void {
    assert(data.length <= maxProposalBytes, 'a proposal is too long', { bytes: data.length })
    if (this.phase === 'halted') return
    this.pending.push(data)
    this.schedule()
  }

  readBarrier(timeoutMs: number, done: (index: number | null) => void): void {
    if (this.phase === 'halted') {
      this.clock.soon(() => done(null))
      return
    }
    this.reads.add({ deadlineMs: this.clock.monotonicMs() + timeoutMs, done })
    this.schedule()
  }

  status(): LogStatus {
    const { self, configuration } = this.options
    const core = this.parts?.core.status()
    const log = this.parts?.log
    const { faultModel, members } = core?.configuration ?? configuration
    return {
      available: this.phase !== 'halted' && core?.available === true,
      full: this.isFull(),
      leader: core?.leader ?? 0,
      self,
      faultModel,
      role: core?.role ?? 'follower',
      term: core?.term ?? 0,
      commitIndex: Math.max(core?.commitIndex ?? 0, this.appliedIndex),
      firstIndex: (log?.start.index ?? 0) + 1,
      // As the members go: of the core, which is ahead of the files by what it has not handed out yet.
      lastIndex: core?.lastIndex ?? 0,
      logBytes: log?.sizeBytes ?? 0,
      voters: members.filter((member) => member.voter).length,
      mayFail: core?.mayFail ?? 0,
      waitingFor: core?.waitingFor ?? [],
      commonVersion: Math.min(
        ...[...members, ...this.appliedConfiguration.members].map(({ id }) => this.transport.version(id)),
      ),
      members: members.map(({ id, voter, address }) => ({
        id,
        voter,
        address,
        reachable: id === self || this.transport.isUp(id),
        version: this.transport.version(id),
        roundTripUs: id === self ? 0 : this.transport.roundTripUs(id),
        matchIndex:
          id === self
            ? (log?.lastIndex ?? 0)
            : (core?.progress.find((progress) => progress.id === id)?.matchIndex ?? 0),
        copy: id === self ? this.receiver.progress : this.sender.progressOf(id),
      })),
    }
  }

  otherClocksMs(): readonly (number | null)[] {
    const { members } = this.parts?.core.status().configuration ?? this.options.configuration
    return members.filter(({ id }) => id !== this.options.self).map(({ id }) => this.transport.clockMs(id))
  }

  change(change: ReplicaSetChange, timeoutMs: number): Promise<ReplicaSetResult> {
    return changeReplicaSet(change, timeoutMs, {
      clock: this.clock,
      configuration: () => this.configuration,
      applied: () => this.appliedConfiguration,
      change: async (one) => {
        const result = await this.changeMembership(one)
        return result.ok ? null : result.refused
      },
      transfer: async (to) => {
        if (!this.view.canAskLeader()) return 'upgradePending'
        return (await this.transferLeadership(to)) ? null : 'notTaken'
      },
      successor: () => (this.parts === null ? 0 : this.view.successor()),
      isReachable: (replica) => replica === this.options.self || this.transport.isUp(replica),
      handsOverFirst: (leaving) => this.phase === 'running' && this.view.handsOverFirst(leaving),
    })
  }

  isRemoved(replica: ReplicaId): boolean {
    const applied = this.appliedConfiguration
    const isMember = ({ members }: Configuration): boolean => members.some(({ id }) => id === replica)
    return replica <= highestIdOf(applied) && !isMember(applied) && !isMember(this.configuration)
  }

  /**
   * Changes the replica set, with one attempt. Resolves when the change is committed and applied here, or refused; `notLeader` and `unanswered` also when it was lost
   * with its leader.
   */
  changeMembership(change: ConfigurationChange): Promise<ChangeResult> {
    if (this.phase !== 'running' || this.installing)
      return Promise.resolve({ ok: false, refused: 'notLeader' })
    if (!this.view.canAskLeader() || this.view.mustWait(change))
      return Promise.resolve({ ok: false, refused: 'upgradePending' })
    return this.changes.add((id) => this.input({ kind: 'change', change, id }))
  }

  /** Goes on without these replicas, by an operator's order: what they alone hold is lost. Only in the fault model `fail-stop`. */
  giveUp(replicas: readonly ReplicaId[]): void {
    this.logger.warn(
      { replicas: replicas.map(replicaName) },
      'an operator gave up replicas: what they alone hold is lost',
    )
    this.guarded(() => this.certain({ kind: 'giveUp', replicas }))
  }

  /** Lets the leader hand over to another voter. Resolves with whether that one leads, at the latest after `handOverMs`. */
  async transferLeadership(to: ReplicaId): Promise<boolean> {
    if (this.phase !== 'running' && this.phase !== 'stopping') return false
    const { core } = this.running()
    this.input({ kind: 'transfer', to })
    const patience = { ended: false }
    const cancel = this.clock.after(this.tuning.handOverMs, () => {
      patience.ended = true
      this.tellStatus()
    })
    while (!patience.ended && core.status().leader !== to && this.canStep())
      await new Promise<void>((resolve) => this.onStatus.push(resolve))
    cancel()
    return core.status().leader === to
  }

  async stop(): Promise<void> {
    if (this.phase === 'new') this.phase = 'halted'
    if (this.phase !== 'running') return
    this.phase = 'stopping'
    const { core, log } = this.running()
    // A copy of the state that waits for room in the log gives up.
    this.tellWritten()
    await Promise.race([this.installation, this.installationIsStuck()])
    if (!this.installing) {
      const successor = this.view.bestSuccessor()
      if (successor !== null) await this.transferLeadership(successor)
      await this.writesFinished()
    }
    if (!this.canStep()) return
    this.logger.info({ term: core.status().term, index: this.appliedIndex }, 'the log stops')
    this.halt()
    await this.stopLinks()
    await new Promise<void>((resolve) => log.close(resolve))
  }

  private get configuration(): Configuration {
    return this.parts?.core.status().configuration ?? this.options.configuration
  }

  private running(): NonNullable<typeof this.parts> {
    assert(this.parts !== null, 'the engine was not started')
    return this.parts
  }

  private canStep(): boolean {
    return this.phase === 'running' || this.phase === 'stopping'
  }

  private step(input: Input): void {
    this.countTicks(this.ticks.takePassed())
    this.running().core.step(input)
    this.schedule()
  }

  /** What comes from outside. While a copy of the state is swapped in the core must not run: what is lost then is repeated. */
  private input(input: Input): void {
    if (!this.installing) this.guarded(() => this.step(input))
  }

  /** As `input`, for what must not be missed. */
  private certain(input: Input): void {
    if (this.installing) this.missed.push(input)
    else this.step(input)
  }

  private guarded(action: () => void): void {
    if (!this.canStep()) return
    try {
      action()
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)))
    }
  }

  private fail(error: Error): void {
    if (this.phase === 'halted') return
    this.logger.error({ error: error.message, stack: error.stack }, 'the log stops: it cannot go on')
    this.halt()
    void this.stopLinks()
    this.options.onFatal(error)
  }

  private async startLinks(): Promise<void> {
    await this.transport.start({
      message: (message) => this.received(message),
      chunk: (chunk) => this.guarded(() => this.receiver.chunk(chunk)),
      chunkReply: (reply) => this.guarded(() => this.sender.reply(reply)),
      up: (peer) =>
        this.guarded(() => {
          this.statusDirty = true
          this.input({ kind: 'reachable', replica: peer })
          this.sender.up(peer)
        }),
      down: (peer, evidence) =>
        this.guarded(() => {
          this.statusDirty = true
          if (evidence === 'died') this.input({ kind: 'suspect', replica: peer })
          this.schedule()
        }),
      incarnation: (replica, incarnation, lives) =>
        this.guarded(() => this.certain({ kind: 'incarnation', replica, incarnation, lives })),
    })
  }

  private received(message: Message): void {
    if (
      message.kind !== 'change' ||
      message.term !== this.running().core.status().term ||
      !this.view.mustWait(message.change)
    ) {
      this.input({ kind: 'message', message })
      return
    }
    const { from, to, term, id } = message
    this.transport.send({
      kind: 'changeReply',
      from: to,
      to: from,
      term,
      id,
      index: 0,
      refused: 'upgradePending',
    })
  }

  private async stopLinks(): Promise<void> {
    try {
      await this.transport.stop()
    } catch (error) {
      this.logger.warn({ error: String(error) }, 'the peer links did not stop')
    }
  }

  private halt(): void {
    this.phase = 'halted'
    this.ticks.stop()
    this.sender.stop()
    this.receiver.stop()
    this.reads.end()
    this.changes.end()
    this.tellWritten()
    this.tellStatus()
  }

  private schedule(): void {
    if (this.turnScheduled || !this.canStep()) return
    this.turnScheduled = true
    this.clock.soon(() => {
      this.turnScheduled = false
      if (!this.installing) this.guarded(() => this.turn())
    })
  }

  private turn(): void {
    this.propagateProposals()
    this.reads.begin()
    this.takeReadies()
    this.apply()
    this.reads.applied(this.appliedIndex)
    this.compactWhenDue()
    if (this.statusDirty) {
      this.statusDirty = false
      this.tellStatus()
      this.running().consumer.statusChanged()
    }
    this.ticks.waitAtMost(this.quietTicks())
  }

  private propagateProposals(): void {
    const { pending } = this
    if (pending.length === 0) return
    this.pending = []
    let group: Uint8Array[] = []
    let bytes = 0
    for (const data of pending) {
      if (bytes > 0 && bytes + data.length > proposalGroupBytes) {
        this.step({ kind: 'propose', data: group })
        group = []
        bytes = 0
      }
      group.push(data)
      bytes += data.length
    }
    this.step({ kind: 'propose', data: group })
  }

  private takeReadies(): void {
    const { core } = this.running()
    for (;;) {
      const ready = core.takeReady()
      if (ready === null) return
      this.write(ready)
      for (const message of ready.send) this.transport.send(message)
      this.commitIndex = Math.max(this.commitIndex, ready.commitIndex)
      for (const { id, index } of ready.reads) this.reads.answered(id, index)
      this.tell(ready)
    }
  }

  private write({ hardState, entries, sendAfterWrite }: Ready): void {
    if (hardState === null && entries.length === 0) {
      const newest = this.writes.at(-1)
      if (newest === undefined) for (const message of sendAfterWrite) this.transport.send(message)
      else newest.messages.push(...sendAfterWrite)
      return
    }
    const { log, compaction } = this.running()
    const last = entries.at(-1)
    const write: Write = {
      index: last?.index ?? 0,
      term: last?.term ?? 0,
      hardState,
      messages: [...sendAfterWrite],
    }
    this.writes.push(write)
    compaction.written(entries)
    log.append({ hardState, entries }, () => this.guarded(() => this.written(write)))
  }

  private written(write: Write): void {
    assert(this.writes.shift() === write, 'the log finished its writes out of order')
    const { index, term, hardState } = write
    this.step({ kind: 'persisted', index, term, hardState })
    for (const message of write.messages) this.transport.send(message)
    if (this.writes.length > 0) return
    this.tellWritten()
  }

  private tell(ready: Ready): void {
    if (ready.statusChanged) {
      this.statusDirty = true
      this.updatePeers()
      this.reads.retry()
    }
    if (ready.interrupted) {
      // All that has not been applied is proposed again now, so these would come twice.
      this.pending = []
      this.running().consumer.interrupted()
    }
    if (ready.snapshotOffered !== null) this.offered = ready.snapshotOffered
    for (const to of ready.snapshotsWanted) {
      const { core, log } = this.running()
      this.sender.begin(to, core.status().term, log.start.index)
    }
    for (const answer of ready.changes) this.changes.answered(answer)
    for (const peer of ready.regressed) {
      const reason = `the log of ${replicaName(peer)} went back behind what it had acknowledged: its disk was replaced or restored from an old copy. A replica that forgot what it promised must not take part. Put the newest folder back; or, if that is lost: parley replica replace ${replicaName(peer)}`
      this.logger.error({ peer: replicaName(peer) }, reason)
      this.transport.shutOut(peer, 'regressed', reason)
    }
    for (const peer of ready.diverged) {
      const reason = `${replicaName(peer)} and ${replicaName(this.options.self)} have both gone on without the other: what ${replicaName(peer)} has committed since is not known here`
      this.logger.error({ peer: replicaName(peer) }, reason)
      this.transport.shutOut(peer, 'diverged', reason)
    }
  }

  private apply(): void {
    if (this.applyBlocked || this.appliedIndex >= this.commitIndex) return
    const { log, consumer, core } = this.running()
    const startedMs = this.clock.monotonicMs()
    const entries = log.entries(this.appliedIndex + 1, this.commitIndex, this.applyBytes)
    const last = entries.at(-1)
    assert(
      last !== undefined && entries[0]?.index === this.appliedIndex + 1 && last.index <= this.commitIndex,
      'the log does not hold what is committed',
      { applied: this.appliedIndex, commit: this.commitIndex, last: last?.index },
    )
    const configured = entries.findLast((entry) => entry.kind === 'configuration')
    const configuration = configured?.configuration ?? this.appliedConfiguration
    const same = last.term === this.engineStateTerm && configuration === this.appliedConfiguration
    const engineState = same ? this.engineState : encodeEngineState(last.term, configuration)
    if (consumer.apply(entries.map(committed), engineState) === 'later') {
      this.applyLater()
      return
    }
    this.appliedIndex = last.index
    if (configuration !== this.appliedConfiguration) this.configured(this.appliedConfiguration, configuration)
    this.appliedConfiguration = configuration
    this.engineState = engineState
    this.engineStateTerm = last.term
    this.changes.applied(last.index, (index) => entries.find((one) => one.index === index))
    core.step({ kind: 'applied', index: last.index })
    this.adaptApply(this.clock.monotonicMs() - startedMs, last.index < this.commitIndex)
    // Input first: so heartbeats are answered however much there is to apply.
    this.schedule()
  }

  /** A configuration is committed and holds from now on. */
  private configured(before: Configuration, now: Configuration): void {
    this.statusDirty = true
    for (const { id } of before.members) {
      if (id === this.options.self || now.members.some((member) => member.id === id)) continue
      // The leader tells it by itself. Should it not have heard of that for some reason, it is told in words.
      this.clock.after(farewellMs, () =>
        this.guarded(() => {
          if (this.isRemoved(id)) this.transport.shutOut(id, 'removed', removedWords(id))
        }),
      )
    }
  }

  /** @param more whether there was more to apply than at once: else nothing is known of what that much would take. */
  private adaptApply(tookMs: number, more: boolean): void {
    const { maxApplyBytes } = this.tuning
    if (tookMs > applyTargetMs * 2) this.applyBytes = Math.max(leastApplyBytes, this.applyBytes / 2)
    else if (more && tookMs < applyTargetMs) this.applyBytes = Math.min(maxApplyBytes, this.applyBytes * 2)
  }

  private applyLater(): void {
    this.applyBlocked = true
    this.updateFull()
    this.clock.after(applyAgainMs, () =>
      this.guarded(() => {
        this.applyBlocked = false
        if (!this.installing) this.apply()
        this.updateFull()
        this.schedule()
      }),
    )
  }

  private isFull(): boolean {
    return this.applyBlocked || this.noRoomUpTo > this.appliedIndex || this.parts?.log.full === true
  }

  private updateFull(): void {
    const full = this.isFull()
    if (full === this.toldFull || this.installing) return
    this.toldFull = full
    this.statusDirty = true
    this.step({ kind: 'full', full })
  }

  /** That many ticks change nothing but counts, for all that is known now. */
  private quietTicks(): number {
    if (this.toldFull || this.installing || this.reads.areWaiting || this.sender.isSending) return 0
    return this.running().core.quietTicks()
  }

  private countTicks(ticks: number): void {
    for (let left = ticks; left > 0; left -= 1) this.running().core.step({ kind: 'tick' })
  }

  private tick(): void {
    const { core } = this.running()
    const ticks = this.ticks.take()
    this.reads.tick(this.clock.monotonicMs())
    if (!this.installing) {
      this.countTicks(ticks)
      this.sender.tick(({ to, term }) => {
        const status = core.status()
        return (
          status.role === 'leader' &&
          status.term === term &&
          status.configuration.members.some((member) => member.id === to)
        )
      })
      this.receiver.tick()
      this.updateFull()
      this.turn()
    }
    if (this.canStep()) this.ticks.plan(this.quietTicks())
  }

  private updatePeers(): void {
    const { configuration } = this.running().core.status()
    // A replica that joins knows no replica set yet; whom it was told of by others it may dial meanwhile.
    if (configuration === this.peersOf || configuration.members.length === 0) return
    this.peersOf = configuration
    this.transport.setPeers(configuration.members.filter((member) => member.id !== this.options.self))
  }

  private tellStatus(): void {
    for (const resolve of this.onStatus.splice(0)) resolve()
  }

  private compactWhenDue(): void {
    const { consumer, compaction } = this.running()
    if (!compaction.due(this.clock.monotonicMs())) return
    consumer.checkpoint((durableIndex) =>
      this.guarded(() => {
        if (!this.installing) this.compact(durableIndex)
      }),
    )
  }

  private compact(durableIndex: Index): void {
    const { log, core, compaction } = this.running()
    const status = core.status()
    let neededFrom = this.sender.neededFrom()
    // A follower that is fed from the log must not lose it just before it gets there, or it would need one copy after the other (consul 9609).
    for (const { id, matchIndex, active } of status.progress)
      if (active && id !== status.self && matchIndex >= log.start.index)
        neededFrom = Math.min(neededFrom, matchIndex)
    const index = compaction.checked({
      durableIndex: Math.min(durableIndex, this.appliedIndex),
      neededFrom,
      startIndex: log.start.index,
      sizeBytes: log.sizeBytes,
    })
    if (index === null) return
    log.compact(index)
    this.logger.info({ index, logBytes: log.sizeBytes }, 'the log was shortened')
  }

  /** A leader that cannot read its own state is no leader for those that need a copy of it. */
  private cannotSend(error: unknown): void {
    this.logger.error({ error: String(error) }, 'a copy of the state cannot be made or read')
    const nowMs = this.clock.monotonicMs()
    if (nowMs - this.couldNotSendMs < handOverAgainMs) return
    this.couldNotSendMs = nowMs
    const to = this.view.bestSuccessor()
    if (to !== null) this.step({ kind: 'transfer', to })
  }

  private isOffered(chunk: SnapshotChunk, point: SnapshotPoint): boolean {
    if (this.installing) return false
    if (!this.matchesOffer(chunk)) {
      // The announcement may have been lost with a link, and the chunk says the same.
      const { from, to, term } = chunk
      this.step({ kind: 'message', message: { kind: 'snapshot', from, to, term, point } })
      this.takeReadies()
    }
    return this.matchesOffer(chunk) && this.running().core.needsSnapshot(point)
  }

  private matchesOffer({ from, term, index }: SnapshotChunk): boolean {
    const { offered } = this
    return offered !== null && offered.from === from && offered.term === term && offered.point.index === index
  }

  private async install(sink: SnapshotSink, point: SnapshotPoint): Promise<'installed' | 'notNeeded'> {
    const { consumer, core, log, compaction } = this.running()
    try {
      await this.writesFinished()
      if (!this.canStep() || this.writes.length > 0 || !core.needsSnapshot(point)) return 'notNeeded'
      this.installing = true
      sink.install()
      this.appliedIndex = consumer.appliedIndex
      assert(this.appliedIndex === point.index, 'a copy of the state is not what it was said to be', {
        applied: this.appliedIndex,
        announced: point.index,
      })
      // First the state, then the log: were it the other way round, a power cut in between would leave a gap.
      const durableIndex = await new Promise<number>((resolve) => consumer.checkpoint(resolve))
      assert(durableIndex >= point.index, 'a copy of the state is not on disk', { durableIndex })
      await new Promise<void>((resolve) => log.reset(point, resolve))
      if (!this.canStep()) return 'installed'
      this.commitIndex = Math.max(this.commitIndex, point.index)
      this.appliedConfiguration = point.configuration
      this.engineState = consumer.engineState
      this.engineStateTerm = point.term
      this.offered = null
      compaction.restarted(point.index)
      this.changes.applied(point.index, () => undefined)
      core.step({ kind: 'snapshotInstalled', point })
      this.statusDirty = true
      return 'installed'
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)))
      throw error
    } finally {
      this.installing = false
      for (const input of this.missed.splice(0)) this.input(input)
      this.schedule()
    }
  }

  /** Resolves at a moment when the core has nothing to write and nothing is being written. */
  private async writesFinished(): Promise<void> {
    while (this.canStep()) {
      this.takeReadies()
      if (this.writes.length === 0) return
      // What waits for room was promised to nobody, so the end does not wait for it.
      if (this.phase === 'stopping' && this.running().log.full) return
      await new Promise<void>((resolve) => this.onWritten.push(resolve))
    }
  }

  /** Resolves when a copy was swapped in and there is no room to begin the log anew behind it. The next start does that. */
  private async installationIsStuck(): Promise<void> {
    while (this.canStep() && !(this.installing && this.running().log.full))
      await new Promise<void>((resolve) => this.onWritten.push(resolve))
  }

  /** Something was written, or will not be for now. */
  private tellWritten(): void {
    for (const resolve of this.onWritten.splice(0)) resolve()
  }
}

export function createEngine(options: EngineOptions): Engine {
  return new Engine(options)
}

function committed(entry: Entry): CommittedEntry {
  return { index: entry.index, data: entry.kind === 'data' ? entry.data : null }
}
