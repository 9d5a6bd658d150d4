import type { Cancel, Clock } from '../base/clock.ts'
import type { Random } from '../base/random.ts'
import type { Request, Response } from '../gen/parley/v1/frames.ts'
import type { Account, Reason } from '../gen/parley/v1/model.ts'
import type { Event, LogInResponse, RegisterResponse } from '../gen/parley/v1/service.ts'
import { Calls } from './calls.ts'
import { Connector } from './connector.ts'
import { errorFromWire, ParleyError, reasonKinds } from './error.ts'
import { makeId, randomBytes } from './ids.ts'
import { type Link, linkNumbers } from './link.ts'
import { memoryStorage, MessageOutbox } from './outbox.ts'
import { platformConnect, secureRandom, systemClock } from './platform.ts'
import { sameState } from './state.ts'
import { EventStream } from './stream.ts'
import type {
  CallOptions,
  Client,
  ClientOptions,
  ClientState,
  Done,
  InputOf,
  OperationName,
  Outbox,
  ResponseOf,
} from './types.ts'

/**
 * Makes a client and starts to connect it. It stays connected, to one replica or another, until {@link Client.close}.
 *
 * @throws Error when no address is given.
 */
export function createClient(options: ClientOptions): Client {
  if (options.addresses.length === 0) throw new Error('a client needs the address of at least one replica')
  return new ParleyClient(options)
}

const tokenBytes = 32
/** How long a replica may take to recognise the session; then it is asked again. */
const authenticateMs = 3000
const authenticateAgainMs = 300

interface Stream {
  readonly receive: (events: readonly Event[]) => void
  readonly events: EventStream
}

class ParleyClient implements Client {
  account: Account | null = null
  session = 0
  private readonly clock: Clock
  private readonly random: Random
  private readonly connector: Connector
  private readonly calls: Calls
  private readonly queue: MessageOutbox
  private readonly listeners = new Set<(state: ClientState) => void>()
  private shown: ClientState = { kind: 'connecting' }
  private token: Uint8Array | null
  /** Why the session ended, until somebody signs in. */
  private ended: Reason | null = null
  /** The link is authenticated, or there is nothing to authenticate. */
  private ready = false
  private wasReady = false
  private closed = false
  private authenticateNumber: number = linkNumbers.firstAuthenticate
  private cancelAuthenticate: Cancel = () => {}
  /** The cluster's time minus the monotonic clock, as the latest word of a replica has it. */
  private timeOffsetMs: number | null = null
  private stream: Stream | null = null
  /** The replica was asked for a stream on this link. */
  private streamAsked = false

  constructor(options: ClientOptions) {
    this.clock = options.clock ?? systemClock
    this.random = options.random ?? secureRandom
    this.token = options.token ?? null
    this.calls = new Calls(
      {
        clock: this.clock,
        random: this.random,
        newId: () => this.newId(),
        onRejected: (error) => this.rejected(error),
      },
      {
        timeoutMs: options.timeoutMs ?? 10_000,
        read: options.read ?? 'linearizable',
        maxOpenCalls: options.maxOpenCalls ?? 65_536,
        maxOpenCharacters: options.maxOpenCharacters ?? 64 * 1024 * 1024,
      },
    )
    this.calls.position = options.position ?? 0
    this.connector = new Connector(
      {
        clock: this.clock,
        random: this.random,
        connect: options.connect ?? platformConnect,
      },
      { addresses: options.addresses, discover: options.discover ?? true },
      {
        adopted: (link) => this.adopted(link),
        lost: () => this.lost(),
        stateChanged: (link) => this.replicaChanged(link),
        responses: (link, responses) => this.received(link, responses),
        events: (_, events) => this.happened(events),
      },
    )
    this.queue = new MessageOutbox({
      storage: options.storage ?? memoryStorage(),
      send: (message, done) => this.calls.start('sendMessage', message, { timeoutMs: Infinity }, false, done),
      newId: () => this.newId(),
      nowMs: () => this.nowMs(),
      account: () => this.account?.id ?? 0,
      onChange: () => this.showState(),
    })
    this.connector.start()
  }

  call<N extends OperationName>(name: N, input: InputOf<N>, options?: CallOptions): Promise<ResponseOf<N>> {
    return promised<ResponseOf<N>>((done) => this.request(name, input, options ?? {}, done))
  }

