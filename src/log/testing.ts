import type { Cancel, Clock } from '../base/clock.ts'
import type { ReplicaId } from '../base/ids.ts'
import { newestVersion } from '../base/version.ts'
import type { Message } from '../raft/types.ts'
import type { Disk, DiskCallback, DiskFile } from '../storage/disk.ts'
import type { CommittedEntry, LogConsumer, SnapshotOffer, SnapshotSink, SnapshotSource } from './port.ts'
import type { SnapshotChunk, SnapshotChunkReply, Transport, TransportHandler } from './transport.ts'

/* Stand-ins for time, network, disk and consumer, for tests of the engine: all in one process, and the same at every run. */

/** Time that passes only when the test says so. */
export class VirtualClock implements Clock {
  private nowMs = 0
  private order = 0
  private events: { readonly atMs: number; readonly order: number; readonly run: () => void }[] = []

  monotonicMs(): number {
    return this.nowMs
  }

  wallMs(): number {
    return this.nowMs
  }

  after(delayMs: number, callback: () => void): Cancel {
    this.order += 1
    const event = { atMs: this.nowMs + delayMs, order: this.order, run: callback }
    const place = this.events.findLastIndex((other) => other.atMs <= event.atMs)
    this.events.splice(place + 1, 0, event)
    return () => {
      this.events = this.events.filter((other) => other !== event)
    }
  }

  soon(callback: () => void): void {
    this.after(0, callback)
  }

  /** Lets time pass until `condition` holds. Returns the milliseconds that it took; throws when it does not hold within `mostMs`. */
  async until(condition: () => boolean, mostMs = 10_000): Promise<number> {
    const startMs = this.nowMs
    while (!condition()) {
      const event = this.events.shift()
      if (event === undefined || event.atMs > startMs + mostMs)
        throw new Error(`it did not come true within ${mostMs} ms`)
      this.nowMs = Math.max(this.nowMs, event.atMs)
      event.run()
      // Promises that the event resolved, and those that these resolve.
      for (let i = 0; i < 12; i += 1) await Promise.resolve()
    }
    return this.nowMs - startMs
  }

  async pass(ms: number): Promise<void> {
    const state = { over: false }
    this.after(ms, () => {
      state.over = true
    })
    await this.until(() => state.over, ms + 1)
  }
}

/** The time of one process: it ends with the process, and stands still while the process stalls. */
export class ProcessClock implements Clock {
  private readonly base: VirtualClock
  private stalledUntilMs = 0
  dead = false
  /** Timers that ran off after more than what a message takes. */
  longTimers = 0

  constructor(base: VirtualClock) {
    this.base = base
  }

  monotonicMs(): number {
    return this.base.monotonicMs()
  }

  wallMs(): number {
    return this.base.wallMs()
  }

  after(delayMs: number, callback: () => void): Cancel {
    const state = { cancelled: false }
    const fire = (): void => {
      const lateMs = this.stalledUntilMs - this.base.monotonicMs()
      if (this.dead || state.cancelled) return
      if (lateMs > 0) {
        this.base.after(lateMs, fire)
        return
      }
      if (delayMs >= 10) this.longTimers += 1
      callback()
    }
    const cancel = this.base.after(delayMs, fire)
    return () => {
      state.cancelled = true
      cancel()
    }
  }

  soon(callback: () => void): void {
    this.after(0, callback)
  }

  /** The process runs nothing for so long; what comes in meanwhile waits. */
  stall(forMs: number): void {
    this.stalledUntilMs = this.base.monotonicMs() + forMs
  }
}

/** Links between the replicas of one process. */
export class MemoryNetwork {
  private readonly ends = new Map<ReplicaId, MemoryTransport>()
  private readonly cuts = new Set<string>()
  /** How often each replica has started. */
  private readonly incarnations = new Map<ReplicaId, number>()
  delayMs = 1
  /** Replicas that know less than the newest version. */
  readonly versions = new Map<ReplicaId, number>()

  /** @param clock the time of the process that it is attached to. */
  attach(self: ReplicaId, clock: Clock): MemoryTransport {
    const end = new MemoryTransport(this, self, clock)
    this.ends.set(self, end)
    this.incarnations.set(self, this.incarnationOf(self) + 1)
    return end
  }

  /** The process of `id` ends: its sockets are closed by the system. */
  kill(id: ReplicaId): void {
    const end = this.ends.get(id)
    if (end === undefined) return
    this.ends.delete(id)
    end.handler = null
    for (const other of this.ends.values()) this.tell(other, id, 'died')
  }

  incarnationOf(id: ReplicaId): number {
    return this.incarnations.get(id) ?? 0
  }

  cut(a: ReplicaId, b: ReplicaId): void {
    if (this.cuts.has(pair(a, b))) return
    this.cuts.add(pair(a, b))
    this.tellBoth(a, b, 'silent')
  }

  heal(a: ReplicaId, b: ReplicaId): void {
    if (this.cuts.delete(pair(a, b))) this.tellBoth(a, b, 'up')
  }

