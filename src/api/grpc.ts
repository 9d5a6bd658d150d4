import { once } from 'node:events'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { BinaryReader } from '@bufbuild/protobuf/wire'
import {
  Metadata,
  Server,
  ServerCredentials,
  experimental,
  type status as codes,
  type ServiceDefinition,
  type ServerUnaryCall,
  type ServerWritableStream,
  type StatusObject,
  type UntypedServiceImplementation,
  type sendUnaryData,
} from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { ReflectionService } from '@grpc/reflection'
import { HealthImplementation } from 'grpc-health-check'
import { encode } from '../base/encode.ts'
import type { Clock } from '../base/clock.ts'
import { Reason, type Error as ApiError } from '../gen/parley/v1/model.ts'
import { ParleyDefinition, type MessageFns, type SubscribeRequest } from '../gen/parley/v1/service.ts'
import type { Receiver, Subscription } from '../replica/types.ts'
import { defaultTimeoutMs, failed, type Call, type Caller, type Op, type Result } from './calls.ts'
import { invalid, makeError, meanings, statusDetails } from './errors.ts'
import { LargeTurns, mayBeLarge } from './large-turns.ts'
import type { Metrics } from './metrics.ts'
import type { Service } from './service.ts'
import type { ServerTls } from './start.ts'
import { strictUtf8 } from './text.ts'

export interface GrpcEntrance {
  /** @throws when the port cannot be listened on. */
  listen(address: { readonly host: string; readonly port: number }): Promise<number>
  /** What the health service tells. */
  setServing(isServing: boolean): void
  readonly streams: number
  /** Streams that their clients do not read fast enough. */
  readonly stoppedStreams: number
  /** Calls that were taken in and not answered yet, streams left out. */
  readonly openRequests: number
  /** Ends the streams, telling them to go elsewhere, and closes the port and all connections. */
  close(): Promise<void>
}

export interface GrpcOptions {
  readonly service: Service
  readonly metrics: Metrics
  readonly clock: Clock
  readonly maxMessageBytes: number
  /** A client that does not read its event stream for so long is cut off. */
  readonly slowMs: number
  readonly tls: ServerTls | null
}

const serviceName = ParleyDefinition.fullName
type MethodName = keyof typeof ParleyDefinition.methods
/** Stands for a request that could not be decoded: the handler refuses it. */
const malformed = Symbol('malformed')

