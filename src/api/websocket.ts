import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire'
import { WebSocketServer, type WebSocket } from 'ws'
import type { Cancel, Clock } from '../base/clock.ts'
import { encode } from '../base/encode.ts'
import type { SignedIn } from '../chat/queries.ts'
import { ClientFrame, Response, ServerState, type Request } from '../gen/parley/v1/frames.ts'
import { Reason } from '../gen/parley/v1/model.ts'
import type { Receiver, Subscription } from '../replica/types.ts'
import { failed, type Caller, type Result } from './calls.ts'
import { makeError, reasonName } from './errors.ts'
import { LargeTurns, mayBeLarge } from './large-turns.ts'
import type { Metrics } from './metrics.ts'
import type { Service } from './service.ts'
import { strictUtf8 } from './text.ts'

/** What one connection may cost. */
export interface ConnectionLimits {
  /** Largest frame that a client may send; default 1 MiB. */
  readonly maxFrameBytes: number
  /** Requests in one frame; a client that sends more is cut off. */
  readonly maxFrameRequests: number
  /** Requests of one connection whose answers have not left yet; what comes on top gets OVERLOADED. */
  readonly maxOpenRequests: number
  /** Of those, the ones whose answers may be large that were begun and whose answers are not sent yet. The others wait. */
  readonly maxLargeRequests: number
  /** Bytes that wait to be sent before the connection is not read from and gets no more events. */
  readonly maxWaitingBytes: number
  /** A client that does not read what waits for so long is cut off. */
  readonly slowMs: number
  /** A client that nobody signed in on and that asked for nothing for so long is cut off. */
  readonly silentMs: number
  /** A connection on which nothing was heard for so long is pinged. */
  readonly pingAfterMs: number
  /** A connection on which nothing was heard for so long is cut off. */
  readonly deadAfterMs: number
  /** A client that has not sent the whole of an HTTP request, the one for a WebSocket included, after so long is cut off. */
  readonly requestMs: number
  /** How often connections are looked after. */
  readonly sweepMs: number
}

export const defaultLimits: ConnectionLimits = {
  maxFrameBytes: 1024 * 1024,
  maxFrameRequests: 8192,
  maxOpenRequests: 4096,
  maxLargeRequests: 16,
  maxWaitingBytes: 512 * 1024,
  slowMs: 30_000,
  silentMs: 60_000,
  pingAfterMs: 30_000,
  deadAfterMs: 75_000,
  requestMs: 20_000,
  sweepMs: 5_000,
}

export interface WebSocketEntrance {
  /** Takes over a socket that asked for the WebSocket protocol. */
  upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void
  /** Sends the state to all connections. */
  stateChanged(): void
  readonly connections: number
  /** Bytes that wait to be sent, on all connections. */
  readonly waitingBytes: number
  /** Requests that were taken in and whose answers have not left. */
  readonly openRequests: number
  /** Says goodbye to all connections; those that do not answer are cut off. */
  close(): Promise<void>
}

export interface WebSocketOptions {
  readonly service: Service
  readonly metrics: Metrics
  readonly clock: Clock
  readonly limits: ConnectionLimits
  /** What is sent at the start of each connection, and whenever it changes. */
  readonly state: () => ServerState
}

/** Codes of RFC 6455 §7.4, and two of Parley's own. */
const closeCode = {
  goingAway: 1001,
  notBinary: 1003,
  malformed: 1007,
  tooLarge: 1009,
  silent: 4001,
  slowReceiver: 4002,
} as const

