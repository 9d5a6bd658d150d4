import type { ReplicaId } from '../base/ids.ts'

/** A leader's term: raised by one at each election (Raft §5.1). */
export type Term = number

/** The position of an entry in the log, from 1. */
export type Index = number

/** The fault model that a cluster was created with; recorded in every configuration. */
export type FaultModel = 'majority' | 'fail-stop'

/** How often a replica has started, from 1; raised durably before it talks to anybody. */
export type Incarnation = number

export interface Member {
  readonly id: ReplicaId
  /** A learner gets the log and has no vote. */
  readonly voter: boolean
  /** Where its peer link listens and where clients find it; opaque to the core. */
  readonly address: string
  /**
   * In the `fail-stop` model: of a voter, the incarnation that is one; of a learner, the incarnation that was a voter and has died, which comes back by itself under a later
   * one. Absent: none so far.
   */
  readonly incarnation?: Incarnation
}

/** Where a term begins in the log. */
export interface TermStart {
  readonly term: Term
  readonly index: Index
}

/** The replica set. Effective as soon as it is appended (Raft dissertation §4.1). */
export interface Configuration {
  readonly faultModel: FaultModel
  /** In order of id, each id once. */
  readonly members: readonly Member[]
  /** The highest id that a replica was ever given, when that one is no member any more: ids are never used again. Absent: the highest member's. */
  readonly highestId?: ReplicaId
  /** In the `fail-stop` model: the newest terms of the log up to here, by which a replica can tell whether a log, or a snapshot, goes on from its own. Absent: none. */
  readonly lineage?: readonly TermStart[]
}

/** One record of the replicated log. */
export type Entry =
  | { readonly kind: 'data'; readonly term: Term; readonly index: Index; readonly data: Uint8Array }
  | {
      readonly kind: 'configuration'
      readonly term: Term
      readonly index: Index
      readonly configuration: Configuration
    }
  /** Opens a term: committing it commits what the terms before left (Raft §5.4.2, §8). */
  | { readonly kind: 'noop'; readonly term: Term; readonly index: Index }

/** What must be on disk before any message that depends on it leaves. */
export interface HardState {
  readonly term: Term
  /** For whom this replica voted in `term`; 0 = for nobody. */
  readonly vote: ReplicaId
}

/** What a snapshot stands for: everything up to `index`. */
export interface SnapshotPoint {
  readonly index: Index
  readonly term: Term
  readonly configuration: Configuration
}

/**
 * Where the core reads entries that it no longer holds in memory: those that were handed out to be written. Synchronous;
 * an implementation keeps the recent ones in memory. It holds (start.index, lastIndex].
 */
export interface LogReader {
  /** The point before the first entry that is still there. */
  readonly start: SnapshotPoint
  readonly lastIndex: Index
  /** The term of the entry at `index`, or of the start point; null when it is not there (compacted, or not written yet). */
  termAt(index: Index): Term | null
  /** Entries from `from` on, at most to `to` inclusive, at most `maxBytes` of data but at least one entry. */
  entries(from: Index, to: Index, maxBytes: number): readonly Entry[]
}

export type Message = { readonly from: ReplicaId; readonly to: ReplicaId; readonly term: Term } & MessageBody

