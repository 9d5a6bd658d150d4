import type { Clock } from '../base/clock.ts'
import type { Random } from '../base/random.ts'
import type { Request, Response } from '../gen/parley/v1/frames.ts'
import type { Account, Reason, Target } from '../gen/parley/v1/model.ts'
import type { Event, LogInResponse, RegisterResponse, SendMessageResponse } from '../gen/parley/v1/service.ts'
import type { ParleyError } from './error.ts'

/** An operation with its request. */
export type RequestOp = NonNullable<Request['op']>
type ResponseResult = NonNullable<Response['result']>

/** The name of an operation that {@link Client.call} can ask for: `sendMessage`, `listRooms`, … */
export type OperationName = Exclude<RequestOp['$case'], 'authenticate' | 'subscribe' | 'ping'>

/** The whole request of an operation, as it travels. */
export type RequestOf<N extends OperationName> = Extract<RequestOp, { readonly $case: N }>['value']

/** What an operation answers. */
export type ResponseOf<N extends OperationName> = Extract<ResponseResult, { readonly $case: N }>['value']

/** Fields that may be left out of a call: the idempotency id (the library chooses one), paging, and options that are off by default. */
type Omittable =
  | 'id'
  | 'token'
  | 'device'
  | 'pageSize'
  | 'pageToken'
  | 'beforeSeq'
  | 'afterSeq'
  | 'topic'
  | 'private'
  | 'forAll'
  | 'baseVersion'
interface AlsoOmittable {
  readonly openInbox: 'conversation'
  readonly searchMessages: 'conversation'
  readonly setPolicy: 'fields'
  readonly setRoomRetention: 'retentionS'
  readonly addReplica: 'replica'
  readonly transferLeadership: 'replica'
}
type OmittableOf<N extends OperationName> =
  Omittable | (N extends keyof AlsoOmittable ? AlsoOmittable[N] : never)

/** What a caller gives for an operation. */
export type InputOf<N extends OperationName> = {
  readonly [K in Exclude<keyof RequestOf<N>, OmittableOf<N>>]: NonNullable<RequestOf<N>[K]>
} & { readonly [K in Extract<keyof RequestOf<N>, OmittableOf<N>>]?: NonNullable<RequestOf<N>[K]> }

export interface CallOptions {
  /** The call fails when it has no answer after so long. Default 10,000; `Infinity` keeps trying for ever. */
  readonly timeoutMs?: number
  /**
   * How a read is answered; mutations ignore it. `linearizable`: what is true now, which needs a quorum. `local`: what the connected replica has, which
   * is never older than anything that this client has seen. `best`: linearizable while there is a quorum, local while there is none. Default: that of the client.
   */
  readonly read?: ReadKind
}

export type ReadKind = 'linearizable' | 'local' | 'best'

/** Called once: with null and the response, or with what went wrong and null. */
export type Done<N extends OperationName> = (
  error: ParleyError | null,
  response: ResponseOf<N> | null,
) => void

/** Where the client stands, in the words that people should see: {@link describeState}. */
export type ClientState =
  /** Not connected yet. */
  | { readonly kind: 'connecting' }
  /** Served by a replica that reaches a quorum. */
  | { readonly kind: 'connected'; readonly replica: number; readonly address: string }
  /** The connection was lost; another replica is being looked for. */
  | { readonly kind: 'reconnecting' }
  /** Connected to a replica, and none that can be reached has a quorum: reads work, `queued` messages wait in the outbox. */
  | {
      readonly kind: 'noQuorum'
      readonly replica: number
      readonly address: string
      readonly queued: number
      /** Replicas without which there will be no quorum; absent: none in particular. */
      readonly waitingFor?: readonly number[]
    }
  /** The session was ended by the server: NOT_SIGNED_IN (logged out or revoked), SESSION_EXPIRED or ACCOUNT_NOT_FOUND (deleted). */
  | { readonly kind: 'signedOut'; readonly reason: Reason }
  /** {@link Client.close} was called. */
  | { readonly kind: 'closed' }

