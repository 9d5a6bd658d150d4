import type { Caller, Result } from '../api/calls.ts'
import { createService, type Service } from '../api/service.ts'
import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import type { ReplicaId } from '../base/ids.ts'
import { silentLogger } from '../base/logger.ts'
import type { Random } from '../base/random.ts'
import type { SignedIn } from '../chat/queries.ts'
import type { Connect } from '../client/types.ts'
import { ClientFrame, ServerFrame, type Request, type Response } from '../gen/parley/v1/frames.ts'
import { Event } from '../gen/parley/v1/service.ts'
import type { Passwords } from '../replica/passwords.ts'
import type { RunningReplica } from '../replica/replica.ts'
import type { Receiver, Subscription } from '../replica/types.ts'
import { clusterId } from './chat-app.ts'
import type { SimProcess } from './cluster.ts'
import { skewed } from './faults.ts'
import type { Owner, Scheduler } from './scheduler.ts'

/** Where connections of clients come in at one process of a replica: what `api/` does over WebSockets, over simulated connections. */
export interface Entrance {
  accept(send: SendFrame): ServerSide
}

/** @param more the rest of what happened at once follows in another frame. */
type SendFrame = (frame: Uint8Array, more: boolean) => void

interface ServerSide {
  received(frame: Uint8Array): void
  closed(): void
}

/** @param fail a rule is broken. */
export function createEntrance(
  replica: RunningReplica,
  clock: Clock,
  random: Random,
  fail: (rule: string, message: string) => void,
): Entrance {
  const service = createService(replica, {
    operatorToken: null,
    join: null,
    passwords: quickPasswords(clock),
    clock,
    logger: silentLogger,
    version: 'sim',
  })
  const connections = new Set<Connection>()
  replica.onStateChange(() => {
    for (const connection of connections) connection.stateChanged()
  })
  return {
    accept(send) {
      const connection = new Connection({ replica, service, clock, random, send, fail }, () =>
        connections.delete(connection),
      )
      connections.add(connection)
      connection.stateChanged()
      return connection
    },
  }
}

interface ConnectionParts {
  readonly replica: RunningReplica
  readonly service: Service
  readonly clock: Clock
  readonly random: Random
  readonly send: SendFrame
  readonly fail: (rule: string, message: string) => void
}

class Connection implements Caller, Receiver, ServerSide {
  signedIn: SignedIn | null = null
  isOperator = false
  readonly address = 'sim'
  private readonly parts: ConnectionParts
  private readonly onClosed: () => void
  private responses: Response[] = []
  private due: Event[] = []
  private stateDue = false
  private flushing = false
  private authenticating = false
  private waiting: Request[] = []
  private subscription: Subscription | null = null
  /** The client was shown everything up to here, or has said so. */
  private shownUpTo = 0
  private isClosed = false

  constructor(parts: ConnectionParts, onClosed: () => void) {
    this.parts = parts
    this.onClosed = onClosed
  }

  received(frame: Uint8Array): void {
    this.waiting.push(...ClientFrame.decode(frame).requests)
    this.begin()
  }

  closed(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.subscription?.close()
    this.onClosed()
  }

  stateChanged(): void {
    this.stateDue = true
    this.flushSoon()
  }

  events(encoded: readonly Uint8Array[]): boolean {
    const before = this.shownUpTo
    for (const bytes of encoded) {
      const event = Event.decode(bytes)
      this.due.push(event)
      if (event.event?.$case !== 'resync' && event.position < before)
        this.parts.fail(
          'streams go on behind their cursor',
          `r${this.parts.replica.state.self} shows a ${event.event?.$case} of ${event.position} to a client that knows everything up to ${before}`,
        )
      this.shownUpTo = event.position
    }
    this.flushSoon()
    if (this.parts.random.below(50) > 0) return true
    // The client does not read for a while.
    this.parts.clock.after(this.parts.random.below(500), () => {
      if (!this.isClosed) this.subscription?.resume()
    })
    return false
  }

  ended(): void {
    this.subscription = null
    this.signedIn = null
  }

  /** While an authentication is under way what comes behind it waits. */
  private begin(): void {
    while (!this.authenticating && !this.isClosed) {
      const request = this.waiting.shift()
      if (request === undefined) return
      const { op } = request
      if (op?.$case === 'subscribe') {
        this.subscription?.close()
        this.shownUpTo = op.value.cursor
        this.subscription = this.parts.service.subscribe(this, op.value.cursor, this)
        this.answer(
          request,
          this.subscription === null
            ? {
                $case: 'error',
                value: { reason: 'REASON_NOT_SIGNED_IN', message: '', violations: [], retryAfterMs: 0 },
              }
            : { $case: 'subscribe', value: {} },
          0,
        )
        continue
      }
      if (op?.$case === 'authenticate') this.authenticating = true
      this.parts.service.call(this, request, (result, position) => {
        this.answer(request, result, position)
        if (op?.$case !== 'authenticate') return
        this.authenticating = false
        this.begin()
      })
    }
  }

  private answer(request: Request, result: Result, position: number): void {
    this.responses.push({ number: request.number, position, result })
    this.flushSoon()
  }