  connected(a: ReplicaId, b: ReplicaId): boolean {
    return (
      this.ends.get(a)?.handler !== null &&
      this.ends.get(b)?.handler !== null &&
      this.ends.has(a) &&
      this.ends.has(b) &&
      !this.cuts.has(pair(a, b))
    )
  }

  started(id: ReplicaId): void {
    for (const other of this.ends.keys())
      if (other !== id && this.connected(id, other)) this.tellBoth(id, other, 'up')
  }

  carry(from: ReplicaId, to: ReplicaId, deliver: (handler: TransportHandler) => void): void {
    const end = this.ends.get(to)
    if (end === undefined || !this.connected(from, to)) return
    end.clock.after(this.delayMs, () => {
      if (end.handler !== null && this.connected(from, to)) deliver(end.handler)
    })
  }

  private tellBoth(a: ReplicaId, b: ReplicaId, news: 'up' | 'silent'): void {
    const [first, second] = [this.ends.get(a), this.ends.get(b)]
    if (first !== undefined) this.tell(first, b, news)
    if (second !== undefined) this.tell(second, a, news)
  }

  private tell(end: MemoryTransport, peer: ReplicaId, news: 'up' | 'died' | 'silent'): void {
    const incarnation = this.incarnationOf(peer)
    end.clock.after(this.delayMs, () => {
      if (news !== 'silent') end.handler?.incarnation(peer, incarnation, news === 'up')
      if (news === 'up') end.handler?.up(peer)
      else end.handler?.down(peer, news)
    })
  }
}

function pair(a: ReplicaId, b: ReplicaId): string {
  return `${Math.min(a, b)}-${Math.max(a, b)}`
}

export class MemoryTransport implements Transport {
  private readonly network: MemoryNetwork
  private readonly self: ReplicaId
  readonly clock: Clock
  handler: TransportHandler | null = null
  readonly chunks: SnapshotChunk[] = []
  readonly shut: { readonly peer: ReplicaId; readonly reason: string }[] = []

  constructor(network: MemoryNetwork, self: ReplicaId, clock: Clock) {
    this.network = network
    this.self = self
    this.clock = clock
  }

  start(handler: TransportHandler): Promise<void> {
    this.handler = handler
    this.network.started(this.self)
    return Promise.resolve()
  }

  send(message: Message): void {
    this.network.carry(this.self, message.to, (handler) => handler.message(message))
  }

  sendChunk(chunk: SnapshotChunk): void {
    this.chunks.push(chunk)
    this.network.carry(this.self, chunk.to, (handler) => handler.chunk(chunk))
  }

  sendChunkReply(reply: SnapshotChunkReply): void {
    this.network.carry(this.self, reply.to, (handler) => handler.chunkReply(reply))
  }

  setPeers(): void {}

  shutOut(peer: ReplicaId, _why: 'regressed' | 'removed' | 'diverged', reason: string): void {
    this.shut.push({ peer, reason })
  }

  isUp(peer: ReplicaId): boolean {
    return this.network.connected(this.self, peer)
  }

  version(peer: ReplicaId): number {
    return this.network.versions.get(peer) ?? newestVersion
  }

  roundTripUs(peer: ReplicaId): number {
    return this.isUp(peer) ? this.network.delayMs * 2000 : 0
  }

  clockMs(peer: ReplicaId): number | null {
    return this.isUp(peer) ? this.clock.wallMs() : null
  }

  stop(): Promise<void> {
    this.network.kill(this.self)
    return Promise.resolve()
  }
}

/** A disk in memory that loses nothing; a flush takes as long as the test says. */
export class MemoryDisk implements Disk {
  /** Of the process that uses it now. */
  clock: Clock
  private readonly files = new Map<string, MemoryFile>()
  flushMs = 1
  /** Writes and flushes call back only when this is over. */
  frozen = false
  failing: Error | null = null
  /** For new segments; what there is can be written to. */
  free = 2 ** 40
  private waiting: (() => void)[] = []

  constructor(clock: Clock) {
    this.clock = clock
  }

  list(folder: string): readonly string[] {
    const prefix = `${folder}/`
    return [...this.files.keys()]
      .filter((path) => path.startsWith(prefix))
      .map((path) => path.slice(prefix.length))
      .sort()
  }

  readFile(path: string): Uint8Array {
    const file = this.existing(path)
    return file.read(0, file.sizeBytes())
  }

  makeFolder(): void {}

  open(path: string, create: boolean): DiskFile {
    if (!create) return this.existing(path)
    const file = new MemoryFile(this, path)
    this.files.set(path, file)
    return file
  }

  rename(from: string, to: string, done: DiskCallback): void {
    this.files.set(to, this.existing(from))
    this.files.delete(from)
    this.finish(done)
  }

  remove(path: string, done: DiskCallback): void {
    this.files.delete(path)
    this.finish(done)
  }

  flushFolder(_path: string, done: DiskCallback): void {
    this.finish(done)
  }

  flushFolderNow(): void {}

  freeBytes(): number {
    return this.free
  }

  thaw(): void {
    this.frozen = false
    for (const finish of this.waiting.splice(0)) finish()
  }

