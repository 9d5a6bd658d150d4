import { ByteReader, ByteWriter } from '../base/bytes.ts'
import type { Cancel, Clock } from '../base/clock.ts'
import type {
  CommittedEntry,
  LogConsumer,
  ReplicatedLog,
  SnapshotOffer,
  SnapshotSink,
  SnapshotSource,
} from '../log/port.ts'
import type { SequentialModel } from './linearizability.ts'
import { hashBytes } from './trace.ts'

/*
 * The smallest consumer of the log that can be checked: lists of numbers under keys, to which each client's calls append once. It puts the engine, the core and the
 * write-ahead log to the test without what stands above them.
 */

export interface LedgerCommand {
  readonly client: number
  /** Counts the client's appends: the same number takes effect once. */
  readonly number: number
  readonly key: number
  readonly value: number
}

export type LedgerInput = { readonly kind: 'append'; readonly value: number } | { readonly kind: 'read' }
/** The length after an append; the list's digest of a read. */
export type LedgerOutput = number | string

/** A list as it is compared: its length and a hash of its values in order. */
interface ListDigest {
  readonly length: number
  readonly hash: number
}

const emptyList: ListDigest = { length: 0, hash: 0 }

function appended(list: ListDigest, value: number): ListDigest {
  let hash = Math.imul(list.hash ^ value, 0x9e3779b1)
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b)
  return { length: list.length + 1, hash: (hash ^ (hash >>> 13)) >>> 0 }
}

function listText(list: ListDigest): string {
  return `${list.length} values, ${list.hash}`
}

/** One list, as a single copy would keep it. */
export const ledgerModel: SequentialModel<ListDigest, LedgerInput, LedgerOutput> = {
  initial: emptyList,
  step(state, input, output) {
    if (input.kind === 'read') return output === null || output === listText(state) ? state : null
    return output === null || output === state.length + 1 ? appended(state, input.value) : null
  },
  key: listText,
}

export type LedgerResult =
  | { readonly kind: 'answered'; readonly output: LedgerOutput }
  | { readonly kind: 'refused' }
  | { readonly kind: 'unknown' }

/** What a machine keeps of a ledger when its process ends. */
export interface LedgerImages {
  /** What survives the end of the process. */
  newest: () => Uint8Array
  /** What survives a power cut. */
  durable: Uint8Array
  /** A copy that was checked and not yet taken over, and bytes of one that is on its way. */
  incoming: { readonly id: string; bytes: Uint8Array } | null
  /** A copy that was taken over: it was flushed, and its new name is flushed at the next start at the latest. */
  installed: Uint8Array | null
}

export function emptyLedger(): LedgerImages {
  return { newest: () => new Uint8Array(0), durable: new Uint8Array(0), incoming: null, installed: null }
}

interface State {
  appliedIndex: number
  engineState: Uint8Array
  readonly lists: Map<number, number[]>
  /** The newest append of each client. */
  readonly done: Map<number, { readonly number: number; readonly length: number }>
}

interface Pending {
  readonly data: Uint8Array
  readonly command: LedgerCommand
  readonly done: (result: LedgerResult) => void
}

export interface LedgerHooks {
  applied(entries: readonly CommittedEntry[], previous: number): void
  restored(index: number): void
}

/** One replica of the ledger. */
export class Ledger implements LogConsumer {
  private state: State
  private readonly images: LedgerImages
  private readonly clock: Clock
  private readonly hooks: LedgerHooks
  private readonly pending: Pending[] = []
  private readonly reads: { readonly index: number; readonly done: () => void }[] = []
  private cancelAgain: Cancel | null = null
  private log: ReplicatedLog | null = null
  /** Set while the disk is full: nothing is applied. */
  full: () => boolean = () => false

  constructor(images: LedgerImages, clock: Clock, hooks: LedgerHooks) {
    this.images = images
    this.clock = clock
    this.hooks = hooks
    if (images.installed !== null) images.durable = images.installed
    images.installed = null
    this.state = decodeState(images.newest())
    images.newest = () => encodeState(this.state)
    hooks.restored(this.state.appliedIndex)
  }