export function createWebSocketEntrance(options: WebSocketOptions): WebSocketEntrance {
  const { clock, limits, state } = options
  const turns = new LargeTurns<Connection>(clock, (connection) => connection.beginWaiting())
  const server = new WebSocketServer({
    noServer: true,
    maxPayload: limits.maxFrameBytes,
    perMessageDeflate: false,
    clientTracking: false,
    autoPong: false,
  })
  const connections = new Set<Connection>()
  let dirty: Connection[] = []
  let lastClosed = (): void => undefined

  // What several callbacks of one turn of the event loop have to say to a connection leaves in one frame.
  function flushSoon(connection: Connection): void {
    dirty.push(connection)
    if (dirty.length === 1) clock.soon(flushAll)
  }
  function flushAll(): void {
    const due = dirty
    dirty = []
    for (const connection of due) connection.flush()
  }

  let stopSweep: Cancel = clock.after(limits.sweepMs, sweep)
  function sweep(): void {
    const nowMs = clock.monotonicMs()
    for (const connection of connections) connection.lookAfter(nowMs)
    stopSweep = clock.after(limits.sweepMs, sweep)
  }

  return {
    upgrade(request, socket, head) {
      server.handleUpgrade(request, socket, head, (ws) => {
        const connection = new Connection(ws, socket, options, turns, flushSoon)
        connections.add(connection)
        ws.on('close', () => {
          connections.delete(connection)
          connection.closed()
          if (connections.size === 0) lastClosed()
        })
        connection.sendState(encodeState(state()))
      })
    },
    stateChanged() {
      if (connections.size === 0) return
      const encoded = encodeState(state())
      for (const connection of connections) connection.sendState(encoded)
    },
    get connections() {
      return connections.size
    },
    get waitingBytes() {
      let sum = 0
      for (const connection of connections) sum += connection.waitingBytes
      return sum
    },
    get openRequests() {
      let sum = 0
      for (const connection of connections) sum += connection.openRequests
      return sum
    },
    async close() {
      stopSweep()
      for (const connection of connections)
        connection.cutOff(closeCode.goingAway, reasonName(Reason.DRAINING))
      if (connections.size === 0) return
      await new Promise<void>((resolve) => {
        const cancel = clock.after(goodbyeMs, () => {
          for (const connection of connections) connection.terminate()
        })
        lastClosed = () => {
          cancel()
          resolve()
        }
      })
    },
  }
}

/** How long a client may take to answer a goodbye when the replica stops. */
const goodbyeMs = 500
const sendOptions = { binary: true, compress: false } as const

// Fields of ServerFrame. A repeated field may be written piece by piece, so events that were encoded once are copied into every receiver's frame as they are.
const responsesTag = 10
const eventsTag = 18
const stateTag = 26

/** One for all frames: each is finished before the next begins. */
const writer = new BinaryWriter()

/** One WebSocket connection: at most one session and one event stream. */
class Connection implements Caller, Receiver {
  signedIn: SignedIn | null = null
  isOperator = false
  readonly address: string
  /** Requests that were taken in and whose answers have not left. */
  openRequests = 0

  private readonly ws: WebSocket
  private readonly service: Service
  private readonly metrics: Metrics
  private readonly clock: Clock
  private readonly limits: ConnectionLimits
  private readonly turns: LargeTurns<Connection>
  private readonly flushSoon: (connection: Connection) => void

  // What leaves in the next frame.
  private dueResponses: Response[] = []
  private dueEvents: Uint8Array[] = []
  private dueEventBytes = 0
  private dueState: Uint8Array | null = null
  private isDirty = false

  /** Requests that have not begun: an authentication is under way, or large answers wait to be read. */
  private waiting: Request[] = []
  private largeRequests = 0
  /** Of those, the ones whose answers leave in the next frame. */
  private dueLarge = 0
  private isAuthenticating = false

  private stream: { readonly subscription: Subscription; readonly session: number } | null = null
  /** The subscription is to be told when there is room again. */
  private eventsStopped = false
  /** Since when the client has left too much unread; null = it has not. */
  private fullSinceMs: number | null = null
  private lastRequestMs: number
  private lastHeardMs: number
  private isClosed = false

  constructor(
    ws: WebSocket,
    socket: Socket,
    { service, metrics, clock, limits }: WebSocketOptions,
    turns: LargeTurns<Connection>,
    flushSoon: (connection: Connection) => void,
  ) {
    this.ws = ws
    this.address = socket.remoteAddress ?? ''
    this.service = service
    this.metrics = metrics
    this.clock = clock
    this.limits = limits
    this.turns = turns
    this.flushSoon = flushSoon
    this.lastRequestMs = clock.monotonicMs()
    this.lastHeardMs = this.lastRequestMs
    ws.on('message', (data: Buffer, isBinary: boolean) => this.received(data, isBinary))
    ws.on('ping', (data: Buffer) => {
      this.lastHeardMs = this.clock.monotonicMs()
      // A client that pings and never reads gets no more pongs than fit.
      if (this.fullSinceMs === null) ws.pong(data)
      this.stopWhenFull()
    })
    ws.on('pong', () => {
      this.lastHeardMs = this.clock.monotonicMs()
    })
    // ws has then begun to close the connection itself, with the code that fits: 1002, 1007 or 1009.
    ws.on('error', () => undefined)
    socket.on('drain', () => this.drained())
  }

