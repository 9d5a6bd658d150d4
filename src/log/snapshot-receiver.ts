import { MalformedError } from '../base/bytes.ts'
import { replicaName, type ReplicaId } from '../base/ids.ts'
import type { Logger } from '../base/logger.ts'
import type { SnapshotPoint } from '../raft/types.ts'
import { isOutOfSpace } from '../storage/errors.ts'
import type { CopyProgress, SnapshotOffer, SnapshotSink } from './port.ts'
import type { SnapshotChunk, Transport } from './transport.ts'

/** What the receiver needs of the engine. */
export interface ReceiverHost {
  readonly self: ReplicaId
  readonly transport: Transport
  readonly logger: Logger
  receiveSnapshot(offer: SnapshotOffer): Promise<SnapshotSink>
  /** What the engine's bytes of a copy stand for. @throws MalformedError */
  pointOf(chunk: SnapshotChunk): SnapshotPoint
  /** Whether the leader's core has announced this copy and it is still needed. */
  isOffered(chunk: SnapshotChunk, point: SnapshotPoint): boolean
  /** Whether everything up to there is here anyway. */
  isKnown(index: number): boolean
  /** There is no room on the disk for the copy at `index`. */
  noRoom(index: number): void
  /** Takes the copy over, unless it is no longer needed. */
  install(sink: SnapshotSink, point: SnapshotPoint): Promise<'installed' | 'notNeeded'>
}

/** More than a sender has on its way at once. */
const maxQueuedChunks = 128

interface Incoming {
  readonly id: string
  readonly point: SnapshotPoint
  readonly sizeBytes: number
  from: ReplicaId
  /** Null until the consumer has opened it. */
  sink: SnapshotSink | null
  queue: SnapshotChunk[]
  busy: boolean
}

/** Takes in the copy of the state that a leader sends, one at a time. */
export class SnapshotReceiver {
  private readonly host: ReceiverHost
  private incoming: Incoming | null = null
  private stopped = false

  constructor(host: ReceiverHost) {
    this.host = host
  }

  chunk(chunk: SnapshotChunk): void {
    if (this.stopped) return
    let { incoming } = this
    if (incoming !== null && incoming.id === chunk.snapshotId) {
      incoming.from = chunk.from
    } else {
      if (this.host.isKnown(chunk.index)) {
        this.reply(chunk.from, chunk.snapshotId, chunk.sizeBytes)
        return
      }
      if (incoming?.busy === true) return
      incoming = this.open(chunk)
      if (incoming === null) return
    }
    if (incoming.queue.length < maxQueuedChunks) incoming.queue.push(chunk)
    this.work(incoming)
  }

  /** How far the copy that comes in is; null when none does. */
  get progress(): CopyProgress | null {
    const { incoming } = this
    return incoming === null ? null : { doneBytes: incoming.sink?.offset ?? 0, sizeBytes: incoming.sizeBytes }
  }

  /** Now and then: a copy that broke off is not needed any more when the log has brought as much. */
  tick(): void {
    const { incoming } = this
    if (incoming === null || incoming.busy || !this.host.isKnown(incoming.point.index)) return
    this.incoming = null
    incoming.sink?.abandon().catch(() => {})
  }

  stop(): void {
    // What came stays where it is: the transfer resumes after the next start.
    this.stopped = true
    this.incoming = null
  }

  private open(chunk: SnapshotChunk): Incoming | null {
    let point
    try {
      point = this.host.pointOf(chunk)
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error
      this.host.logger.warn(
        { peer: replicaName(chunk.from), error: error.message },
        'a copy of the state makes no sense',
      )
      return null
    }
    if (!this.host.isOffered(chunk, point)) return null
    const { snapshotId: id, from, index, sizeBytes } = chunk
    this.host.logger.info(
      { peer: replicaName(from), index, sizeBytes },
      'this replica is sent a copy of the state',
    )
    this.incoming = { id, point, sizeBytes, from, sink: null, queue: [], busy: false }
    return this.incoming
  }

  private work(incoming: Incoming): void {
    if (incoming.busy) return
    incoming.busy = true
    this.workOn(incoming)
      .catch((error: unknown) => {
        this.host.logger.warn(
          { peer: replicaName(incoming.from), error: String(error) },
          'taking over a copy of the state failed; it is tried again',
        )
        if (isOutOfSpace(error)) this.host.noRoom(incoming.point.index)
        if (this.incoming === incoming) this.incoming = null
        return incoming.sink?.abandon()
      })
      .catch(() => {})
      .finally(() => {
        incoming.busy = false
      })
  }

  private async workOn(incoming: Incoming): Promise<void> {
    const { id, point, sizeBytes } = incoming
    incoming.sink ??= await this.host.receiveSnapshot({ id, index: point.index, sizeBytes })
    const { sink } = incoming
    for (;;) {
      if (this.incoming !== incoming) return
      if (sink.offset >= sizeBytes) break
      const chunk = incoming.queue.shift()
      if (chunk === undefined) return
      // A chunk from elsewhere: one before it was lost with its link. The sender asks when it gets no answer.
      if (chunk.bytes.length > 0 && chunk.offset !== sink.offset) continue
      if (chunk.bytes.length > 0) await sink.write(chunk.offset, chunk.bytes)
      if (sink.offset < sizeBytes) this.reply(incoming.from, id, sink.offset)
    }
    await sink.finish()
    if (this.stopped) return
    const outcome = await this.host.install(sink, point)
    this.host.logger.info({ index: point.index, outcome }, 'a copy of the state is complete')
    this.incoming = null
    this.reply(incoming.from, id, sizeBytes)
    if (outcome === 'notNeeded') await sink.abandon()
  }

  private reply(to: ReplicaId, snapshotId: string, nextOffset: number): void {
    if (!this.stopped)
      this.host.transport.sendChunkReply({ from: this.host.self, to, snapshotId, nextOffset })
  }
}