export type MessageBody =
  /** Would you vote for me in `term`? Changes nothing at the voter (Raft dissertation §9.6). */
  | { readonly kind: 'preVote'; readonly lastIndex: Index; readonly lastTerm: Term }
  | { readonly kind: 'preVoteReply'; readonly granted: boolean }
  /** `transfer`: the leader asked for this election, so a live leader is no reason to refuse. */
  | { readonly kind: 'vote'; readonly lastIndex: Index; readonly lastTerm: Term; readonly transfer: boolean }
  | { readonly kind: 'voteReply'; readonly granted: boolean }
  | {
      readonly kind: 'append'
      readonly prevIndex: Index
      readonly prevTerm: Term
      readonly entries: readonly Entry[]
      readonly commit: Index
    }
  /** `accepted`: everything up to `index` matches and is on disk. Otherwise `index` and `conflictTerm` say where to go back to. */
  | {
      readonly kind: 'appendReply'
      readonly accepted: boolean
      /** Of the append that is answered; 0 when several accepted ones are answered at once. */
      readonly prevIndex: Index
      readonly index: Index
      readonly conflictTerm: Term
      /** The last entry of the follower's log, whatever it holds. */
      readonly lastIndex: Index
    }
  /**
   * `round` counts up; a reply to it proves that the sender still led when round began (ReadIndex, Raft dissertation §6.4). Round 0 wants no reply: it only
   * tells how far the log is committed. The receiver takes that over only as far as it knows that its log matches the sender's.
   */
  | { readonly kind: 'heartbeat'; readonly commit: Index; readonly round: number }
  | {
      readonly kind: 'heartbeatReply'
      readonly round: number
      /** The last entry of the sender's log. */
      readonly lastIndex: Index
      /** How many `propose` messages it has sent to this leader in this term: if the leader got fewer, some were lost. */
      readonly proposed: number
    }
  /** A follower asks the leader from where on a read is linearizable. */
  | { readonly kind: 'readIndex'; readonly id: number }
  /** `index` 0: ask again later, no leader that could tell. */
  | { readonly kind: 'readIndexReply'; readonly id: number; readonly index: Index }
  /** Proposals that another replica took in, in order. `number` counts these messages from 1, per leader and term. */
  | { readonly kind: 'propose'; readonly number: number; readonly data: readonly Uint8Array[] }
  /** The leader dropped proposals of the receiver, or never got them, and can take proposals now. */
  | { readonly kind: 'proposalsLost' }
  /** A snapshot at `point` comes, in chunks that travel beside these messages. */
  | { readonly kind: 'snapshot'; readonly point: SnapshotPoint }
  /** The snapshot was taken over (or refused because it is not needed): go on after `index`. */
  | { readonly kind: 'snapshotReply'; readonly index: Index }
  /** Campaign at once: the leader hands over to you (Raft dissertation §3.10). */
  | { readonly kind: 'timeoutNow' }
  /** Another replica was asked for a change of the configuration. */
  | { readonly kind: 'change'; readonly id: number; readonly change: ConfigurationChange }
  /** `index`: where the change was appended in this term; 0 when it was refused. */
  | {
      readonly kind: 'changeReply'
      readonly id: number
      readonly index: Index
      readonly refused: ChangeRefusal | null
    }
  /** Another replica was asked to let the leader hand over. */
  | { readonly kind: 'transfer'; readonly successor: ReplicaId }
  /** `fail-stop`, after an outage: what does your log hold? Changes nothing at the receiver, whatever the term. */
  | {
      readonly kind: 'gather'
      /** Replicas that an operator has given up. */
      readonly givenUp: readonly ReplicaId[]
    }
  /** What is on the sender's disk. */
  | ({ readonly kind: 'gatherReply' } & Holdings)

/** What a replica brings along when those that are up gather after an outage. */
export interface Holdings {
  readonly lastIndex: Index
  readonly lastTerm: Term
  /** The newest configuration of its log, and where it is (or the log's start, when that comes after it). */
  readonly configurationIndex: Index
  readonly configuration: Configuration
  readonly incarnation: Incarnation
  /** It may campaign by itself, or follows a leader: there is no outage to recover from. */
  readonly continuous: boolean
  /** Replicas that an operator has given up, as far as it has been told. */
  readonly givenUp: readonly ReplicaId[]
}