  /** Bytes that wait to be sent. */
  get waitingBytes(): number {
    return this.dueEventBytes + this.ws.bufferedAmount
  }

  sendState(encoded: Uint8Array): void {
    this.dueState = encoded
    this.markDirty()
  }

  events(encoded: readonly Uint8Array[]): boolean {
    for (const event of encoded) {
      this.dueEvents.push(event)
      this.dueEventBytes += event.length
    }
    this.markDirty()
    if (this.waitingBytes < this.limits.maxWaitingBytes) return true
    this.eventsStopped = true
    return false
  }

  ended(): void {
    if (this.signedIn?.session === this.stream?.session) this.signedIn = null
    this.stream = null
    this.eventsStopped = false
  }

  /** Sends what is due, as one frame. */
  flush(): void {
    this.isDirty = false
    if (this.isClosed) return
    for (const response of this.dueResponses)
      Response.encode(response, writer.uint32(responsesTag).fork()).join()
    for (const event of this.dueEvents) writer.uint32(eventsTag).bytes(event)
    if (this.dueState !== null) writer.uint32(stateTag).bytes(this.dueState)
    this.openRequests -= this.dueResponses.length
    this.dueResponses = []
    this.largeRequests -= this.dueLarge
    this.dueLarge = 0
    this.dueEvents = []
    this.dueEventBytes = 0
    this.dueState = null
    this.ws.send(writer.finish(), sendOptions)
    this.stopWhenFull()
    if (this.fullSinceMs === null) this.drained()
  }

  /** Pings, and cuts off what is dead, silent or slow. */
  lookAfter(nowMs: number): void {
    if (this.isClosed) return
    const { slowMs, silentMs, pingAfterMs, deadAfterMs } = this.limits
    const unheardMs = nowMs - this.lastHeardMs
    if (this.fullSinceMs !== null) {
      // While the client does not read, it is not read from either: its silence says nothing.
      if (nowMs - this.fullSinceMs >= slowMs)
        this.cutOff(closeCode.slowReceiver, reasonName(Reason.SLOW_RECEIVER))
    } else if (unheardMs >= deadAfterMs) this.ws.terminate()
    else if (this.signedIn === null && this.openRequests === 0 && nowMs - this.lastRequestMs >= silentMs)
      this.cutOff(closeCode.silent, 'nobody signed in and nothing was asked for')
    else if (unheardMs >= pingAfterMs) this.ws.ping()
  }

  /** Says why and closes; a client that does not read is not waited for. */
  cutOff(code: number, why: string): void {
    if (this.isDirty) this.flush()
    this.ws.close(code, why)
    if (this.fullSinceMs !== null) this.ws.terminate()
    this.closed()
  }

  terminate(): void {
    this.ws.terminate()
  }

  /** The connection is gone: nobody waits for anything any more. */
  closed(): void {
    this.isClosed = true
    this.closeStream()
    this.waiting = []
    this.turns.forget(this)
  }

  private received(data: Buffer, isBinary: boolean): void {
    if (this.isClosed) return
    this.lastHeardMs = this.clock.monotonicMs()
    if (!isBinary) return this.cutOff(closeCode.notBinary, 'frames are binary')
    const { maxFrameRequests } = this.limits
    if (hasMoreFields(data, maxFrameRequests))
      return this.cutOff(closeCode.tooLarge, `a frame of more than ${maxFrameRequests} requests`)
    let requests: readonly Request[]
    try {
      requests = ClientFrame.decode(new BinaryReader(data, strictUtf8)).requests
    } catch {
      return this.cutOff(closeCode.malformed, 'not a ClientFrame of parley.v1')
    }
    // Garbage often happens to be a message of unknown fields only; a client has no reason to send such a one.
    if (requests.length === 0) return this.cutOff(closeCode.malformed, 'a frame without a request')
    this.lastRequestMs = this.lastHeardMs
    for (const request of requests) this.take(request)
  }

