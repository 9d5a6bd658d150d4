// For the tests of this folder: virtual time, and replicas that live in memory, one chat for all of them, with faults on demand.
import type { Clock } from '../base/clock.ts'
import { toHex } from '../base/bytes.ts'
import { ClientFrame, type Request, type Response, ServerFrame } from '../gen/parley/v1/frames.ts'
import { Account, Conversation, Error as WireError, Message, type Reason } from '../gen/parley/v1/model.ts'
import { GetStatusResponse, ReplicaStatus, type Event } from '../gen/parley/v1/service.ts'
import type { Connect, ConnectionHandlers } from './types.ts'

/** Time that passes only when a test says so. */
export class VirtualClock implements Clock {
  private nowMs = 1000
  private order = 0
  private readonly due: { atMs: number; order: number; callback: () => void }[] = []

  monotonicMs(): number {
    return this.nowMs
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.nowMs
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { atMs: this.nowMs + delayMs, order: this.order, callback }
    this.order += 1
    this.due.push(timer)
    return () => {
      const at = this.due.indexOf(timer)
      if (at >= 0) this.due.splice(at, 1)
    }
  }

  soon(callback: () => void): void {
    this.after(0, callback)
  }

  /** Lets `ms` pass, and everything happen that falls due. */
  async pass(ms: number): Promise<void> {
    const endMs = this.nowMs + ms
    await settled()
    for (;;) {
      const next = this.due
        .filter((timer) => timer.atMs <= endMs)
        .sort((a, b) => a.atMs - b.atMs || a.order - b.order)[0]
      if (next === undefined) break
      this.due.splice(this.due.indexOf(next), 1)
      this.nowMs = Math.max(this.nowMs, next.atMs)
      next.callback()
      await settled()
    }
    this.nowMs = endMs
  }

  /** This process stands still for `ms`: what fell due meanwhile happens late. */
  stall(ms: number): void {
    this.nowMs += ms
  }
}

/** Lets promises that are ready run on. */
function settled(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}

type Result = NonNullable<Response['result']>

/** What a fake replica does with a request instead of just answering it. */
export type Fault =
  /** Takes effect; the process dies before the answer leaves. */
  | 'dieAfter'
  /** The process dies before it takes effect. */
  | 'dieBefore'
  /** Takes effect; the answer never comes. */
  | 'loseAnswer'
  | { readonly refuse: Reason; readonly retryAfterMs?: number }

/** The state that all fake replicas share, as a cluster's replicas do. */
export class FakeChat {
  position = 100
  readonly messages: Message[] = []
  /** Not opened yet, by whomever. */
  readonly inbox: Message[] = []
  readonly events: Event[] = []
  /** What any search finds, page by page. */
  readonly searchPages: (readonly Message[])[] = []
  readonly tokens = new Map<string, { account: Account; session: number }>()
  /** By name. The first of them is account 5, the next one 6. */
  readonly passwords = new Map<string, string>()
  private readonly outcomes = new Map<string, { result: Result; position: number }>()
  private readonly listeners = new Set<() => void>()
  /** Events before this position are no longer kept. */
  oldestCursor = 0

  addSession(token: Uint8Array, account: number, session: number): void {
    this.tokens.set(toHex(token), {
      account: Account.create({ id: account, name: `account${account}` }),
      session,
    })
  }

