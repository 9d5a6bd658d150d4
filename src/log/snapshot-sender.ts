import type { Clock } from '../base/clock.ts'
import { replicaName, type ReplicaId } from '../base/ids.ts'
import type { Logger } from '../base/logger.ts'
import type { Index, Term } from '../raft/types.ts'
import type { CopyProgress, SnapshotSource } from './port.ts'
import type { SnapshotChunkReply, Transport } from './transport.ts'

/** What the sender needs of the engine. */
export interface SenderHost {
  readonly self: ReplicaId
  /** Most bytes in one chunk. */
  readonly chunkBytes: number
  readonly clock: Clock
  readonly transport: Transport
  readonly logger: Logger
  takeSnapshot(): Promise<SnapshotSource>
  /** The copy is there and its chunks will follow: to be announced. */
  taken(to: ReplicaId, source: SnapshotSource): void
  ended(to: ReplicaId, index: Index, ok: boolean): void
  /** This replica cannot read its own state. */
  failed(error: unknown): void
}

/** On its way at once to one replica: as much as the link takes without delay, between these. */
const leastWindowBytes = 64 * 1024
const mostWindowBytes = 4 * 1024 * 1024
/** A chunk that takes longer than this delays messages behind it, so less is sent at once; one that takes shorter allows more. */
const slowMs = 200
const quickMs = 50
/** Without an answer for so long the receiver is asked where it is. */
const askAfterMs = 2000
/** Without any progress for so long the transfer is given up; checking and flushing a large copy is silent for a while. */
const giveUpAfterMs = 300_000
/** After a copy that could not be made, for want of room above all, the next attempt waits so long. */
const copyAgainMs = 30_000
/** A receiver without a link for so long is gone; when it comes back it gets a newer copy. */
const goneAfterMs = 30_000

/** A copy that several replicas may be sent at the same time. */
interface Copy {
  readonly source: Promise<SnapshotSource>
  /** 0 until it is there. */
  index: Index
  users: number
}

interface Transfer {
  readonly to: ReplicaId
  readonly term: Term
  readonly copy: Copy
  source: SnapshotSource | null
  ended: boolean
  /** Waits for the receiver to say where it is. */
  asking: boolean
  reading: boolean
  next: number
  acked: number
  windowBytes: number
  /** When which bytes left. */
  sent: { readonly end: number; readonly atMs: number }[]
  heardMs: number
  progressMs: number
  upMs: number
}

/** Sends copies of the state to replicas that the log no longer reaches. */
export class SnapshotSender {
  private readonly host: SenderHost
  private readonly transfers = new Map<ReplicaId, Transfer>()
  private newest: Copy | null = null

  constructor(host: SenderHost) {
    this.host = host
  }

  /** @param reusableFrom the log still holds what follows this index: a copy that is as new serves. */
  begin(to: ReplicaId, term: Term, reusableFrom: Index): void {
    const before = this.transfers.get(to)
    if (before !== undefined) this.end(before, null)
    const now = this.host.clock.monotonicMs()
    const transfer: Transfer = {
      to,
      term,
      copy: this.takeCopy(reusableFrom),
      source: null,
      ended: false,
      asking: true,
      reading: false,
      next: 0,
      acked: 0,
      windowBytes: this.host.chunkBytes,
      sent: [],
      heardMs: now,
      progressMs: now,
      upMs: now,
    }
    this.transfers.set(to, transfer)
    transfer.copy.source.then(
      (source) => {
        transfer.copy.index = source.index
        if (transfer.ended) return
        transfer.source = source
        this.host.logger.info(
          { peer: replicaName(to), index: source.index, sizeBytes: source.sizeBytes },
          'a replica is sent a copy of the state',
        )
        this.host.taken(to, source)
        this.ask(transfer)
      },
      (error: unknown) => {
        // Whoever begins later tries anew.
        if (this.newest === transfer.copy) this.newest = null
        if (transfer.ended) return
        // It keeps nothing of the log.
        transfer.copy.index = Number.POSITIVE_INFINITY
        this.host.clock.after(copyAgainMs, () => this.end(transfer, false))
        this.host.failed(error)
      },
    )
  }

  reply(reply: SnapshotChunkReply): void {
    const transfer = this.transfers.get(reply.from)
    const source = transfer?.source
    if (transfer === undefined || source === undefined || source === null) return
    if (reply.snapshotId !== source.id || reply.nextOffset > source.sizeBytes) return
    const now = this.host.clock.monotonicMs()
    transfer.heardMs = now
    if (reply.nextOffset === source.sizeBytes) {
      this.end(transfer, true)
      return
    }
    if (reply.nextOffset > transfer.acked) transfer.progressMs = now
    if (transfer.asking || reply.nextOffset > transfer.next) {
      transfer.asking = false
      transfer.next = reply.nextOffset
      transfer.sent = []
    } else {
      this.adaptWindow(transfer, reply.nextOffset, now)
    }
    transfer.acked = reply.nextOffset
    this.pump(transfer, source)
  }

