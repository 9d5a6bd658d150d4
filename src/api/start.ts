import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import type { Clock } from '../base/clock.ts'
import type { Logger } from '../base/logger.ts'
import type { Passwords } from '../replica/passwords.ts'
import type { Replica } from '../replica/types.ts'
import { createGrpcEntrance } from './grpc.ts'
import { createHttpServer, notReady } from './http.ts'
import { createMetrics } from './metrics.ts'
import { createService, type JoinDesk } from './service.ts'
import { createWebSocketEntrance, defaultLimits, type ConnectionLimits } from './websocket.ts'

export interface Api {
  readonly httpPort: number
  readonly grpcPort: number
  /**
   * Tells all clients to go elsewhere, waits until what they asked for is answered, at most `drainMs`, and closes all connections and both ports.
   */
  close(drainMs: number): Promise<void>
}

export interface ApiOptions {
  /** Port 0 takes a free one. */
  readonly http: { readonly host: string; readonly port: number }
  readonly grpc: { readonly host: string; readonly port: number }
  readonly passwords: Passwords
  readonly clock: Clock
  readonly logger: Logger
  readonly version: string
  /** 32 bytes: whoever authenticates with them may do what administrators may. Null: nobody can. */
  readonly operatorToken?: Uint8Array | null
  /** Where new replicas are let in. Default: nowhere. */
  readonly join?: JoinDesk | null
  /** The folder of the built web app; it may be missing. */
  readonly webRoot: string
  readonly limits?: Partial<ConnectionLimits>
  /** Both ports speak TLS with this certificate. Default: plain text. */
  readonly tls?: ServerTls | null
  /** How long the certificates of the replica are still good; null = it has none. */
  readonly certificateLeftMs?: () => number | null
}

/** A certificate with its key, and those of its issuers behind it: PEM. */
export interface ServerTls {
  readonly current: { readonly certificate: string; readonly key: string }
  /** Calls `listener` each time after another one has taken its place. */
  onRenewed(listener: () => void): void
}

/**
 * Opens the ways in.
 *
 * @throws the system's error when a port cannot be listened on (`code` EADDRINUSE, EACCES, …).
 */
export async function startApi(replica: Replica, options: ApiOptions): Promise<Api> {
  const { http, grpc, passwords, clock, logger, version, webRoot } = options
  const limits = { ...defaultLimits, ...options.limits }
  const tls = options.tls ?? null
  let isClosing = false
  const metrics = createMetrics(replica)
  const service = createService(replica, {
    passwords,
    clock,
    logger,
    operatorToken: options.operatorToken ?? null,
    join: options.join ?? null,
    version,
  })
  const webSockets = createWebSocketEntrance({
    service,
    metrics,
    clock,
    limits,
    state: () => ({
      replica: replica.state.self,
      clusterId: replica.state.clusterId,
      quorum: replica.state.quorum,
      waitingFor: replica.state.quorum ? [] : [...replica.state.waitingFor],
      draining: replica.state.draining || isClosing,
      hindered: replica.state.hindered,
      nowMs: replica.nowMs,
      addresses: replica.state.addresses,
      leader: replica.state.leader,
      version,
    }),
  })
  const leftMs = options.certificateLeftMs ?? (() => null)
  if (leftMs() !== null)
    metrics.gauge(
      'parley_certificate_seconds',
      'Seconds until the certificate ends that ends first; below 0 when it is over.',
      () => (leftMs() ?? 0) / 1000,
    )
  metrics.gauge('parley_websocket_connections', 'Open WebSocket connections.', () => webSockets.connections)
  metrics.gauge(
    'parley_waiting_bytes',
    'Bytes that wait for clients to read them.',
    () => webSockets.waitingBytes,
  )
  const httpServer = createHttpServer(replica, {
    metrics,
    webSockets,
    logger,
    webRoot,
    requestMs: limits.requestMs,
    tls,
  })
  const grpcEntrance = createGrpcEntrance({
    service,
    metrics,
    clock,
    maxMessageBytes: limits.maxFrameBytes,
    slowMs: limits.slowMs,
    tls,
  })
  metrics.gauge('parley_grpc_streams', 'Open gRPC event streams.', () => grpcEntrance.streams)
  metrics.gauge(
    'parley_grpc_streams_stopped',
    'gRPC event streams that their clients do not read fast enough.',
    () => grpcEntrance.stoppedStreams,
  )
  httpServer.listen({ ...http, backlog })
  await once(httpServer, 'listening')
  const grpcPort = await grpcEntrance.listen(grpc).catch((error: unknown) => {
    httpServer.close()
    throw error
  })

  const tellState = () => {
    webSockets.stateChanged()
    grpcEntrance.setServing(!isClosing && notReady(replica) === null)
  }
  const stopListening = replica.onStateChange(tellState)
  tellState()

  return {
    httpPort: portOf(httpServer.address()),
    grpcPort,
    async close(drainMs) {
      isClosing = true
      stopListening()
      const closed = once(httpServer, 'close')
      httpServer.close()
      tellState()
      await untilIdle(() => webSockets.openRequests + grpcEntrance.openRequests === 0, drainMs, clock)
      await webSockets.close()
      await grpcEntrance.close()
      httpServer.closeAllConnections()
      await closed
    },
  }
}

/**
 * Connections that the system completes and keeps while this process is busy. When a replica dies all its clients come at once; what finds no room here is dropped in silence, and tried again by
 * the client's system only after one, three, seven seconds. The system has a limit of its own too (4096 on Linux).
 */
const backlog = 4096

const pollMs = 20

function untilIdle(isIdle: () => boolean, atMostMs: number, clock: Clock): Promise<void> {
  const endMs = clock.monotonicMs() + atMostMs
  return new Promise((resolve) => {
    const look = () => {
      if (isIdle() || clock.monotonicMs() >= endMs) resolve()
      else clock.after(pollMs, look)
    }
    look()
  })
}

function portOf(address: AddressInfo | string | null): number {
  return address === null || typeof address === 'string' ? 0 : address.port
}