  onEvents(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Several events of one position. */
  happen(...events: readonly NonNullable<Event['event']>[]): void {
    this.position += 1
    for (const event of events) this.events.push({ position: this.position, event })
    for (const listener of this.listeners) listener()
  }

  send(
    request: Extract<NonNullable<Request['op']>, { $case: 'sendMessage' }>['value'],
    sender: Account,
  ): {
    result: Result
    position: number
  } {
    const id = toHex(request.id)
    const known = this.outcomes.get(id)
    if (known !== undefined) return known
    const seq = this.messages.length + 1
    const { id: account, name } = sender
    const message = Message.create({
      conversation: 7,
      seq,
      id: request.id,
      text: request.text,
      sender: account,
      senderName: name,
    })
    this.messages.push(message)
    this.happen({ $case: 'message', value: message })
    const outcome = {
      result: {
        $case: 'sendMessage',
        value: { conversation: 7, seq, atMs: 0, delivered: true },
      } as const,
      position: this.position,
    }
    this.outcomes.set(id, outcome)
    return outcome
  }
}

interface Accepted {
  readonly handlers: ConnectionHandlers
  signedIn: { account: Account; session: number } | null
  cursor: number | null
  stop: () => void
}

export class FakeReplica {
  readonly id: number
  readonly address: string
  readonly chat: FakeChat
  up = true
  quorum = true
  draining = false
  hindered = false
  /** Takes in everything and sends nothing, like a machine that is gone from the network. */
  silent = false
  /** Addresses that it tells; none by default. */
  addresses: readonly string[] = []
  waitingFor: readonly number[] = []
  faultModel = 'majority'
  /** Requests that arrived, by name. */
  readonly seen: Request[] = []
  /** Asked for each request but pings. */
  fault: (request: Request) => Fault | null = () => null
  private readonly network: FakeNetwork
  private readonly accepted = new Set<Accepted>()

  constructor(network: FakeNetwork, id: number) {
    this.network = network
    this.id = id
    this.address = `r${id}:7400`
    this.chat = network.chat
  }

  get connections(): number {
    return this.accepted.size
  }

  /** Names of the operations that arrived, without pings. */
  get seenOps(): readonly string[] {
    return this.seen.map((request) => request.op?.$case ?? '').filter((name) => name !== 'ping')
  }

  kill(): void {
    this.up = false
    for (const connection of this.accepted) this.disconnect(connection)
  }

  setState(state: {
    readonly quorum?: boolean
    readonly draining?: boolean
    readonly hindered?: boolean
  }): void {
    if (state.hindered !== undefined) this.hindered = state.hindered
    if (state.quorum !== undefined) this.quorum = state.quorum
    if (state.draining !== undefined) this.draining = state.draining
    for (const connection of this.accepted) this.tellState(connection)
  }

  /** Sends the events after the cursor up to and including the event number `count` of those, then nothing more. */
  accept(handlers: ConnectionHandlers): { send(bytes: Uint8Array): void; close(): void } {
    const connection: Accepted = { handlers, signedIn: null, cursor: null, stop: () => {} }
    this.accepted.add(connection)
    this.network.deliver(() => {
      if (!this.accepted.has(connection)) return
      handlers.opened()
      this.tellState(connection)
    })
    connection.stop = this.chat.onEvents(() => this.tellEvents(connection))
    return {
      send: (bytes) =>
        this.network.deliver(() => {
          for (const request of ClientFrame.decode(bytes).requests) this.take(connection, request)
        }),
      close: () => this.forget(connection),
    }
  }

  private take(connection: Accepted, request: Request): void {
    if (!this.up || !this.accepted.has(connection)) return
    this.seen.push(request)
    const fault = request.op?.$case === 'ping' ? null : this.fault(request)
    if (fault === 'dieBefore') return this.kill()
    if (fault !== null && typeof fault === 'object')
      return this.reply(connection, request, error(fault.refuse, fault.retryAfterMs ?? 0), 0)
    const [result, position] = this.perform(connection, request)
    if (fault === 'dieAfter') return this.kill()
    if (fault === 'loseAnswer') return
    this.reply(connection, request, result, position)
  }

