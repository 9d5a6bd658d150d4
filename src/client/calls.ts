import { BinaryWriter } from '@bufbuild/protobuf/wire'
import type { Cancel, Clock } from '../base/clock.ts'
import type { Random } from '../base/random.ts'
import { Request, type Response } from '../gen/parley/v1/frames.ts'
import type { Error as WireError, Reason } from '../gen/parley/v1/model.ts'
import { type CallOutcome, errorFromWire, ParleyError, reasonKinds } from './error.ts'
import { firstCallNumber, type Link } from './link.ts'
import { fillIn, isMutation, needsNoSession, weightOf } from './operations.ts'
import { untilBack } from './state.ts'
import type { CallOptions, Done, InputOf, OperationName, ReadKind, RequestOp, ResponseOf } from './types.ts'

export interface CallsOptions {
  readonly timeoutMs: number
  readonly read: ReadKind
  readonly maxOpenCalls: number
  readonly maxOpenCharacters: number
}

interface Call {
  readonly number: number
  readonly op: RequestOp
  readonly mutation: boolean
  readonly timeoutMs: number
  readonly deadlineMs: number
  readonly characters: number
  readonly done: (error: ParleyError | null, response: unknown) => void
  read: ReadKind
  /** The mutation has its id: from its first sending on it stays the same. */
  identified: boolean
  /** Sent on the present connection, and not answered. */
  inFlight: boolean
  /** An earlier sending may have taken effect. */
  uncertain: boolean
  /** Why it is not done yet, as a replica told last. */
  refusal: WireError | null
}

/** Frames are kept about this small, so that one long frame does not hold up the answers to what it brings. */
const frameCharacters = 128 * 1024
const frameRequests = 1024
/** With this, even a frame of characters of three bytes stays below the 1 MiB that replicas take. */
const requestCharacters = 128 * 1024
/** A replica takes 4096 requests of one connection; a few are left for the library's own. */
const inFlightRequests = 4000
const retryBackOff = { firstMs: 20, longestMs: 1000 }
/** What a replica refuses writes for while it may well answer reads. */
const onlyWrites: ReadonlySet<Reason> = new Set([
  'REASON_NO_SPACE',
  'REASON_OVERLOADED',
  'REASON_UPGRADE_PENDING',
])

/** The calls that wait for their answers: sends them, sends them again after a refusal or on another connection, and fails them at their deadlines. */
export class Calls {
  /** The highest position that an answer or an event showed. */
  position = 0
  private readonly clock: Clock
  private readonly random: Random
  private readonly newId: () => Uint8Array
  private readonly options: CallsOptions
  private readonly onRejected: (error: ParleyError) => void
  private readonly writer = new BinaryWriter()
  /** By number, which is also the order in which they were made. */
  private readonly open = new Map<number, Call>()
  private openCharacters = 0
  private inFlight = 0
  private lastNumber = firstCallNumber - 1
  /** Not in flight, in order. May hold calls that have ended. */
  private waiting: Call[] = []
  private link: Link | null = null
  private flushPlanned = false
  private cancelRetry: Cancel | null = null
  private refusedInARow = 0
  /** Why calls are refused at present: for those that wait behind the refused ones. */
  private refusal: WireError | null = null
  /** What was refused was a write, for a reason that holds back no read. */
  private readsGoOn = false
  /** The oldest of the refused calls, tried alone: while it is refused again nothing may overtake it. */
  private trial: Call | null = null
  private nextDeadlineMs = Infinity
  private cancelDeadline: Cancel = () => {}
  private closed = false

  constructor(
    ports: {
      readonly clock: Clock
      readonly random: Random
      readonly newId: () => Uint8Array
      /** A call was rejected for good. */
      readonly onRejected: (error: ParleyError) => void
    },
    options: CallsOptions,
  ) {
    this.clock = ports.clock
    this.random = ports.random
    this.newId = ports.newId
    this.onRejected = ports.onRejected
    this.options = options
  }