/** Everything that can happen to the core. */
export type Input =
  /** One unit of time: `tickMs` of the host. */
  | { readonly kind: 'tick' }
  | { readonly kind: 'message'; readonly message: Message }
  /** To be appended when this replica leads; else forwarded to the leader; else dropped, with `interrupted` in a Ready as soon as there is a leader. */
  | { readonly kind: 'propose'; readonly data: readonly Uint8Array[] }
  /**
   * What a Ready handed out to be written is on disk, and so is all that was handed out before: `index` and `term` of its last entry (both 0 when it had none), and its hard
   * state. Several Readies may be reported in one, with the newest entry and the newest hard state among them.
   */
  | {
      readonly kind: 'persisted'
      readonly index: Index
      readonly term: Term
      readonly hardState: HardState | null
    }
  /** The host has applied everything up to here. */
  | { readonly kind: 'applied'; readonly index: Index }
  | { readonly kind: 'readIndex'; readonly id: number }
  /** The process of `replica` has ended, by the evidence of its socket. Not proof: in the `majority` model only liveness rests on it. */
  | { readonly kind: 'suspect'; readonly replica: ReplicaId }
  /** A link to `replica` is up again. */
  | { readonly kind: 'reachable'; readonly replica: ReplicaId }
  /**
   * What is known for certain of the processes of `replica`. `lives`: the one of this incarnation talks now, so all before it are dead; to be told before any message of it.
   * Otherwise it is dead, as all before it. In the `fail-stop` model safety rests on this.
   */
  | {
      readonly kind: 'incarnation'
      readonly replica: ReplicaId
      readonly incarnation: Incarnation
      readonly lives: boolean
    }
  /** `fail-stop`: an operator says that these replicas are dead, or wants to recover from an outage without them and to lose what they alone hold. */
  | { readonly kind: 'giveUp'; readonly replicas: readonly ReplicaId[] }
  /** Of the configuration; forwarded to the leader when this replica does not lead. Answered in a Ready's `changes`. */
  | { readonly kind: 'change'; readonly change: ConfigurationChange; readonly id: number }
  /** Leadership should go to that voter; forwarded likewise. Not answered. */
  | { readonly kind: 'transfer'; readonly to: ReplicaId }
  /** The host took the snapshot that `snapshotsWanted` asked for, and will send its chunks to `to`: the core announces it. */
  | { readonly kind: 'snapshotTaken'; readonly to: ReplicaId; readonly point: SnapshotPoint }
  /** The host gave up, or finished, sending the snapshot that Ready asked for. After a failure the core asks again when the replica is heard. */
  | { readonly kind: 'snapshotSent'; readonly to: ReplicaId; readonly index: Index; readonly ok: boolean }
  /**
   * The host took over the snapshot that the leader announced: state and log both start at `point` now. Right before it does that it must have asked the core with
   * `needsSnapshot(point)`, since the log may have caught up in the meantime.
   */
  | { readonly kind: 'snapshotInstalled'; readonly point: SnapshotPoint }
  /** The disk has (no) room: a leader without room takes no proposals and hands over. */
  | { readonly kind: 'full'; readonly full: boolean }

export type ConfigurationChange =
  | { readonly kind: 'addLearner'; readonly id: ReplicaId; readonly address: string }
  | { readonly kind: 'promote'; readonly id: ReplicaId }
  | { readonly kind: 'remove'; readonly id: ReplicaId }
  | { readonly kind: 'setAddress'; readonly id: ReplicaId; readonly address: string }

export interface ChangeAnswer {
  readonly id: number
  readonly index: Index | null
  readonly term: Term
  readonly refused: ChangeRefusal | null
}

export type ChangeRefusal =
  /** No leader is known, or it is handing over. */
  | 'notLeader'
  /** The leader did not answer: it may have made the change or not. */
  | 'unanswered'
  /** Another change has not committed yet. */
  | 'changeInProgress'
  /** The leader has not committed an entry of its own term yet (Ongaro's erratum). */
  | 'termNotOpened'
  | 'alreadyMember'
  /** The id is not above all that were given before: its owner may still be about. */
  | 'idUsed'
  | 'notMember'
  | 'notCaughtUp'
  /** The replicas that would remain and are alive are no commit quorum. */
  | 'quorumAtRisk'
  /** A replica of an earlier version would have to read what it does not know: it must be upgraded first. */
  | 'upgradePending'
  /** In the `fail-stop` model a voter can be removed only when its process has ended: alive it could go on without the others. */
  | 'stillAlive'