  up(peer: ReplicaId): void {
    const transfer = this.transfers.get(peer)
    if (transfer !== undefined) this.ask(transfer)
  }

  get isSending(): boolean {
    return this.transfers.size > 0
  }

  /** @param wanted whether this transfer still makes sense: the same term, the same leader, still a member. */
  tick(wanted: (transfer: { readonly to: ReplicaId; readonly term: Term }) => boolean): void {
    const now = this.host.clock.monotonicMs()
    for (const transfer of this.transfers.values()) {
      if (this.host.transport.isUp(transfer.to)) transfer.upMs = now
      if (!wanted(transfer)) this.end(transfer, null)
      else if (now - transfer.upMs > goneAfterMs || now - transfer.progressMs > giveUpAfterMs)
        this.end(transfer, false)
      else if (now - transfer.heardMs > askAfterMs) this.ask(transfer)
    }
  }

  /** How far the transfer to a replica is; null when there is none. */
  progressOf(to: ReplicaId): CopyProgress | null {
    const transfer = this.transfers.get(to)
    if (transfer?.source === undefined || transfer.source === null) return null
    return { doneBytes: transfer.acked, sizeBytes: transfer.source.sizeBytes }
  }

  /** The log behind this index is needed by a replica that is being sent a copy; Infinity when none is. */
  neededFrom(): Index {
    let index = Number.POSITIVE_INFINITY
    for (const { copy } of this.transfers.values()) index = Math.min(index, copy.index)
    return index
  }

  stop(): void {
    for (const transfer of this.transfers.values()) this.end(transfer, null)
  }

  private takeCopy(reusableFrom: Index): Copy {
    const { newest } = this
    if (newest !== null && newest.users > 0 && (newest.index === 0 || newest.index >= reusableFrom)) {
      newest.users += 1
      return newest
    }
    const copy: Copy = { source: this.host.takeSnapshot(), index: 0, users: 1 }
    this.newest = copy
    return copy
  }

  /** @param ok what the core is told; null when it knows better already. */
  private end(transfer: Transfer, ok: boolean | null): void {
    if (transfer.ended) return
    transfer.ended = true
    this.transfers.delete(transfer.to)
    const { copy } = transfer
    copy.users -= 1
    if (copy.users === 0)
      copy.source
        .then((source) => source.close())
        .catch((error: unknown) =>
          this.host.logger.warn({ error: String(error) }, 'a copy of the state could not be removed'),
        )
    if (ok !== null) this.host.ended(transfer.to, ok ? copy.index : 0, ok)
  }

  private ask(transfer: Transfer): void {
    const { source } = transfer
    transfer.heardMs = this.host.clock.monotonicMs()
    if (source === null) return
    transfer.asking = true
    this.sendChunk(transfer, source, 0, new Uint8Array(0))
  }

  private pump(transfer: Transfer, source: SnapshotSource): void {
    if (transfer.ended || transfer.asking || transfer.reading) return
    if (transfer.next >= source.sizeBytes || transfer.next - transfer.acked >= transfer.windowBytes) return
    const offset = transfer.next
    transfer.reading = true
    source.read(offset, Math.min(this.host.chunkBytes, transfer.windowBytes)).then(
      (bytes) => {
        transfer.reading = false
        if (transfer.ended) return
        if (!transfer.asking && transfer.next === offset && bytes.length > 0) {
          transfer.next = offset + bytes.length
          transfer.sent.push({ end: transfer.next, atMs: this.host.clock.monotonicMs() })
          this.sendChunk(transfer, source, offset, bytes)
        }
        this.pump(transfer, source)
      },
      (error: unknown) => {
        transfer.reading = false
        if (transfer.ended) return
        this.end(transfer, false)
        this.host.failed(error)
      },
    )
  }

  private sendChunk(transfer: Transfer, source: SnapshotSource, offset: number, bytes: Uint8Array): void {
    this.host.transport.sendChunk({
      from: this.host.self,
      to: transfer.to,
      term: transfer.term,
      snapshotId: source.id,
      index: source.index,
      sizeBytes: source.sizeBytes,
      engineState: source.engineState,
      offset,
      bytes,
    })
  }

  private adaptWindow(transfer: Transfer, acked: number, now: number): void {
    let sentMs: number | null = null
    while (transfer.sent[0] !== undefined && transfer.sent[0].end <= acked)
      sentMs = transfer.sent.shift()?.atMs ?? null
    if (sentMs === null) return
    const tookMs = now - sentMs
    if (tookMs > slowMs) transfer.windowBytes = Math.max(leastWindowBytes, transfer.windowBytes / 2)
    else if (tookMs < quickMs)
      transfer.windowBytes = Math.min(mostWindowBytes, transfer.windowBytes + this.host.chunkBytes)
  }
}