export function createGrpcEntrance(options: GrpcOptions): GrpcEntrance {
  const { service, metrics, clock, maxMessageBytes, slowMs, tls } = options
  const server = new Server({
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': -1,
    'grpc.max_concurrent_streams': 10_000,
    // Megabytes of one connection: above it no new calls are taken from it, so that a client that reads no answers cannot pile them up.
    'grpc-node.max_session_memory': 64,
    // A client that is gone without a word is noticed.
    'grpc.keepalive_time_ms': 30_000,
    'grpc.keepalive_timeout_ms': 20_000,
    'grpc.keepalive_permit_without_calls': 1,
    'grpc.min_time_between_pings_ms': 10_000,
  })
  let openRequests = 0
  const streams = new Set<EventStream>()
  /** Calls that wait for their turn, of each connection. */
  const waiting = new Map<string, (() => void)[]>()
  const turns = new LargeTurns<string>(clock, beginWaiting)

  function beginInTurn(peer: string, op: Op, begin: () => void): void {
    const queue = waiting.get(peer)
    if (!mayBeLarge(op)) begin()
    else if (queue !== undefined) queue.push(begin)
    else if (turns.take(peer)) begin()
    else waiting.set(peer, [begin])
  }

  function beginWaiting(peer: string): void {
    const queue = waiting.get(peer) ?? []
    while (queue.length > 0) {
      if (!turns.take(peer)) return
      queue.shift()?.()
    }
    waiting.delete(peer)
  }

  function callerOf(metadata: Metadata, peer: string): Caller & { readonly token: Uint8Array | null } {
    const [authorization] = metadata.get('authorization')
    const match = /^Bearer ([A-Za-z0-9_-]+={0,2})$/i.exec(String(authorization ?? ''))
    return {
      signedIn: null,
      isOperator: false,
      address: peer.replace(/:\d+$/, ''),
      token:
        authorization === undefined
          ? null
          : match === null
            ? new Uint8Array(0)
            : Buffer.from(match[1] ?? '', 'base64url'),
    }
  }

  /** Signs the caller in with the token that it sent; one without a token goes on as nobody. */
  function signIn(
    metadata: Metadata,
    peer: string,
    timeoutMs: number,
    done: (caller: Caller, failure: Result | null) => void,
  ): void {
    const caller = callerOf(metadata, peer)
    if (caller.token === null) return done(caller, null)
    service.authenticate(caller, caller.token, timeoutMs, (failure) => done(caller, failure))
  }

  function answerUnary(
    method: MethodName,
    call: ServerUnaryCall<unknown, unknown>,
    callback: sendUnaryData<unknown>,
  ): void {
    const beganMs = clock.monotonicMs()
    if (call.request === malformed) return callback(statusOf(notDecoded))
    // The definition gives the request its type: only the pairing with its own name is beyond the compiler.
    const op = { $case: method, value: call.request } as Op
    openRequests += 1
    const answer = (result: Result, position: number): void => {
      openRequests -= 1
      metrics.answered(op.$case, result, clock.monotonicMs() - beganMs)
      if (result.$case === 'error') return callback(statusOf(result.value))
      const trailer = new Metadata()
      if (position > 0) trailer.set('parley-position', String(position))
      callback(null, result.value, trailer)
    }
    const peer = call.getPeer()
    beginInTurn(peer, op, () => {
      const timeoutMs = timeLeftMs(call.getDeadline(), clock)
      // Whoever has gone meanwhile needs no answer; this one costs least.
      if (timeoutMs <= 0 || call.cancelled) return answer(failed(makeError(Reason.DEADLINE_EXCEEDED)), 0)
      signIn(call.metadata, peer, timeoutMs, (caller, failure) => {
        if (failure !== null) return answer(failure, 0)
        service.call(caller, { timeoutMs, ...readOptions(call.metadata), op }, answer)
      })
    })
  }

  function answerSubscribe(
    call: ServerWritableStream<SubscribeRequest | typeof malformed, Uint8Array>,
  ): void {
    const { request } = call
    const fail = (error: ApiError): void => {
      call.emit('error', statusOf(error))
    }
    if (request === malformed) return fail(notDecoded)
    let isOver = false
    call.on('cancelled', () => {
      isOver = true
    })
    signIn(call.metadata, call.getPeer(), timeLeftMs(call.getDeadline(), clock), (caller, failure) => {
      if (isOver) return
      if (failure?.$case === 'error') return fail(failure.value)
      let stream: EventStream | null = null
      stream = openStream(
        call,
        clock,
        slowMs,
        (receiver) => service.subscribe(caller, request.cursor, receiver),
        () => {
          if (stream !== null) streams.delete(stream)
        },
      )
      if (stream === null) return fail(makeError(Reason.NOT_SIGNED_IN))
      streams.add(stream)
    })
  }

  const handlers: UntypedServiceImplementation = {}
  for (const method of Object.keys(ParleyDefinition.methods).filter(isMethodName)) {
    handlers[method] =
      method === 'subscribe'
        ? answerSubscribe
        : (call: ServerUnaryCall<unknown, unknown>, callback: sendUnaryData<unknown>) =>
            answerUnary(method, call, callback)
  }
  server.addService(serviceDefinition(), handlers)
  const health = new HealthImplementation({ '': 'NOT_SERVING', [serviceName]: 'NOT_SERVING' })
  health.addToServer(server)
  new ReflectionService(describedServices()).addToServer(server)

  return {
    async listen({ host, port }) {
      // grpc-js tells why it cannot listen in words only: a server of the system's own fails with the code first.
      const probe = createServer().listen({ host, port })
      await once(probe, 'listening')
      probe.close()
      await once(probe, 'close')
      return new Promise((resolve, reject) => {
        const address = `${host.includes(':') ? `[${host}]` : host}:${port}`
        const credentials = tls === null ? ServerCredentials.createInsecure() : secureCredentials(tls)
        server.bindAsync(address, credentials, (error, boundPort) => {
          if (error === null) resolve(boundPort)
          else reject(error)
        })
      })
    },
    setServing(isServing) {
      const word = isServing ? 'SERVING' : 'NOT_SERVING'
      health.setStatus('', word)
      health.setStatus(serviceName, word)
    },
    get streams() {
      return streams.size
    },
    get stoppedStreams() {
      let count = 0
      for (const stream of streams) if (stream.isStopped) count += 1
      return count
    },
    get openRequests() {
      return openRequests
    },
    async close() {
      for (const stream of streams) stream.end(makeError(Reason.DRAINING))
      await new Promise<void>((resolve) => {
        server.tryShutdown(() => resolve())
        // Clients keep their connections open for as long as they may: the answers that are due have left with this turn.
        clock.after(100, () => {
          server.forceShutdown()
          // One that never gets through its handshake is unknown to grpc-js: it ends with the process.
          clock.after(100, resolve)
        })
      })
    },
  }
}

/** Credentials that change without a restart. */
function secureCredentials(tls: ServerTls): ServerCredentials {
  const listeners = new Set<(update: CertificateUpdate) => void>()
  const present = (): CertificateUpdate => ({
    certificate: Buffer.from(tls.current.certificate),
    privateKey: Buffer.from(tls.current.key),
  })
  tls.onRenewed(() => {
    for (const listener of listeners) listener(present())
  })
  const provider = {
    addIdentityCertificateListener(listener: (update: CertificateUpdate) => void) {
      listeners.add(listener)
      // Not before this has returned: grpc-js would not hear it yet.
      queueMicrotask(() => listener(present()))
    },
    removeIdentityCertificateListener: (listener: (update: CertificateUpdate) => void) =>
      void listeners.delete(listener),
    // Clients prove themselves by their sessions.
    addCaCertificateListener() {},
    removeCaCertificateListener() {},
  }
  // The names of this function's parameters are mixed up in grpc-js: the first is the server's own certificate, the second the authority of clients.
  return experimental.createCertificateProviderServerCredentials(provider, null, false)
}