/** A client of a cluster. Made by `createClient`. */
export interface Client {
  /**
   * Asks for an operation and waits for its answer. Fails over to other replicas, and retries with the same id, until the deadline.
   *
   * Calls that are open together are sent in order, and take effect in order unless a replica refuses one of them for a while. Where order must hold whatever
   * happens, wait for each, or use the outbox. Reads do not wait for writes that are refused for what concerns only writes, such as `REASON_NO_SPACE`.
   *
   * @throws ParleyError (as a rejected promise): a definite rejection, or that the deadline passed; then `outcome` says whether it may have taken effect.
   */
  call<N extends OperationName>(name: N, input: InputOf<N>, options?: CallOptions): Promise<ResponseOf<N>>
  /** {@link call} without a promise, for callers that make tens of thousands a second. `done` is never called before this returns. */
  request<N extends OperationName>(name: N, input: InputOf<N>, options: CallOptions, done: Done<N>): void

  /** Signs in, when nobody is signed in, and uses the session from now on. The response holds the token, which {@link ClientOptions.token} takes later. */
  logIn(input: {
    readonly name: string
    readonly password: string
    readonly device?: string
  }): Promise<LogInResponse>
  /** Makes an account and uses its session from now on, as {@link logIn}. */
  register(input: {
    readonly name: string
    readonly password: string
    readonly device?: string
  }): Promise<RegisterResponse>
  /** Ends the session, here and on the server. When no replica can be reached the session is forgotten here, and the error thrown. */
  logOut(): Promise<void>
  /** The account that is signed in, as the server told at the latest sign-in; null when nobody is, or while it is not known yet. */
  readonly account: Account | null
  /** The number of the session that is signed in; 0 when none is. */
  readonly session: number

  /**
   * Starts the event stream behind `cursor` (the `position` of a read, or of an event that was seen; 0 = from now on) and keeps it going across reconnects:
   * every event comes once, in order. A `resync` event says that events were missed for good: read anew. A second call replaces the first stream.
   * The result stops the stream.
   */
  subscribe(cursor: number, receive: (events: readonly Event[]) => void): () => void

  /** Messages to be sent, in order, whatever happens: see {@link Outbox}. */
  readonly outbox: Outbox

  readonly state: ClientState
  /** Calls `listener` at each change of {@link state}, not with the present one. The result stops it. */
  onState(listener: (state: ClientState) => void): () => void

  /** The highest position that this client has seen: local reads show at least what was so then. */
  readonly position: number
  /** Addresses of replicas that are known now. */
  readonly addresses: readonly string[]
  /** Milliseconds since 1970 as the cluster believes, or the own clock's before the first contact. */
  nowMs(): number
  /** A new UUIDv7 with the cluster's time: for drafts, and for mutations whose id the caller wants to know. */
  newId(): Uint8Array

  /** The network is back (the browser's `online` event): checks the connection, or connects, at once. */
  wake(): void
  /** Ends the connection and fails all open calls. Items of the outbox stay in their storage. */
  close(): void
}

export interface ClientOptions {
  /** One or more replicas ({@link ServerAddress} tells the forms), in order of preference for the first connection; the others are learned. */
  readonly addresses: readonly string[]
  /** The token of a session, 32 bytes. */
  readonly token?: Uint8Array
  /**
   * The {@link Client.position} of an earlier client of the same cluster, so that local reads show at least what that one had seen. Default 0. A position of another cluster, or of
   * a state that was lost, makes local reads wait in vain.
   */
  readonly position?: number
  /** Default for {@link CallOptions.timeoutMs}: 10,000. */
  readonly timeoutMs?: number
  /** Default for {@link CallOptions.read}: `linearizable`. */
  readonly read?: ReadKind
  /** Use replicas that the given ones tell of, and move away from one that has no quorum, is stopping, or takes no writes. Default true. */
  readonly discover?: boolean
  /** Where the outbox is kept. Default: in memory. It may be shared by accounts that sign in one after the other: each finds its own items. */
  readonly storage?: OutboxStorage
  /** Open calls, and characters of text in them, above which {@link Client.call} refuses with OVERLOADED. Defaults 65,536 and 64 Mi. */
  readonly maxOpenCalls?: number
  readonly maxOpenCharacters?: number
  /** Opens connections. Default: the global WebSocket, which cannot pin an authority. */
  readonly connect?: Connect
  readonly clock?: Clock
  /** Ids, tokens and back-off times come from it. Default: the cryptographic generator of the platform; replace it in simulations only. */
  readonly random?: Random
}

