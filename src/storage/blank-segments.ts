import type { Cancel, Clock } from '../base/clock.ts'
import type { Disk, DiskFile } from './disk.ts'
import { isOutOfFiles, isOutOfSpace } from './errors.ts'
import { logFolder, segmentPath } from './recovery.ts'

export interface BlankSegment {
  readonly number: number
  readonly file: DiskFile
}

interface BlankSegmentOptions {
  readonly disk: Disk
  readonly clock: Clock
  readonly segmentBytes: number
  readonly nextNumber: number
  /** A file of zeros that an earlier run left. */
  readonly found: BlankSegment | null
  /** A segment may be ready. */
  readonly onReady: () => void
  readonly onFullChanged: (full: boolean) => void
  readonly onFailed: (error: Error) => void
}

const chunk = new Uint8Array(1024 * 1024)
const retryMs = 1000

/**
 * Makes the next segment before it is needed: a file of zeros, flushed together with its name. So a disk without room is noticed here and not by an append, and an append
 * changes nothing but the content of a file, which is what fdatasync is fast at.
 */
export class BlankSegments {
  /** The last try found no room. It is tried again every second, and each time that a segment is asked for. */
  full = false
  private readonly options: BlankSegmentOptions
  private nextNumber: number
  private ready: BlankSegment | null = null
  private present: BlankSegment | null
  private wantedBytes: number
  private busy = false
  private stopped = false
  private onIdle: (() => void) | null = null
  private cancelRetry: Cancel | null = null

  constructor(options: BlankSegmentOptions) {
    this.options = options
    this.nextNumber = options.nextNumber
    this.present = options.found
    this.wantedBytes = options.segmentBytes
    options.clock.soon(() => this.prepare())
  }

  /** A blank segment of at least `bytes`, for good; null when there is none yet: `onReady` tells when to ask again. */
  take(bytes: number): BlankSegment | null {
    if (this.busy || this.stopped) return null
    const segment = this.ready
    if (segment === null || segment.file.sizeBytes() < bytes) {
      this.wantedBytes = Math.max(this.wantedBytes, bytes)
      this.prepare()
      return null
    }
    this.ready = null
    this.wantedBytes = this.options.segmentBytes
    // The taker goes first: what it writes is waited for.
    this.options.clock.soon(() => this.prepare())
    return segment
  }

  /** Calls back when nothing is under way any more. */
  stop(done: () => void): void {
    this.stopped = true
    this.cancelRetry?.()
    this.onIdle = () => {
      ;(this.ready ?? this.present)?.file.close()
      done()
    }
    if (!this.busy) this.onIdle()
  }

  private prepare(): void {
    if (this.busy || this.stopped) return
    if (this.ready !== null && this.ready.file.sizeBytes() >= this.wantedBytes) return
    const segment = this.ready ?? this.present ?? this.create()
    if (segment === null) return
    // It is either ready, and may be taken for good, or present: never both.
    this.present = segment
    this.ready = null
    this.busy = true
    this.fill(segment)
  }

  private create(): BlankSegment | null {
    const { disk } = this.options
    if (disk.freeBytes() < this.wantedBytes) {
      this.noRoom()
      return null
    }
    const number = this.nextNumber
    try {
      const file = disk.open(segmentPath(number), true)
      this.nextNumber += 1
      return { number, file }
    } catch (error) {
      this.failed(error instanceof Error ? error : new Error(String(error)))
      return null
    }
  }

  private fill(segment: BlankSegment): void {
    const { file } = segment
    const size = file.sizeBytes()
    const missing = Math.min(chunk.length, this.wantedBytes - size)
    if (this.stopped) return this.idle()
    if (missing > 0)
      return file.write(size, [chunk.subarray(0, missing)], (error) =>
        error === null ? this.fill(segment) : this.giveUp(segment, error),
      )
    file.flush((flushError) => {
      if (flushError !== null) return this.giveUp(segment, flushError)
      this.options.disk.flushFolder(logFolder, (folderError) => {
        if (folderError !== null) return this.giveUp(segment, folderError)
        this.ready = segment
        this.present = null
        this.setFull(false)
        this.idle()
        this.options.onReady()
      })
    })
  }

  private giveUp({ file }: BlankSegment, error: Error): void {
    this.present = null
    file.close()
    if (!isOutOfSpace(error)) {
      this.idle()
      return this.failed(error)
    }
    // What was taken is given back: others need room too.
    this.options.disk.remove(file.path, (removeError) => {
      this.idle()
      if (removeError === null) this.noRoom()
      else this.failed(removeError)
    })
  }

  private failed(error: Error): void {
    if (isOutOfSpace(error) || isOutOfFiles(error)) this.noRoom()
    else this.options.onFailed(error)
  }

  private noRoom(): void {
    this.setFull(true)
    this.cancelRetry?.()
    this.cancelRetry = this.options.clock.after(retryMs, () => this.prepare())
  }

  private setFull(full: boolean): void {
    if (this.full === full) return
    this.full = full
    this.options.onFullChanged(full)
  }

  private idle(): void {
    this.busy = false
    this.onIdle?.()
  }
}