  /** @param limited refuse when too much is open. */
  start<N extends OperationName>(
    name: N,
    input: InputOf<N>,
    options: CallOptions,
    limited: boolean,
    done: Done<N>,
  ): void {
    const op = fillIn(name, input)
    const characters = weightOf(op)
    const refusal = this.refuseNow(characters, limited)
    if (refusal !== null) {
      this.clock.soon(() => done(refusal, null))
      return
    }
    const timeoutMs = options.timeoutMs ?? this.options.timeoutMs
    this.lastNumber = this.lastNumber === 2 ** 32 - 1 ? firstCallNumber : this.lastNumber + 1
    const mutation = isMutation(name)
    const call: Call = {
      number: this.lastNumber,
      op,
      mutation,
      timeoutMs,
      deadlineMs: this.clock.monotonicMs() + timeoutMs,
      characters,
      done: done as (error: ParleyError | null, response: unknown) => void,
      // Every replica answers this one from what it knows itself.
      read: name === 'getStatus' ? 'local' : mutation ? 'linearizable' : (options.read ?? this.options.read),
      identified: !mutation || (op.value as { readonly id: Uint8Array }).id.length > 0,
      inFlight: false,
      uncertain: false,
      refusal: null,
    }
    this.open.set(call.number, call)
    this.openCharacters += characters
    this.waiting.push(call)
    if (call.deadlineMs < this.nextDeadlineMs) this.planDeadline(call.deadlineMs)
    if (this.sendable(call)) this.planFlush()
  }

  /** The link that carries calls from now on; null: none, but what is in flight may still be answered. */
  use(link: Link | null): void {
    this.link = link
    if (link !== null) this.planFlush()
  }

  /** The connection is gone, and with it the answers that were under way: everything is sent again, in order, when there is a link. */
  connectionLost(): void {
    this.link = null
    for (const call of this.open.values()) {
      if (call.inFlight && call.mutation) call.uncertain = true
      call.inFlight = false
    }
    this.inFlight = 0
    this.endRetry()
    this.collectWaiting()
  }

  /** The replica's quorum may have come or gone. */
  stateChanged(): void {
    this.planFlush()
  }

  answered(response: Response): void {
    if (response.position > this.position) this.position = response.position
    const call = this.open.get(response.number)
    if (call === undefined || !call.inFlight) return
    call.inFlight = false
    this.inFlight -= 1
    const result = response.result
    if (result?.$case === 'error') this.refused(call, result.value)
    else if (result?.$case === call.op.$case) {
      // A read that is answered says nothing about writes that are refused.
      if (call.mutation || !this.readsGoOn) this.forgetRefusals()
      this.finish(call, null, result.value)
    } else
      this.finish(call, new ParleyError('REASON_INTERNAL', 'the answer is not one to this request'), null)
    if (this.waiting.length > 0 && this.cancelRetry === null) this.planFlush()
  }

  /** Fails what was asked for by the account that is no longer signed in: it must not be sent again for another. */
  sessionEnded(reason: Reason): void {
    this.failAll(
      (call) => !needsNoSession(call.op.$case),
      (outcome) => new ParleyError(reason, 'the session has ended', { outcome }),
    )
  }

  /** Fails all open calls. */
  close(): void {
    this.closed = true
    this.endRetry()
    this.cancelDeadline()
    this.failAll(
      () => true,
      (outcome) =>
        new ParleyError('REASON_DEADLINE_EXCEEDED', 'the client was closed before the answer came', {
          outcome,
        }),
    )
    this.waiting = []
  }

  private failAll(choose: (call: Call) => boolean, error: (outcome: CallOutcome) => ParleyError): void {
    // Chosen before the first is called back: it may make other calls.
    const chosen: Call[] = []
    for (const call of this.open.values()) if (choose(call)) chosen.push(call)
    for (const call of chosen)
      if (this.open.has(call.number)) this.finish(call, error(this.outcomeOf(call)), null)
  }