  private perform(connection: Accepted, request: Request): [result: Result, position: number] {
    const op = request.op
    const { position } = this.chat
    switch (op?.$case) {
      case 'authenticate': {
        connection.signedIn = this.chat.tokens.get(toHex(op.value.token)) ?? null
        if (connection.signedIn === null) return [error('REASON_NOT_SIGNED_IN'), 0]
        return [{ $case: 'authenticate', value: connection.signedIn }, position]
      }
      case 'subscribe':
        connection.cursor = op.value.cursor
        this.tellEvents(connection)
        return [{ $case: 'subscribe', value: {} }, 0]
      case 'ping':
        return [{ $case: 'ping', value: {} }, 0]
      case 'getStatus':
        return [{ $case: 'getStatus', value: this.status() }, position]
      case 'logIn': {
        if (this.chat.passwords.get(op.value.name) !== op.value.password)
          return [error('REASON_WRONG_CREDENTIALS'), 0]
        const id = 5 + [...this.chat.passwords.keys()].indexOf(op.value.name)
        const session = 10 * id
        this.chat.addSession(op.value.token, id, session)
        const account = Account.create({ id, name: op.value.name })
        return [{ $case: 'logIn', value: { account, session, token: op.value.token, inbox: 3 } }, position]
      }
      case 'logOut':
        if (connection.signedIn === null) return [error('REASON_NOT_SIGNED_IN'), 0]
        for (const [token, known] of this.chat.tokens)
          if (known.session === connection.signedIn.session) this.chat.tokens.delete(token)
        connection.signedIn = null
        return [{ $case: 'logOut', value: {} }, position]
      case 'lookUpName':
        return [{ $case: 'lookUpName', value: { exists: true, registrationOpen: true } }, position]
      case 'getMe':
        if (connection.signedIn === null) return [error('REASON_NOT_SIGNED_IN'), 0]
        return [
          {
            $case: 'getMe',
            value: { ...connection.signedIn, inbox: 0, position, policy: undefined },
          },
          position,
        ]
      case 'getConversation':
        return [
          {
            $case: 'getConversation',
            value: {
              conversation: Conversation.fromPartial({
                id: 7,
                kind: 'CONVERSATION_KIND_DIRECT',
                name: 'bob',
              }),
              position,
            },
          },
          position,
        ]
      case 'listConversations':
        return [
          { $case: 'listConversations', value: { conversations: [], nextPageToken: '', position } },
          position,
        ]
      case 'listDrafts':
        return [{ $case: 'listDrafts', value: { drafts: [], nextPageToken: '' } }, position]
      case 'listAccounts':
        return [{ $case: 'listAccounts', value: { accounts: [], nextPageToken: '' } }, position]
      case 'markRead':
        if (!this.quorum) return [error('REASON_NO_QUORUM'), 0]
        return [{ $case: 'markRead', value: { marks: undefined } }, position]
      case 'listMessages': {
        const { beforeSeq, afterSeq, pageSize } = op.value
        const all = this.chat.messages.filter(
          ({ seq }) => seq > afterSeq && (beforeSeq === 0 || seq < beforeSeq),
        )
        const messages = afterSeq > 0 ? all.slice(0, pageSize) : all.slice(-pageSize)
        const value = {
          messages,
          more: messages.length < all.length,
          marks: undefined,
          position,
          firstSeq: messages[0]?.seq ?? 0,
          lastSeq: messages.at(-1)?.seq ?? 0,
        }
        return [{ $case: 'listMessages', value }, position]
      }
      case 'searchMessages': {
        const page = Number(op.value.pageToken)
        const messages = this.chat.searchPages[page] ?? []
        const nextPageToken = page + 1 < this.chat.searchPages.length ? String(page + 1) : ''
        return [{ $case: 'searchMessages', value: { messages, nextPageToken } }, position]
      }
      case 'openInbox': {
        const messages = this.chat.inbox.splice(0, op.value.count)
        return [{ $case: 'openInbox', value: { messages, remaining: this.chat.inbox.length } }, position]
      }
      case 'sendMessage': {
        if (connection.signedIn === null) return [error('REASON_NOT_SIGNED_IN'), 0]
        const sent = this.chat.send(op.value, connection.signedIn.account)
        return [sent.result, sent.position]
      }
      default:
        return [error('REASON_UNIMPLEMENTED'), 0]
    }
  }