  finish(done: DiskCallback): void {
    if (this.frozen) this.waiting.push(() => this.finish(done))
    else this.clock.after(this.flushMs, () => done(this.failing))
  }

  private existing(path: string): MemoryFile {
    const file = this.files.get(path)
    if (file === undefined) throw Object.assign(new Error(`no such file: ${path}`), { code: 'ENOENT' })
    return file
  }
}

class MemoryFile implements DiskFile {
  private readonly disk: MemoryDisk
  readonly path: string
  private bytes = new Uint8Array(0)

  constructor(disk: MemoryDisk, path: string) {
    this.disk = disk
    this.path = path
  }

  sizeBytes(): number {
    return this.bytes.length
  }

  write(offset: number, buffers: readonly Uint8Array[], done: DiskCallback): void {
    let at = offset
    for (const buffer of buffers) {
      this.writeNow(at, buffer)
      at += buffer.length
    }
    this.disk.finish(done)
  }

  flush(done: DiskCallback): void {
    this.disk.finish(done)
  }

  writeNow(offset: number, bytes: Uint8Array): void {
    if (offset + bytes.length > this.bytes.length) this.truncate(offset + bytes.length)
    this.bytes.set(bytes, offset)
  }

  flushNow(): void {}

  read(offset: number, length: number): Uint8Array {
    return this.bytes.slice(offset, offset + length)
  }

  truncate(sizeBytes: number): void {
    const bytes = new Uint8Array(sizeBytes)
    bytes.set(this.bytes.subarray(0, sizeBytes))
    this.bytes = bytes
  }

  close(): void {}
}

/** Keeps what was applied as a list of texts. It survives the death of its process, as a database does. */
export class ListConsumer implements LogConsumer {
  appliedIndex = 0
  engineState: Uint8Array = new Uint8Array(0)
  items: string[] = []
  interruptions = 0
  statusChanges = 0
  full = false
  installs = 0
  /** A copy is made as long as this, so that it takes many chunks. */
  copyBytes = 0
  onInterrupted: () => void = () => {}
  /** Checking a copy takes until then. */
  beforeFinish: Promise<void> = Promise.resolve()
  private sink: ListSink | null = null

  /** How much is here of the copy that is on its way. */
  get receivedBytes(): number {
    return this.sink?.offset ?? 0
  }

  apply(entries: readonly CommittedEntry[], engineState: Uint8Array): 'applied' | 'later' {
    if (this.full) return 'later'
    for (const { index, data } of entries) {
      if (index !== this.appliedIndex + 1) throw new Error(`${index} was applied after ${this.appliedIndex}`)
      this.appliedIndex = index
      if (data !== null) this.items.push(new TextDecoder().decode(data))
    }
    this.engineState = engineState
    return 'applied'
  }

  interrupted(): void {
    this.interruptions += 1
    this.onInterrupted()
  }

  statusChanged(): void {
    this.statusChanges += 1
  }

  checkpoint(done: (durableIndex: number) => void): void {
    done(this.appliedIndex)
  }

  takeSnapshot(): Promise<SnapshotSource> {
    const { appliedIndex: index, engineState, items } = this
    const copy = { index, engineState: [...engineState], items, padding: '-'.repeat(this.copyBytes) }
    const bytes = new TextEncoder().encode(JSON.stringify(copy))
    return Promise.resolve({
      id: `copy-${index}`,
      index,
      sizeBytes: bytes.length,
      engineState,
      read: (offset: number, maxBytes: number) => Promise.resolve(bytes.slice(offset, offset + maxBytes)),
      close: () => Promise.resolve(),
    })
  }

  receiveSnapshot(offer: SnapshotOffer): Promise<SnapshotSink> {
    if (this.sink?.id !== offer.id) this.sink = new ListSink(this, offer.id)
    return Promise.resolve(this.sink)
  }
}

class ListSink implements SnapshotSink {
  readonly id: string
  private readonly consumer: ListConsumer
  private parts: Uint8Array[] = []
  offset = 0

  constructor(consumer: ListConsumer, id: string) {
    this.consumer = consumer
    this.id = id
  }

  write(offset: number, bytes: Uint8Array): Promise<void> {
    if (offset !== this.offset) throw new Error(`bytes at ${offset} instead of ${this.offset}`)
    this.parts.push(bytes)
    this.offset += bytes.length
    return Promise.resolve()
  }

  finish(): Promise<void> {
    return this.consumer.beforeFinish
  }

  install(): void {
    const decoder = new TextDecoder()
    const text = this.parts.map((part) => decoder.decode(part, { stream: true })).join('')
    const copy = JSON.parse(text) as {
      readonly index: number
      readonly engineState: readonly number[]
      readonly items: string[]
    }
    this.consumer.appliedIndex = copy.index
    this.consumer.engineState = Uint8Array.from(copy.engineState)
    this.consumer.items = copy.items
    this.consumer.installs += 1
  }

  abandon(): Promise<void> {
    this.parts = []
    this.offset = 0
    return Promise.resolve()
  }
}
