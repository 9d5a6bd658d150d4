import type { Cancel, Clock } from '../base/clock.ts'
import type { ServerState } from '../gen/parley/v1/frames.ts'
import { ClientFrame, type Request, type Response, ServerFrame } from '../gen/parley/v1/frames.ts'
import type { Event } from '../gen/parley/v1/service.ts'
import type { Connect, Connection } from './types.ts'

/** Numbers of the requests that the library makes for itself; calls are numbered from {@link firstCallNumber}. */
export const linkNumbers = { ping: 1, subscribe: 2, firstAuthenticate: 3, lastAuthenticate: 15 } as const
export const firstCallNumber = 16

export interface LinkHandlers {
  /** The replica told of itself: in its first frame, and whenever something changes. */
  state(link: Link, state: ServerState): void
  responses(link: Link, responses: readonly Response[]): void
  events(link: Link, events: readonly Event[]): void
  /** The connection is gone, for whatever reason but {@link Link.close}. `silent`: it was given up because nothing came. */
  lost(link: Link, silent: boolean): void
}

const connectTimeoutMs = 5000
/** A connection over which nothing came for so long is probed; sooner while something is awaited, since then somebody waits. */
const quietMs = { idle: 15_000, awaiting: 300 }
/** And is given up when nothing came for so long after the probe. */
const probeMs = { idle: 5000, awaiting: 700 }

/** One connection to one replica: frames, and the notice that the other side is gone although the connection is not closed. */
export class Link {
  readonly address: string
  /** What the replica told of itself last; null before its first frame. */
  state: ServerState | null = null
  private readonly clock: Clock
  private readonly handlers: LinkHandlers
  private readonly connection: Connection
  private phase: 'opening' | 'open' | 'closed' = 'opening'
  private awaiting = false
  private readonly patienceFactor: number
  private heardAtMs: number
  private probedAtMs: number | null = null
  private checkAtMs = 0
  private cancelCheck: Cancel = () => {}

  /** @param patienceFactor so many times the usual patience with a silent replica. */
  constructor(address: string, connect: Connect, clock: Clock, handlers: LinkHandlers, patienceFactor = 1) {
    this.patienceFactor = patienceFactor
    this.address = address
    this.clock = clock
    this.handlers = handlers
    this.heardAtMs = clock.monotonicMs()
    this.checkAt(this.heardAtMs + connectTimeoutMs)
    this.connection = connect(address, {
      opened: () => {
        if (this.phase === 'opening') this.phase = 'open'
      },
      received: (bytes) => this.received(bytes),
      closed: () => this.lose(false),
    })
  }

  send(requests: readonly Request[]): void {
    this.sendEncoded(ClientFrame.encode({ requests }).finish())
  }

  /** Sends an encoded ClientFrame. */
  sendEncoded(frame: Uint8Array<ArrayBuffer>): void {
    if (this.phase === 'open') this.connection.send(frame)
  }

  /** Whether answers are awaited: then silence is looked into sooner. */
  setAwaiting(awaiting: boolean): void {
    this.awaiting = awaiting
    if (!awaiting || this.state === null || this.probedAtMs !== null) return
    const atMs = this.clock.monotonicMs() + this.patience(quietMs)
    if (this.checkAtMs > atMs) this.checkAt(atMs)
  }

  /** Finds out now whether the other side is there. */
  probe(): void {
    if (this.state === null || this.probedAtMs !== null) return
    this.probedAtMs = this.clock.monotonicMs()
    this.send([
      {
        number: linkNumbers.ping,
        timeoutMs: 0,
        local: true,
        minPosition: 0,
        op: { $case: 'ping', value: {} },
      },
    ])
    this.checkAt(this.probedAtMs + this.patience(probeMs))
  }

  close(): void {
    if (this.phase === 'closed') return
    this.phase = 'closed'
    this.cancelCheck()
    this.connection.close()
  }

  private lose(silent: boolean): void {
    if (this.phase === 'closed') return
    this.close()
    this.handlers.lost(this, silent)
  }

  private received(bytes: Uint8Array): void {
    if (this.phase !== 'open') return
    this.heardAtMs = this.clock.monotonicMs()
    this.probedAtMs = null
    let frame: ServerFrame
    try {
      frame = ServerFrame.decode(bytes)
    } catch {
      // Not what a replica of this version sends: another one may do better.
      this.lose(false)
      return
    }
    if (frame.state !== undefined) {
      const first = this.state === null
      this.state = frame.state
      if (first) this.checkAt(this.heardAtMs + this.patience(quietMs))
      this.handlers.state(this, frame.state)
    }
    if (frame.responses.length > 0 && !this.isClosed()) this.handlers.responses(this, frame.responses)
    if (frame.events.length > 0 && !this.isClosed()) this.handlers.events(this, frame.events)
  }

  private isClosed(): boolean {
    return this.phase === 'closed'
  }

  private patience(table: { readonly idle: number; readonly awaiting: number }): number {
    return this.awaiting ? table.awaiting * this.patienceFactor : table.idle
  }

  private checkAt(atMs: number): void {
    this.cancelCheck()
    this.checkAtMs = atMs
    this.cancelCheck = this.clock.after(Math.max(0, atMs - this.clock.monotonicMs()), () => this.check())
  }

  private check(): void {
    const nowMs = this.clock.monotonicMs()
    // Woken far too late: this side stood still, so what the other side sent may wait to be read. Its silence counts from now.
    if (nowMs - this.checkAtMs > 200) {
      this.heardAtMs = nowMs
      if (this.probedAtMs !== null) this.probedAtMs = nowMs
      const limitMs =
        this.state === null ? connectTimeoutMs : this.patience(this.probedAtMs === null ? quietMs : probeMs)
      this.checkAt(nowMs + limitMs)
      return
    }
    if (this.state === null) this.lose(true)
    else if (this.probedAtMs !== null) {
      const dueMs = this.probedAtMs + this.patience(probeMs)
      if (nowMs >= dueMs) this.lose(true)
      else this.checkAt(dueMs)
    } else if (nowMs >= this.heardAtMs + this.patience(quietMs)) this.probe()
    else this.checkAt(this.heardAtMs + this.patience(quietMs))
  }
}