  private refuseNow(characters: number, limited: boolean): ParleyError | null {
    if (this.closed) return new ParleyError('REASON_DEADLINE_EXCEEDED', 'the client is closed')
    if (characters > requestCharacters)
      return new ParleyError(
        'REASON_MESSAGE_TOO_LARGE',
        `a request may hold ${requestCharacters} characters of text, and this one has ${characters}`,
      )
    if (!limited) return null
    if (this.open.size >= this.options.maxOpenCalls)
      return new ParleyError('REASON_OVERLOADED', `${this.open.size} calls are open: wait for some to end`)
    if (this.openCharacters + characters > this.options.maxOpenCharacters)
      return new ParleyError(
        'REASON_OVERLOADED',
        `calls with ${this.openCharacters} characters of text are open: wait for some to end`,
      )
    return null
  }

  private planFlush(): void {
    if (this.flushPlanned || this.waiting.length === 0 || this.link === null) return
    this.flushPlanned = true
    this.clock.soon(() => {
      this.flushPlanned = false
      this.flush()
    })
  }

  private isLocal(call: Call): boolean {
    return (
      call.read === 'local' ||
      (call.read === 'best' && this.link !== null && this.link.state?.quorum === false)
    )
  }

  private sendable(call: Call): boolean {
    if (this.link === null) return false
    if (this.isLocal(call)) return true
    if (this.link.state?.quorum !== true) return false
    if (this.readsGoOn && !call.mutation) return true
    if (this.cancelRetry !== null) return false
    return this.trial === null || this.trial === call
  }

  private flush(): void {
    const link = this.link
    if (link === null) return
    const left: Call[] = []
    let requests = 0
    let characters = 0
    for (const call of this.waiting) {
      if (call.inFlight || this.open.get(call.number) !== call) continue
      if (!this.sendable(call) || this.inFlight >= inFlightRequests) {
        left.push(call)
        continue
      }
      this.encode(call)
      requests += 1
      characters += call.characters
      if (requests < frameRequests && characters < frameCharacters) continue
      link.sendEncoded(this.writer.finish())
      requests = 0
      characters = 0
    }
    this.waiting = left
    if (requests > 0) link.sendEncoded(this.writer.finish())
    link.setAwaiting(this.inFlight > 0)
  }

  /** Appends the call to the ClientFrame that is being written. */
  private encode(call: Call): void {
    if (!call.identified) {
      // Not before the first sending: only then is the cluster's time known for certain.
      ;(call.op.value as { id: Uint8Array }).id = this.newId()
      call.identified = true
    }
    call.inFlight = true
    this.inFlight += 1
    const local = this.isLocal(call)
    Request.encode(
      {
        number: call.number,
        timeoutMs: this.serverTimeoutMs(call),
        local,
        minPosition: local ? this.position : 0,
        op: call.op,
      },
      this.writer.uint32(10).fork(),
    ).join()
  }

  /** A little less than what is left, so that the replica's word on what became of the request still comes in time. */
  private serverTimeoutMs(call: Call): number {
    if (call.timeoutMs === Infinity) return 10_000
    const leftMs = Math.max(1, call.deadlineMs - this.clock.monotonicMs())
    return Math.max(1, Math.floor(leftMs - Math.min(200, leftMs / 10)))
  }

  private refused(call: Call, error: WireError): void {
    const kind = reasonKinds[error.reason]
    if (kind === 'final') {
      const signedOut = error.reason === 'REASON_NOT_SIGNED_IN' || error.reason === 'REASON_SESSION_EXPIRED'
      // A sign-out that took effect is answered so when it is sent again. And who fails inside may have done the work.
      const unclear = call.mutation && (error.reason === 'REASON_INTERNAL' || (signedOut && call.uncertain))
      const problem = errorFromWire(error, unclear ? 'unknown' : 'notDone')
      this.remove(call)
      this.onRejected(problem)
      call.done(problem, null)
      return
    }
    call.refusal = error
    if (kind === 'unknown' && call.mutation) call.uncertain = true
    else this.refusal = error
    if (this.trial === call) this.trial = null
    this.readsGoOn = call.mutation && onlyWrites.has(error.reason)
    if (this.readsGoOn) this.planFlush()
    if (call.read === 'best' && error.reason === 'REASON_NO_QUORUM') {
      call.read = 'local'
      this.waiting.push(call)
      this.planFlush()
      return
    }
    this.planRetry(error.retryAfterMs)
  }