/** Opens a connection to a replica; returns at once, and tells `handlers` what happens, never before it has returned. */
export type Connect = (address: string, handlers: ConnectionHandlers) => Connection

export interface ConnectionHandlers {
  opened(): void
  /** One binary message. */
  received(bytes: Uint8Array): void
  /** The connection ended or could not be made. Called once; nothing follows. */
  closed(): void
}

export interface Connection {
  /** Sends one binary message; only between `opened` and `closed`. */
  send(bytes: Uint8Array<ArrayBuffer>): void
  /** Ends the connection. `closed` is called or not. */
  close(): void
}

/** An ordered queue of messages to be sent. Each is sent once, in the order of its conversation, however often connections break. */
export interface Outbox {
  /** What waits or has failed, oldest first. What another account than the one that is signed in has left stays in the storage, for that account. */
  readonly items: readonly OutboxItem[]
  /** Fulfilled when the items that the storage holds are in {@link items}. */
  readonly loaded: Promise<void>
  /** Queues a message. It is sent when the items before it for the same target have been. */
  add(to: Target, text: string): OutboxItem
  /** Queues a failed item again, at the end and with a new id. */
  retry(key: string): void
  /** Removes an item. Returns false when it may have been sent, or may still be: it was under way. */
  discard(key: string): boolean
  /** Calls `listener` at each change. The result stops it. */
  onChange(listener: (change: OutboxChange) => void): () => void
}

export interface OutboxItem {
  /** Names the item in the outbox; stays when it is retried. */
  readonly key: string
  /** The id of the message, by which the event that brings it back is recognised. */
  readonly id: Uint8Array
  readonly to: Target
  readonly text: string
  readonly queuedAtMs: number
  readonly status: OutboxStatus
}

export type OutboxStatus =
  | { readonly kind: 'pending' }
  /** Rejected for good, as it is. */
  | { readonly kind: 'failed'; readonly reason: Reason; readonly message: string }

export type OutboxChange =
  | { readonly kind: 'loaded' }
  /** Somebody has signed in or out: other items may be there than before. */
  | { readonly kind: 'accountChanged' }
  | { readonly kind: 'added' | 'retried' | 'discarded'; readonly item: OutboxItem }
  | { readonly kind: 'failed'; readonly item: OutboxItem }
  /** The item has left the outbox. */
  | { readonly kind: 'sent'; readonly item: OutboxItem; readonly response: SendMessageResponse }

/** An item as it is stored: plain JSON values. */
export interface StoredItem {
  readonly key: string
  /** Hexadecimal. */
  readonly id: string
  /** The account that queued it; 0 = not known then, so the one that signs in next. */
  readonly account: number
  readonly to: Target
  readonly text: string
  readonly queuedAtMs: number
  readonly failed: { readonly reason: Reason; readonly message: string } | null
}

/** Keeps the outbox across restarts. What goes wrong in it is its own to deal with: the outbox goes on without. */
export interface OutboxStorage {
  /** All items, in the order in which they were first put. Never rejects. */
  load(): Promise<readonly StoredItem[]>
  /** Keeps an item, in the place of one with the same key or at the end. */
  put(item: StoredItem): void
  remove(key: string): void
}