  private take(request: Request): void {
    if (this.openRequests >= this.limits.maxOpenRequests) {
      this.openRequests += 1
      this.answer(request, overloaded, 0, this.lastHeardMs)
      return
    }
    this.openRequests += 1
    if (this.waiting.length > 0 || !this.mayBegin(request)) this.waiting.push(request)
    else this.begin(request)
  }

  private mayBegin(request: Request): boolean {
    if (this.isAuthenticating) return false
    if (!mayBeLarge(request.op)) return true
    if (this.largeRequests >= this.limits.maxLargeRequests || this.fullSinceMs !== null) return false
    return this.turns.take(this)
  }

  /** Begins those of the requests that wait that may begin now. */
  beginWaiting(): void {
    let begun = 0
    for (const request of this.waiting) {
      if (!this.mayBegin(request)) break
      begun += 1
      this.begin(request)
    }
    if (begun > 0) this.waiting.splice(0, begun)
  }

  private begin(request: Request): void {
    const { op } = request
    const beganMs = this.lastHeardMs
    if (op?.$case === 'subscribe') {
      this.answer(request, this.subscribe(op.value.cursor), 0, beganMs)
      return
    }
    if (op?.$case === 'authenticate') this.isAuthenticating = true
    if (mayBeLarge(request.op)) this.largeRequests += 1
    this.service.call(this, request, (result, position) => {
      if (op?.$case === 'authenticate') {
        this.isAuthenticating = false
        this.closeForeignStream()
      }
      if (mayBeLarge(request.op)) this.dueLarge += 1
      this.answer(request, result, position, beganMs)
    })
  }

  private answer(request: Request, result: Result, position: number, beganMs: number): void {
    if (request.op !== undefined)
      this.metrics.answered(request.op.$case, result, this.clock.monotonicMs() - beganMs)
    if (this.isClosed) return
    this.dueResponses.push({ number: request.number, position, result })
    this.markDirty()
  }

  private subscribe(cursor: number): Result {
    this.closeStream()
    const subscription = this.service.subscribe(this, cursor, this)
    if (subscription === null || this.signedIn === null) return failed(makeError(Reason.NOT_SIGNED_IN))
    this.stream = { subscription, session: this.signedIn.session }
    return { $case: 'subscribe', value: {} }
  }

  /** The connection may now be another session's: what is left of the stream is not for its eyes. */
  private closeForeignStream(): void {
    if (this.stream === null || this.stream.session === this.signedIn?.session) return
    this.closeStream()
    this.dueEvents = []
    this.dueEventBytes = 0
  }

  private closeStream(): void {
    this.stream?.subscription.close()
    this.stream = null
    this.eventsStopped = false
  }

  private markDirty(): void {
    if (this.isDirty) return
    this.isDirty = true
    this.flushSoon(this)
  }

  /** A client that does not read what it asked for is not asked for more. */
  private stopWhenFull(): void {
    if (this.fullSinceMs !== null || this.waitingBytes < this.limits.maxWaitingBytes) return
    this.fullSinceMs = this.clock.monotonicMs()
    this.ws.pause()
  }

  private drained(): void {
    if (this.isClosed || this.waitingBytes >= this.limits.maxWaitingBytes) return
    if (this.fullSinceMs !== null) {
      this.fullSinceMs = null
      this.lastHeardMs = this.clock.monotonicMs()
      this.ws.resume()
    }
    if (this.eventsStopped) {
      this.eventsStopped = false
      this.stream?.subscription.resume()
    }
    if (this.waiting.length > 0) this.beginWaiting()
  }
}

/** Whether the message has more fields than `most`, as far as it can be read: what is wrong with it shows when it is decoded, which costs far more than this. */
function hasMoreFields(data: Uint8Array, most: number): boolean {
  const reader = new BinaryReader(data)
  try {
    for (let fields = 0; reader.pos < reader.len; fields += 1) {
      if (fields === most) return true
      const [field, wireType] = reader.tag()
      reader.skip(wireType, field)
    }
  } catch {
    return false
  }
  return false
}

function encodeState(state: ServerState): Uint8Array {
  return encode(ServerState, state)
}

const overloaded = failed(makeError(Reason.OVERLOADED, { retryAfterMs: 100 }))