  private planRetry(atLeastMs: number): void {
    if (this.cancelRetry !== null) return
    const fullMs = Math.min(
      retryBackOff.longestMs,
      retryBackOff.firstMs * 2 ** Math.min(this.refusedInARow, 16),
    )
    this.refusedInARow += 1
    const delayMs = Math.max(atLeastMs, fullMs / 2 + this.random.below(Math.ceil(fullMs / 2)))
    this.cancelRetry = this.clock.after(delayMs, () => {
      this.cancelRetry = null
      this.collectWaiting()
      this.trial = this.waiting.find((call) => !this.isLocal(call)) ?? null
      this.planFlush()
    })
  }

  private endRetry(): void {
    this.cancelRetry?.()
    this.cancelRetry = null
    this.forgetRefusals()
    this.trial = null
  }

  private forgetRefusals(): void {
    this.refusedInARow = 0
    this.refusal = null
    this.readsGoOn = false
  }

  private collectWaiting(): void {
    this.waiting = []
    for (const call of this.open.values()) if (!call.inFlight) this.waiting.push(call)
  }

  private finish(call: Call, error: ParleyError | null, response: ResponseOf<OperationName> | null): void {
    this.remove(call)
    call.done(error, response)
  }

  private remove(call: Call): void {
    this.open.delete(call.number)
    this.openCharacters -= call.characters
    if (call.inFlight) this.inFlight -= 1
    call.inFlight = false
    if (this.inFlight === 0) this.link?.setAwaiting(false)
    if (this.trial !== call) return
    this.trial = null
    this.planFlush()
  }

  private planDeadline(atMs: number): void {
    this.cancelDeadline()
    this.nextDeadlineMs = atMs
    if (atMs === Infinity) return
    const delayMs = Math.max(0, atMs - this.clock.monotonicMs())
    this.cancelDeadline = this.clock.after(delayMs, () => this.failOverdue())
  }

  /** One timer for all calls: it is set to the earliest deadline, and not moved when that call ends, so it goes off rarely. */
  private failOverdue(): void {
    const nowMs = this.clock.monotonicMs()
    let next = Infinity
    const overdue: Call[] = []
    for (const call of this.open.values()) {
      if (call.deadlineMs <= nowMs) overdue.push(call)
      else if (call.deadlineMs < next) next = call.deadlineMs
    }
    this.planDeadline(next)
    for (const call of overdue) this.finish(call, this.deadlineError(call), null)
  }

  private outcomeOf(call: Call): CallOutcome {
    return call.mutation && (call.inFlight || call.uncertain) ? 'unknown' : 'notDone'
  }

  private deadlineError(call: Call): ParleyError {
    const within = `within ${call.timeoutMs / 1000} s`
    if (this.outcomeOf(call) === 'unknown')
      return new ParleyError(
        'REASON_OUTCOME_UNKNOWN',
        `no answer ${within}: it may have taken effect, or still may`,
        { outcome: 'unknown' },
      )
    if (this.link === null)
      return new ParleyError('REASON_DEADLINE_EXCEEDED', `no replica could be reached ${within}`)
    const refusal = call.refusal ?? (call.inFlight || this.isLocal(call) ? null : this.refusal)
    if (refusal !== null) return errorFromWire(refusal, 'notDone')
    if (this.link.state?.quorum === false && !this.isLocal(call))
      return new ParleyError(
        'REASON_NO_QUORUM',
        `no quorum of replicas can be reached${untilBack(this.link.state.waitingFor)}: read-only, nothing was changed`,
      )
    return new ParleyError('REASON_DEADLINE_EXCEEDED', `no answer ${within}`)
  }
}