interface CertificateUpdate {
  readonly certificate: Buffer
  readonly privateKey: Buffer
}

interface EventStream {
  /** The client has not read what it was sent. */
  readonly isStopped: boolean
  end(error: ApiError): void
}

/** Opens an event stream; null when nobody is signed in. A client that does not read makes `events` return false: nothing piles up here. */
function openStream(
  call: ServerWritableStream<unknown, Uint8Array>,
  clock: Clock,
  slowMs: number,
  subscribe: (receiver: Receiver) => Subscription | null,
  onOver: () => void,
): EventStream | null {
  let isOver = false
  let cancelSlow: (() => void) | null = null
  let subscription: Subscription | null = null
  const stop = (): void => {
    isOver = true
    cancelSlow?.()
    subscription?.close()
    onOver()
  }
  const end = (error: ApiError): void => {
    if (isOver) return
    stop()
    call.emit('error', statusOf(error))
  }
  subscription = subscribe({
    events(encoded) {
      if (isOver) return true
      let hasRoom = true
      for (const event of encoded) hasRoom = call.write(event)
      if (!hasRoom) cancelSlow ??= clock.after(slowMs, () => end(makeError(Reason.SLOW_RECEIVER)))
      return hasRoom
    },
    ended() {
      end(makeError(Reason.NOT_SIGNED_IN))
    },
  })
  if (subscription === null) return null
  if (isOver) subscription.close()
  // The client sees that its stream is open before the first event.
  call.sendMetadata(new Metadata())
  call.on('drain', () => {
    cancelSlow?.()
    cancelSlow = null
    if (!isOver) subscription?.resume()
  })
  call.on('cancelled', stop)
  call.on('close', stop)
  return {
    get isStopped() {
      return cancelSlow !== null
    },
    end,
  }
}

/** The service as grpc-js wants it, made from the generated definition. */
function serviceDefinition(): ServiceDefinition {
  return Object.fromEntries(
    Object.entries(ParleyDefinition.methods).map(([key, method]) => {
      // Each method has its own pair of types; here they only pass through.
      const request = method.requestType as unknown as MessageFns<unknown>
      const response = method.responseType as unknown as MessageFns<unknown>
      return [
        key,
        {
          path: `/${serviceName}/${method.name}`,
          requestStream: method.requestStream,
          responseStream: method.responseStream,
          requestSerialize: (value: unknown) => Buffer.from(request.encode(value).finish()),
          requestDeserialize(bytes: Buffer): unknown {
            try {
              return request.decode(new BinaryReader(bytes, strictUtf8))
            } catch {
              return malformed
            }
          },
          // Events come encoded from the replica, once for all who get them.
          responseSerialize: method.responseStream
            ? (value: Uint8Array) => asBuffer(value)
            : (value: unknown) => asBuffer(encode(response, value)),
          responseDeserialize: (bytes: Buffer) => response.decode(bytes),
        },
      ]
    }),
  )
}

function isMethodName(name: string): name is MethodName {
  return Object.hasOwn(ParleyDefinition.methods, name)
}

/** What reflection tells: Parley, the health service, and the details of errors. */
function describedServices(): ReturnType<typeof loadSync> {
  const includeDirs = ['../../proto', './described'].map((path) =>
    fileURLToPath(new URL(path, import.meta.url)),
  )
  return loadSync(
    ['parley/v1/service.proto', 'grpc/health/v1/health.proto', 'google/rpc/error_details.proto'],
    { includeDirs },
  )
}

/** `parley-read: local` and `parley-min-position: N`. */
function readOptions(metadata: Metadata): Pick<Call, 'local' | 'minPosition'> {
  const [minPosition] = metadata.get('parley-min-position')
  const position = /^\d{1,15}$/.test(String(minPosition)) ? Number(minPosition) : 0
  return { local: metadata.get('parley-read')[0] === 'local' || position > 0, minPosition: position }
}

/** The default when the client set no deadline. */
function timeLeftMs(deadline: Date | number, clock: Clock): number {
  const atMs = typeof deadline === 'number' ? deadline : deadline.getTime()
  return Number.isFinite(atMs) ? atMs - clock.wallMs() : defaultTimeoutMs
}

function statusOf(error: ApiError): Partial<StatusObject> & { readonly code: codes } {
  const metadata = new Metadata()
  metadata.set('grpc-status-details-bin', asBuffer(statusDetails(error)))
  return { code: meanings[error.reason].code, details: error.message, metadata }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

const notDecoded = invalid([{ field: '', description: 'the request is not a message of parley.v1' }])