  private flushSoon(): void {
    if (this.flushing || this.isClosed) return
    this.flushing = true
    this.parts.clock.soon(() => {
      this.flushing = false
      if (this.isClosed) return
      const { replica } = this.parts
      // What is said at once need not come at once: a connection may break in between.
      if (this.due.length > 1 && this.parts.random.below(2) === 0) {
        const events = this.due.splice(0, 1 + this.parts.random.below(this.due.length - 1))
        this.parts.send(ServerFrame.encode({ responses: [], events, state: undefined }).finish(), true)
      }
      const frame = ServerFrame.encode({
        responses: this.responses,
        events: this.due,
        state: this.stateDue
          ? {
              replica: replica.state.self,
              clusterId,
              quorum: replica.state.quorum,
              waitingFor: [],
              draining: replica.state.draining,
              hindered: replica.state.hindered,
              nowMs: replica.nowMs,
              addresses: [...replica.state.addresses],
              leader: replica.state.leader,
              version: 'sim',
            }
          : undefined,
      }).finish()
      this.responses = []
      this.due = []
      this.stateDue = false
      this.parts.send(frame, false)
    })
  }
}

/** Connections between clients and replicas; the faults cut and freeze them. */
export interface ClientNetwork {
  connectFor(client: Owner): Connect
  /** Connections to a replica carry nothing for a while. */
  freeze(replica: ReplicaId, durationMs: number): void
  /** All connections to a replica are reset: at once, or in the middle of what comes next. */
  reset(replica: ReplicaId): void
}

export function createClientNetwork(options: {
  readonly scheduler: Scheduler
  readonly random: Random
  readonly processOf: (replica: ReplicaId) => SimProcess | null
  readonly entranceOf: (process: SimProcess) => Entrance | null
}): ClientNetwork {
  const { scheduler, random } = options
  const frozenUntilMs = new Map<ReplicaId, number>()
  const open = new Map<ReplicaId, Set<() => void>>()
  /** Next door, or far away. */
  const delayMs = skewed(random, 1, 100)

  return {
    freeze(replica, durationMs) {
      frozenUntilMs.set(replica, scheduler.nowMs + durationMs)
    },
    reset(replica) {
      for (const reset of open.get(replica) ?? []) reset()
    },
    connectFor: (client) => (address, handlers) => {
      const replica = Number(address.replace('sim:', ''))
      let side: ServerSide | null = null
      let process: SimProcess | null = null
      let ended = false
      /** It breaks in the middle of what happens at once. */
      let isBreaking = false
      let lastToServerMs = 0
      let lastToClientMs = 0
      const arrival = (lastMs: number): number =>
        Math.max(
          lastMs,
          scheduler.nowMs + delayMs * (0.5 + random.below(100) / 100),
          frozenUntilMs.get(replica) ?? 0,
        )
      const end = (): void => {
        if (ended) return
        ended = true
        open.get(replica)?.delete(reset)
        const { nowMs } = scheduler
        if (process !== null) scheduler.at(nowMs + delayMs, process, () => side?.closed())
        scheduler.at(nowMs + delayMs, client, () => handlers.closed())
      }
      const reset = (): void => {
        if (random.below(2) === 0) return end()
        isBreaking = true
        scheduler.at(scheduler.nowMs + 5000, null, end)
      }
      /** A process that dies resets its connections, which the client notices when it is told or when it asks. */
      const watch = (): void => {
        if (ended) return
        if (process?.alive !== true || !client.alive) return end()
        scheduler.at(scheduler.nowMs + 20 + random.below(30), null, watch)
      }
      scheduler.at(arrival(0), null, () => {
        if (ended) return
        process = options.processOf(replica)
        const running = process
        if (running === null) return end()
        scheduler.at(scheduler.nowMs, running, () => {
          const entrance = options.entranceOf(running)
          if (ended) return
          if (entrance === null) return end()
          side = entrance.accept((frame, more) => {
            if (ended) return
            lastToClientMs = arrival(lastToClientMs)
            const isLast = isBreaking && more
            scheduler.at(lastToClientMs, client, () => {
              if (ended) return
              handlers.received(frame)
              if (isLast) end()
            })
          })
          let set = open.get(replica)
          if (set === undefined) {
            set = new Set()
            open.set(replica, set)
          }
          set.add(reset)
          lastToClientMs = arrival(lastToClientMs)
          scheduler.at(lastToClientMs, client, () => {
            if (!ended) handlers.opened()
          })
        })
        watch()
      })
      return {
        send(bytes) {
          if (ended) return
          const copy = bytes.slice()
          lastToServerMs = arrival(lastToServerMs)
          const to = process
          if (to === null) return
          scheduler.at(lastToServerMs, to, () => {
            if (!ended) side?.received(copy)
          })
        },
        close: end,
      }
    },
  }
}

/** Hashes nothing: what passwords cost is not what is tried here. */
function quickPasswords(clock: Clock): Passwords {
  const later = <T>(value: T): Promise<T> => new Promise((resolve) => clock.after(5, () => resolve(value)))
  const hashOf = (password: string): string =>
    `$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$${toHex(new TextEncoder().encode(password))}`
  return {
    hash: (password) => later(hashOf(password)),
    verify: (password, phc) => later(phc !== null && phc === hashOf(password)),
    close: () => Promise.resolve(),
  }
}