  private status(): GetStatusResponse {
    const replicas = [...this.network.replicas.values()].map(({ id, address, up, silent }) =>
      ReplicaStatus.fromPartial({
        id,
        role: id === 1 ? 'leader' : 'follower',
        httpAddress: address,
        reachable: up && !silent,
        voter: true,
      }),
    )
    const { id, quorum, waitingFor, faultModel } = this
    return GetStatusResponse.fromPartial({ replica: id, leader: 1, quorum, waitingFor, faultModel, replicas })
  }

  private reply(connection: Accepted, request: Request, result: Result, position: number): void {
    this.tell(connection, { responses: [{ number: request.number, position, result }] })
  }

  private tellState(connection: Accepted): void {
    this.tell(connection, {
      state: {
        replica: this.id,
        clusterId: new Uint8Array(16),
        quorum: this.quorum,
        waitingFor: this.waitingFor,
        draining: this.draining,
        hindered: this.hindered,
        nowMs: this.network.clock.wallMs() + this.network.clockAheadMs,
        addresses: this.addresses,
        leader: 1,
        version: 'test',
      },
    })
  }

  private tellEvents(connection: Accepted): void {
    if (connection.cursor === null) return
    const from = connection.cursor === 0 ? this.chat.position : connection.cursor
    if (connection.cursor === 0)
      this.tell(connection, { events: [{ position: from, event: { $case: 'progress', value: {} } }] })
    connection.cursor = this.chat.position
    if (from < this.chat.oldestCursor) {
      this.tell(connection, {
        events: [{ position: this.chat.position, event: { $case: 'resync', value: {} } }],
      })
      return
    }
    for (const event of this.chat.events)
      if (event.position > from) this.tell(connection, { events: [event] })
  }

  private tell(connection: Accepted, frame: Partial<ServerFrame>): void {
    const bytes = ServerFrame.encode({ responses: [], events: [], state: undefined, ...frame }).finish()
    this.network.deliver(() => {
      if (this.silent || !this.accepted.has(connection)) return
      this.network.passed += frame.events?.length ?? 0
      if (this.network.breakAfterEvents !== null && this.network.passed > this.network.breakAfterEvents) {
        this.network.breakAfterEvents = null
        this.disconnect(connection)
        return
      }
      connection.handlers.received(bytes)
    })
  }

  private disconnect(connection: Accepted): void {
    this.forget(connection)
    this.network.deliver(() => connection.handlers.closed())
  }

  private forget(connection: Accepted): void {
    this.accepted.delete(connection)
    connection.stop()
  }
}

/** Replicas and the way to them. Everything takes a millisecond, in order. */
export class FakeNetwork {
  readonly clock = new VirtualClock()
  readonly chat = new FakeChat()
  readonly replicas = new Map<string, FakeReplica>()
  /** How far the cluster's clock is ahead of the client's. */
  clockAheadMs = 0
  /** The connection over which event number so and so comes breaks instead. */
  breakAfterEvents: number | null = null
  passed = 0

  constructor(count: number) {
    for (let id = 1; id <= count; id += 1) {
      const replica = new FakeReplica(this, id)
      this.replicas.set(replica.address, replica)
    }
  }

  replica(id: number): FakeReplica {
    const replica = this.replicas.get(`r${id}:7400`)
    if (replica === undefined) throw new Error(`there is no r${id}`)
    return replica
  }

  get addresses(): readonly string[] {
    return [...this.replicas.keys()]
  }

  deliver(callback: () => void): void {
    this.clock.after(1, callback)
  }

  readonly connect: Connect = (address, handlers) => {
    const replica = this.replicas.get(address)
    if (replica !== undefined && replica.up) return replica.accept(handlers)
    this.deliver(() => handlers.closed())
    return { send() {}, close() {} }
  }
}

function error(reason: Reason, retryAfterMs = 0): Result {
  return { $case: 'error', value: WireError.create({ reason, retryAfterMs }) }
}