/** What the host must do now, in this order: hand the writes to the log, send `send`, apply `committed`, answer `reads`. */
export interface Ready {
  /** To be written together with the entries; null when it has not changed. */
  readonly hardState: HardState | null
  /** To be written. The first may overwrite what the log holds from its index on; the indexes are contiguous. */
  readonly entries: readonly Entry[]
  /** May leave now. */
  readonly send: readonly Message[]
  /** May leave only when this Ready's writes, and all before, are on disk. */
  readonly sendAfterWrite: readonly Message[]
  /**
   * Entries up to here may be applied: they are committed, and on this replica's own disk (so that the state never runs ahead of the log, whatever crashes). Those after the last
   * Ready's are new.
   */
  readonly commitIndex: Index
  /** Reads that may be answered when everything up to `index` has been applied; `index` null: no leader confirmed it, ask again. */
  readonly reads: readonly { readonly id: number; readonly index: Index | null }[]
  /** Proposals made here may have been lost. Said only when there is a leader that takes proposals. */
  readonly interrupted: boolean
  /** Replicas that need a snapshot, since the log no longer reaches back to where they are: answer each with `snapshotTaken`, or `snapshotSent` that is not ok. */
  readonly snapshotsWanted: readonly ReplicaId[]
  /** The leader announces a snapshot that is to be taken over. */
  readonly snapshotOffered: {
    readonly from: ReplicaId
    readonly term: Term
    readonly point: SnapshotPoint
  } | null
  /** The place of each change in the log, and the term that it was appended in, which may be over by now; or why there is none. */
  readonly changes: readonly ChangeAnswer[]
  /** A replica whose log went back behind what it had acknowledged: its disk was replaced or restored. It must be told and shut out. */
  readonly regressed: readonly ReplicaId[]
  /** `fail-stop`: a replica that has committed more than this leader has: they went on without each other. It must be told and shut out. */
  readonly diverged: readonly ReplicaId[]
  /** Role, leader, term, configuration or quorum has changed since the last Ready. */
  readonly statusChanged: boolean
}

export interface CoreStatus {
  readonly self: ReplicaId
  readonly role: 'leader' | 'follower' | 'candidate' | 'learner'
  readonly term: Term
  readonly leader: ReplicaId
  readonly commitIndex: Index
  readonly lastIndex: Index
  readonly configuration: Configuration
  /** This replica leads with a quorum, or hears a leader. */
  readonly available: boolean
  /** How many more voters may fail before no quorum is left, as far as this replica knows; negative: so many must come back. */
  readonly mayFail: number
  /** `fail-stop`: without these nothing goes on, and they are silent or down. Empty when nobody in particular is needed. */
  readonly waitingFor: readonly ReplicaId[]
  /** Known to the leader only: how far each replica's log matches, and whether it was heard lately. */
  readonly progress: readonly {
    readonly id: ReplicaId
    readonly matchIndex: Index
    readonly active: boolean
  }[]
}

export interface CoreOptions {
  readonly self: ReplicaId
  readonly incarnation: Incarnation
  /** Heartbeats leave every so many ticks; default 3. */
  readonly heartbeatTicks: number
  /** Without a word from the leader for this many ticks up to twice as many (drawn each time) a follower campaigns; default 10. */
  readonly electionTicks: number
  /** Most bytes of entries in one append message; default 256 KiB. One entry always fits. */
  readonly maxAppendBytes: number
  /**
   * Most bytes, and most messages, on the way to one follower; default 1 MiB and 64. It is also what a leader may have to read and send in one turn when a follower lags, so a
   * larger one would hold up all others; with an answer after 0.1 s it lets 10 MB a second through.
   */
  readonly maxInflightBytes: number
  readonly maxInflightMessages: number
  /** Most bytes proposed and not committed; above it proposals are dropped and `interrupted` says so; default 64 MiB. */
  readonly maxUncommittedBytes: number
}