  request<N extends OperationName>(name: N, input: InputOf<N>, options: CallOptions, done: Done<N>): void {
    if (name !== 'logOut' && name !== 'deleteAccount') {
      this.calls.start(name, input, options, true, done)
      return
    }
    this.calls.start(name, input, options, true, (error, response) => {
      if (error === null)
        this.endSession(name === 'logOut' ? 'REASON_NOT_SIGNED_IN' : 'REASON_ACCOUNT_NOT_FOUND')
      done(error, response)
    })
  }

  async logIn(input: {
    readonly name: string
    readonly password: string
    readonly device?: string
  }): Promise<LogInResponse> {
    this.mustBeSignedOut()
    const token = randomBytes(this.random, tokenBytes)
    const response = await this.call('logIn', { ...input, token })
    this.beginSession(token, response)
    return response
  }

  async register(input: {
    readonly name: string
    readonly password: string
    readonly device?: string
  }): Promise<RegisterResponse> {
    this.mustBeSignedOut()
    const token = randomBytes(this.random, tokenBytes)
    const response = await this.call('register', { ...input, token })
    this.beginSession(token, response)
    return response
  }

  async logOut(): Promise<void> {
    try {
      await this.call('logOut', {})
    } catch (error) {
      this.endSession('REASON_NOT_SIGNED_IN')
      const already =
        error instanceof ParleyError &&
        (error.reason === 'REASON_NOT_SIGNED_IN' || error.reason === 'REASON_SESSION_EXPIRED')
      if (!already) throw error
    }
  }

  subscribe(cursor: number, receive: (events: readonly Event[]) => void): () => void {
    const stream: Stream = { events: new EventStream(cursor), receive }
    this.stream = stream
    // Events of the stream before may be under way, and could not be told from those of the new one.
    if (this.streamAsked) this.connector.renew()
    else this.openStream()
    return () => {
      if (this.stream === stream) this.stream = null
    }
  }

  get outbox(): Outbox {
    return this.queue
  }

  get state(): ClientState {
    return this.shown
  }