  async start(log: ReplicatedLog): Promise<void> {
    this.log = log
    await log.start(this)
  }

  get appliedIndex(): number {
    return this.state.appliedIndex
  }

  get engineState(): Uint8Array {
    return this.state.engineState
  }

  append(command: LedgerCommand, timeoutMs: number, done: (result: LedgerResult) => void): void {
    if (this.log === null || !this.log.status().available) return done({ kind: 'refused' })
    const pending: Pending = { data: encodeCommand(command), command, done: once(done) }
    this.pending.push(pending)
    this.clock.after(timeoutMs, () => pending.done({ kind: 'unknown' }))
    this.log.propose(pending.data)
  }

  read(key: number, timeoutMs: number, done: (result: LedgerResult) => void): void {
    if (this.log === null) return done({ kind: 'refused' })
    const answer = once(done)
    this.clock.after(timeoutMs, () => answer({ kind: 'refused' }))
    this.log.readBarrier(timeoutMs, (index) => {
      if (index === null) return answer({ kind: 'refused' })
      const tell = (): void =>
        answer({
          kind: 'answered',
          output: listText((this.state.lists.get(key) ?? []).reduce(appended, emptyList)),
        })
      if (index <= this.state.appliedIndex) tell()
      else this.reads.push({ index, done: tell })
    })
  }

  apply(entries: readonly CommittedEntry[], engineState: Uint8Array): 'applied' | 'later' {
    if (this.full()) return 'later'
    this.hooks.applied(entries, this.state.appliedIndex)
    for (const { index, data } of entries) {
      this.state.appliedIndex = index
      if (data !== null) this.applyOne(decodeCommand(data))
    }
    this.state.engineState = engineState
    this.answerReads()
    return 'applied'
  }

  interrupted(): void {
    this.proposeAgain(0)
  }

  statusChanged(): void {}

  checkpoint(done: (durableIndex: number) => void): void {
    const image = encodeState(this.state)
    const index = this.state.appliedIndex
    this.clock.after(2, () => {
      this.images.durable = image
      const { installed } = this.images
      if (installed !== null && decodeState(installed).appliedIndex <= index) this.images.installed = null
      done(index)
    })
  }

  takeSnapshot(): Promise<SnapshotSource> {
    const bytes = encodeState(this.state)
    const { engineState, appliedIndex } = this.state
    return Promise.resolve({
      id: `${appliedIndex}-${hashBytes(bytes)}`,
      index: appliedIndex,
      sizeBytes: bytes.length,
      engineState,
      read: (offset, maxBytes) => Promise.resolve(bytes.subarray(offset, offset + maxBytes)),
      close: () => Promise.resolve(),
    })
  }

  receiveSnapshot(offer: SnapshotOffer): Promise<SnapshotSink> {
    if (this.images.incoming?.id !== offer.id)
      this.images.incoming = { id: offer.id, bytes: new Uint8Array(0) }
    const { incoming } = this.images
    return Promise.resolve({
      get offset() {
        return incoming.bytes.length
      },
      write: (offset, bytes) => {
        const fresh = bytes.subarray(Math.max(0, incoming.bytes.length - offset))
        const longer = new Uint8Array(incoming.bytes.length + fresh.length)
        longer.set(incoming.bytes)
        longer.set(fresh, incoming.bytes.length)
        incoming.bytes = longer
        return Promise.resolve()
      },
      finish: () =>
        offer.id === `${offer.index}-${hashBytes(incoming.bytes)}`
          ? Promise.resolve()
          : Promise.reject(new Error('the copy is not what was offered')),
      install: () => {
        this.images.incoming = null
        this.images.installed = incoming.bytes
        this.state = decodeState(incoming.bytes)
        this.hooks.restored(this.state.appliedIndex)
        for (const pending of this.pending.slice()) this.settle(pending)
        this.answerReads()
      },
      abandon: () => {
        this.images.incoming = null
        return Promise.resolve()
      },
    })
  }

  /** By key. What is returned changes. */
  get lists(): ReadonlyMap<number, readonly number[]> {
    return this.state.lists
  }

