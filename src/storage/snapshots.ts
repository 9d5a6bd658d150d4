import { mkdirSync, readdirSync, rmSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { assert } from '../base/assert.ts'
import type {
  SnapshotOffer,
  SnapshotSink,
  SnapshotSource,
  StateJob,
  StateJobResult,
  StateWorker,
} from './types.ts'

/** The index, and the SHA-256 of the file. It comes from other replicas and becomes a file name, so it must be nothing else. */
const idPattern = /^\d{1,16}-[0-9a-f]{64}$/

/** What came from another replica is not what it offered; it has been thrown away. */
export class SnapshotRejectedError extends Error {
  override readonly name = 'SnapshotRejectedError'
}

/** A copy that is made leaves so much room to the log and the state. */
const spareBytes = 8 * 1024 * 1024

interface SharedCopy {
  readonly path: string
  readonly ready: Promise<{ readonly offer: SnapshotOffer; readonly engineState: Uint8Array }>
  /** Null while it is being made. */
  index: number | null
  handles: number
}

/** Copies of the state on their way out and in, in the folder `snapshots`. */
export class Snapshots {
  private readonly folder: string
  private readonly worker: StateWorker
  private lastCopy = 0
  private shared: SharedCopy | null = null
  private sink: Sink | null = null

  /** Removes what earlier runs left, but for what came of a copy. */
  constructor(replicaFolder: string, worker: StateWorker) {
    this.folder = join(replicaFolder, 'snapshots')
    this.worker = worker
    mkdirSync(this.folder, { recursive: true, mode: 0o700 })
    for (const name of readdirSync(this.folder))
      if (!name.startsWith('incoming-') || !name.endsWith('.part')) rmSync(join(this.folder, name))
  }

  get isCopying(): boolean {
    return this.shared !== null && this.shared.index === null
  }

  /** @param neededIndex a copy that is there already is good enough when it is at least as new. */
  async take(databasePath: string, neededIndex: number): Promise<SnapshotSource> {
    const present = this.shared
    const shared =
      present !== null && (present.index === null || present.index >= neededIndex)
        ? present
        : this.makeCopy(databasePath)
    shared.handles += 1
    let made: Awaited<SharedCopy['ready']>
    try {
      made = await shared.ready
    } catch (error) {
      await this.release(shared)
      throw error
    }
    if (made.offer.index < neededIndex) {
      // It was begun before what is wanted had been committed.
      await this.release(shared)
      return this.take(databasePath, neededIndex)
    }
    let open = true
    return {
      ...made.offer,
      engineState: made.engineState,
      read: (offset, maxBytes) => this.worker.read(shared.path, offset, maxBytes),
      close: async () => {
        if (!open) return
        open = false
        await this.release(shared)
      },
    }
  }

  async receive(
    { id, index, sizeBytes }: SnapshotOffer,
    swapIn: (path: string) => void,
  ): Promise<SnapshotSink> {
    const offer = { id, index, sizeBytes }
    assert(idPattern.test(offer.id), 'the id of a copy is an index and a digest', { id: offer.id })
    this.sink?.end()
    const name = `incoming-${offer.id}.part`
    for (const other of readdirSync(this.folder))
      if (other.startsWith('incoming-') && other !== name) rmSync(join(this.folder, other))
    const path = join(this.folder, name)
    let offset = statSync(path, { throwIfNoEntry: false })?.size ?? 0
    if (offset > offer.sizeBytes) offset = 0
    this.checkRoom(offer.sizeBytes - offset)
    this.sink = new Sink(this.worker, offer, path, offset, swapIn)
    return this.sink
  }

  private checkRoom(neededBytes: number): void {
    const { bavail, bsize } = statfsSync(this.folder)
    if (bavail * bsize < neededBytes)
      throw Object.assign(new Error(`ENOSPC: a copy of the state needs ${neededBytes} bytes of room`), {
        code: 'ENOSPC',
      })
  }

  private makeCopy(databasePath: string): SharedCopy {
    this.checkRoom(statSync(databasePath).size + spareBytes)
    this.lastCopy += 1
    const path = join(this.folder, `outgoing-${this.lastCopy}.db`)
    const ready = runJob(this.worker, { kind: 'copy', path: databasePath, to: path }).then((result) => {
      if (result.kind !== 'copied') throw jobError(result)
      shared.index = result.offer.index
      return result
    })
    const shared: SharedCopy = { path, ready, index: null, handles: 0 }
    this.shared = shared
    return shared
  }

  private async release(shared: SharedCopy): Promise<void> {
    shared.handles -= 1
    if (shared.handles > 0) return
    if (this.shared === shared) this.shared = null
    for (const suffix of ['', '-journal']) await this.worker.remove(`${shared.path}${suffix}`)
  }
}

class Sink implements SnapshotSink {
  offset: number
  private readonly worker: StateWorker
  private readonly offer: SnapshotOffer
  private readonly path: string
  private readonly swapIn: (path: string) => void
  private state: 'open' | 'finished' | 'ended' = 'open'

  constructor(
    worker: StateWorker,
    offer: SnapshotOffer,
    path: string,
    offset: number,
    swapIn: (path: string) => void,
  ) {
    this.worker = worker
    this.offer = offer
    this.path = path
    this.offset = offset
    this.swapIn = swapIn
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    this.mustBe('open')
    if (offset > this.offset)
      throw new RangeError(`bytes from ${offset} on, but only ${this.offset} are here`)
    const fresh = bytes.subarray(this.offset - offset)
    if (fresh.length === 0) return
    if (this.offset + fresh.length > this.offer.sizeBytes)
      throw new RangeError(`more than the ${this.offer.sizeBytes} bytes that were offered`)
    const at = this.offset
    await this.worker.write(this.path, at, fresh)
    this.offset = at + fresh.length
  }

  async finish(): Promise<void> {
    this.mustBe('open')
    const result = await runJob(this.worker, { kind: 'verify', path: this.path, offer: this.offer })
    this.mustBe('open')
    if (result.kind === 'verified') {
      this.state = 'finished'
      return
    }
    await this.abandon()
    throw result.kind === 'rejected'
      ? new SnapshotRejectedError(`the copy of the state is not what was offered: ${result.reason}`)
      : jobError(result)
  }

  install(): void {
    this.mustBe('finished')
    this.state = 'ended'
    this.swapIn(this.path)
  }

  async abandon(): Promise<void> {
    if (this.state === 'ended') return
    this.state = 'ended'
    await this.worker.remove(this.path)
  }

  /** Another one takes its place; what came may be of use to it. */
  end(): void {
    this.state = 'ended'
  }

  private mustBe(state: 'open' | 'finished'): void {
    if (this.state !== state) throw new Error(`the transfer of a copy is ${this.state}, not ${state}`)
  }
}

/** The error of a job that did not come to what it should. */
export function jobError(result: StateJobResult): Error {
  return result.kind === 'failed' ? result.error : new Error(`a job ended as ${result.kind}`)
}

function runJob(worker: StateWorker, job: StateJob): Promise<StateJobResult> {
  return new Promise((resolve) => worker.run(job, resolve))
}