  onState(listener: (state: ClientState) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  get position(): number {
    return this.calls.position
  }

  get addresses(): readonly string[] {
    return this.connector.addresses
  }

  nowMs(): number {
    return this.timeOffsetMs === null
      ? this.clock.wallMs()
      : Math.floor(this.timeOffsetMs + this.clock.monotonicMs())
  }

  newId(): Uint8Array {
    return makeId(this.nowMs(), this.random)
  }

  wake(): void {
    this.connector.wake()
  }

  close(): void {
    if (this.closed) return
    this.closed = true
    this.queue.close()
    this.cancelAuthenticate()
    this.connector.stop()
    this.calls.close()
    this.stream = null
    this.showState()
  }

  private adopted(link: Link): void {
    this.noteTime(link)
    this.begin(link)
    this.showState()
  }

  private lost(): void {
    this.cancelAuthenticate()
    this.ready = false
    this.streamAsked = false
    this.calls.connectionLost()
    this.showState()
  }

  private replicaChanged(link: Link): void {
    this.noteTime(link)
    this.calls.stateChanged()
    this.showState()
  }

  private noteTime(link: Link): void {
    if (link.state !== null && link.state.nowMs > 0)
      this.timeOffsetMs = link.state.nowMs - this.clock.monotonicMs()
  }

  /** Makes the link usable: binds it to the session when there is one. */
  private begin(link: Link): void {
    this.cancelAuthenticate()
    if (this.token === null) {
      this.nowReady(link)
      return
    }
    this.ready = false
    this.calls.use(null)
    link.setAwaiting(true)
    // A number of its own each time: an answer that is about another token must not be taken for this one's.
    this.authenticateNumber =
      this.authenticateNumber === linkNumbers.lastAuthenticate
        ? linkNumbers.firstAuthenticate
        : this.authenticateNumber + 1
    link.send([
      internalRequest(this.authenticateNumber, { $case: 'authenticate', value: { token: this.token } }),
    ])
  }

  private authenticated(link: Link, result: Response['result']): void {
    if (this.token === null || this.ready) return
    if (result?.$case === 'authenticate') {
      this.account = result.value.account ?? null
      this.session = result.value.session
      this.nowReady(link)
      return
    }
    const reason: Reason = result?.$case === 'error' ? result.value.reason : 'REASON_INTERNAL'
    if (reasonKinds[reason] === 'final') this.endSession(reason)
    else this.cancelAuthenticate = this.clock.after(authenticateAgainMs, () => this.begin(link))
  }

  private nowReady(link: Link): void {
    this.ready = true
    this.wasReady = true
    this.calls.use(link)
    this.openStream()
    this.queue.accountChanged()
    this.queue.sendNext()
    this.showState()
  }

  private beginSession(token: Uint8Array, response: LogInResponse | RegisterResponse): void {
    this.token = token
    this.ended = null
    this.account = response.account ?? null
    this.session = response.session
    const link = this.connector.current
    if (link !== null) this.begin(link)
    this.queue.accountChanged()
    this.showState()
  }

  private endSession(reason: Reason): void {
    if (this.token === null) return
    this.token = null
    this.account = null
    this.session = 0
    this.ended = reason
    this.streamAsked = false
    this.calls.sessionEnded(reason)
    const link = this.connector.current
    if (link !== null) this.begin(link)
    this.queue.accountChanged()
    this.showState()
  }

  private rejected(error: ParleyError): void {
    // What waits for the session to be recognised is not sent yet, so this is about the session that the link is bound to.
    if (error.reason === 'REASON_NOT_SIGNED_IN' || error.reason === 'REASON_SESSION_EXPIRED')
      this.endSession(error.reason)
  }

  private openStream(): void {
    const link = this.connector.current
    const { stream } = this
    if (stream === null || !this.ready || this.token === null || link === null) return
    this.streamAsked = true
    link.send([
      internalRequest(linkNumbers.subscribe, {
        $case: 'subscribe',
        value: { cursor: stream.events.resume() },
      }),
    ])
  }

  private mustBeSignedOut(): void {
    if (this.token !== null)
      throw new ParleyError('REASON_INVALID_ARGUMENT', 'somebody is signed in: sign out first')
  }

  private received(link: Link, responses: readonly Response[]): void {
    for (const response of responses) {
      if (response.number === this.authenticateNumber) this.authenticated(link, response.result)
      else if (response.number === linkNumbers.subscribe) this.subscribed(response.result)
      else this.calls.answered(response)
    }
  }

  private subscribed(result: Response['result']): void {
    if (result?.$case === 'error') this.rejected(errorFromWire(result.value, 'notDone'))
  }

  private happened(events: readonly Event[]): void {
    const stream = this.stream
    if (stream === null) return
    const fresh = stream.events.accept(events)
    const last = events[events.length - 1]
    if (last !== undefined && last.position > this.calls.position) this.calls.position = last.position
    if (fresh.length > 0) stream.receive(fresh)
    for (const { event } of fresh)
      if (event?.$case === 'sessionEnded' && event.value.session === this.session)
        this.endSession(event.value.reason)
  }

  private showState(): void {
    const state = this.presentState()
    if (sameState(state, this.shown)) return
    this.shown = state
    for (const listener of this.listeners) listener(state)
  }

  private presentState(): ClientState {
    if (this.closed) return { kind: 'closed' }
    if (this.ended !== null) return { kind: 'signedOut', reason: this.ended }
    const link = this.connector.current
    const replica = link?.state?.replica ?? 0
    if (link !== null && link.state?.quorum === false) {
      const { waitingFor } = link.state
      const missing = waitingFor.length === 0 ? {} : { waitingFor }
      return { kind: 'noQuorum', replica, address: link.address, queued: this.queue.pending, ...missing }
    }
    // While the session is being recognised too: that is no matter for people, and calls wait for it by themselves.
    if (link !== null) return { kind: 'connected', replica, address: link.address }
    return { kind: this.wasReady ? 'reconnecting' : 'connecting' }
  }
}

function internalRequest(number: number, op: NonNullable<Request['op']>): Request {
  return { number, timeoutMs: authenticateMs, local: true, minPosition: 0, op }
}

function promised<R>(
  start: (done: (error: ParleyError | null, response: R | null) => void) => void,
): Promise<R> {
  return new Promise((resolve, reject) =>
    start((error, response) => {
      if (response === null) reject(error ?? new ParleyError('REASON_INTERNAL', 'neither answer nor error'))
      else resolve(response)
    }),
  )
}