  /** The place of a value in a list, from 1; null when it is not there. */
  placeOf(key: number, value: number): number | null {
    const place = this.state.lists.get(key)?.indexOf(value) ?? -1
    return place === -1 ? null : place + 1
  }

  /** Without the engine's bytes: a replica that joined does not know the replica set of before it was added. */
  digest(): string {
    return hashBytes(encodeState({ ...this.state, engineState: new Uint8Array(0) })).toString(16)
  }

  private applyOne(command: LedgerCommand): void {
    const { client, number, key, value } = command
    if ((this.state.done.get(client)?.number ?? 0) < number) {
      let list = this.state.lists.get(key)
      if (list === undefined) {
        list = []
        this.state.lists.set(key, list)
      }
      list.push(value)
      this.state.done.set(client, { number, length: list.length })
    }
    for (const pending of this.pending)
      if (pending.command.client === client && pending.command.number === number) {
        this.settle(pending)
        break
      }
  }

  /** Answers an append that has taken effect. */
  private settle(pending: Pending): void {
    const { client, number } = pending.command
    const done = this.state.done.get(client)
    if (done === undefined || done.number < number) return
    this.pending.splice(this.pending.indexOf(pending), 1)
    pending.done(done.number === number ? { kind: 'answered', output: done.length } : { kind: 'unknown' })
  }

  private answerReads(): void {
    for (let i = this.reads.length - 1; i >= 0; i -= 1) {
      const read = this.reads[i]
      if (read === undefined || read.index > this.state.appliedIndex) continue
      this.reads.splice(i, 1)
      read.done()
    }
  }

  private proposeAgain(delayMs: number): void {
    this.cancelAgain?.()
    this.cancelAgain = this.clock.after(delayMs, () => {
      this.cancelAgain = null
      if (this.log === null || this.pending.length === 0) return
      if (!this.log.status().available) return this.proposeAgain(20)
      for (const { data } of this.pending) this.log.propose(data)
    })
  }
}

function once(done: (result: LedgerResult) => void): (result: LedgerResult) => void {
  let called = false
  return (result) => {
    if (called) return
    called = true
    done(result)
  }
}

function encodeCommand(command: LedgerCommand): Uint8Array {
  // Some take several sectors of the log.
  const padding = new Uint8Array(command.value % (command.value % 5 === 0 ? 1500 : 97))
  return new ByteWriter(32)
    .varint(command.client)
    .varint(command.number)
    .varint(command.key)
    .varint(command.value)
    .bytes(padding)
    .finish()
}

export function decodeCommand(data: Uint8Array): LedgerCommand {
  const reader = new ByteReader(data)
  return {
    client: reader.varint(),
    number: reader.varint(),
    key: reader.varint(),
    value: reader.varint(),
  }
}

/** What a machine's file says. */
export function readLedger(images: LedgerImages): Pick<State, 'appliedIndex' | 'engineState' | 'lists'> {
  return decodeState(images.installed ?? images.newest())
}

function encodeState(state: State): Uint8Array {
  const writer = new ByteWriter(4096)
  writer.varint(state.appliedIndex).bytes(state.engineState).varint(state.lists.size)
  for (const [key, values] of state.lists) {
    writer.varint(key).varint(values.length)
    for (const value of values) writer.varint(value)
  }
  writer.varint(state.done.size)
  for (const [client, { number, length }] of state.done) writer.varint(client).varint(number).varint(length)
  return writer.finish()
}

function decodeState(bytes: Uint8Array): State {
  const state: State = {
    appliedIndex: 0,
    engineState: new Uint8Array(0),
    lists: new Map(),
    done: new Map(),
  }
  if (bytes.length === 0) return state
  const reader = new ByteReader(bytes)
  state.appliedIndex = reader.varint()
  state.engineState = reader.bytes().slice()
  for (let lists = reader.varint(); lists > 0; lists -= 1) {
    const key = reader.varint()
    const values: number[] = []
    for (let length = reader.varint(); length > 0; length -= 1) values.push(reader.varint())
    state.lists.set(key, values)
  }
  for (let clients = reader.varint(); clients > 0; clients -= 1)
    state.done.set(reader.varint(), { number: reader.varint(), length: reader.varint() })
  return state
}
