import { assert } from '../base/assert.ts'
import type { ReplicaId } from '../base/ids.ts'
import type { Configurations } from './configurations.ts'
import type { LogView } from './log-view.ts'
import type { Outputs } from './outputs.ts'
import { HaltError } from './halt.ts'
import { Incarnations } from './incarnations.ts'
import { policyFor, type QuorumPolicy } from './quorum.ts'
import type { CoreOptions, Entry, Index, MessageBody, SnapshotPoint, Term } from './types.ts'

/** What a replica has whatever its role. */
export class CoreState {
  readonly options: CoreOptions
  readonly log: LogView
  readonly configurations: Configurations
  readonly outputs: Outputs
  readonly incarnations = new Incarnations()
  /** Replicas whose process has ended, by evidence of their sockets, and which have not been heard since. */
  readonly suspected: Set<ReplicaId> = new Set()
  term: Term
  vote: ReplicaId
  commitIndex: Index
  /** The log up to here is on this replica's disk. */
  persistedIndex: Index
  /** The newest term whose hard state is on disk. */
  persistedTerm: Term
  /** The newest term in which a suffix of the log was overwritten. */
  overwriteTerm: Term = 0
  /** The host's disk has no room. */
  full = false
  /** Proposals taken in here may be lost; the host has not been told. */
  interrupted = false
  /** Proposals were taken in since the host was told last that some may be lost. */
  proposedHere = false

  constructor(parts: {
    readonly options: CoreOptions
    readonly log: LogView
    readonly configurations: Configurations
    readonly outputs: Outputs
    readonly term: Term
    readonly vote: ReplicaId
    readonly commitIndex: Index
  }) {
    this.options = parts.options
    this.log = parts.log
    this.configurations = parts.configurations
    this.outputs = parts.outputs
    this.term = parts.term
    this.vote = parts.vote
    this.commitIndex = parts.commitIndex
    this.persistedIndex = parts.log.lastIndex
    this.persistedTerm = parts.term
  }

  get self(): ReplicaId {
    return this.options.self
  }

  /** Of the newest configuration, since a replica that joins learns only from the log which one its cluster has. */
  get policy(): QuorumPolicy {
    return policyFor(this.configurations.current.faultModel)
  }

  /** For what may leave before this Ready's writes are on disk. */
  send(to: ReplicaId, body: MessageBody, term: Term = this.term): void {
    this.outputs.send.push({ from: this.self, to, term, ...body })
  }

  /** For what promises something that is on disk. */
  sendAfterWrite(to: ReplicaId, body: MessageBody): void {
    this.outputs.sendAfterWrite.push({ from: this.self, to, term: this.term, ...body })
  }

  /** Everything up to `index` is committed. */
  commit(index: Index): void {
    if (index <= this.commitIndex) return
    assert(index <= this.log.lastIndex, 'committed what is not in the log', {
      index,
      last: this.log.lastIndex,
    })
    this.commitIndex = index
    if (this.configurations.settle(index)) this.expectToBeAlive()
  }

  /** Puts entries into the log, over what was there; never over a committed entry. */
  append(entries: readonly Entry[]): void {
    const first = entries[0]
    if (first === undefined) return
    assert(first.index > this.commitIndex, 'a committed entry would be overwritten', {
      first: first.index,
      commit: this.commitIndex,
      term: this.term,
    })
    if (first.index <= this.log.lastIndex) this.overwriteTerm = this.term
    this.configurations.cut(first.index)
    this.persistedIndex = Math.min(this.persistedIndex, first.index - 1)
    this.log.append(entries)
    for (const entry of entries)
      if (entry.kind === 'configuration') this.configurations.append(entry.index, entry.configuration)
  }

  /** State and log begin anew after a snapshot. */
  restart(point: SnapshotPoint): void {
    this.log.restart(point)
    this.configurations.restart(point.index, point.configuration)
    this.expectToBeAlive()
    this.commitIndex = point.index
    this.persistedIndex = point.index
  }

  private expectToBeAlive(): void {
    const { self, incarnation } = this.options
    const own = this.configurations.committed.members.find(({ id }) => id === self)
    if (own === undefined || own.voter || own.incarnation !== incarnation) return
    throw new HaltError('takenForDead', 'the other replicas have taken this process for dead and gone on')
  }
}
