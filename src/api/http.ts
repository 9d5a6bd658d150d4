import type { IncomingMessage, RequestListener, Server, ServerOptions, ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { Socket } from 'node:net'
import type { Logger } from '../base/logger.ts'
import type { Replica } from '../replica/types.ts'
import type { Metrics } from './metrics.ts'
import type { ServerTls } from './start.ts'
import { createStaticFiles } from './static-files.ts'
import type { WebSocketEntrance } from './websocket.ts'

// An import of this module would read all that it exports, and so load Node's own fetch and WebSocket client, which nobody here uses.
const { createServer } = process.getBuiltinModule('node:http')

export interface HttpOptions {
  readonly metrics: Metrics
  readonly webSockets: WebSocketEntrance
  readonly logger: Logger
  /** The built web app; it may be missing. */
  readonly webRoot: string
  /** How long a client may take to send its request. */
  readonly requestMs: number
  readonly tls: ServerTls | null
}

/** The HTTP port: health, metrics, the web app, and the way in for WebSockets at `/ws`. */
export function createHttpServer(
  replica: Replica,
  { metrics, webSockets, logger, webRoot, requestMs, tls }: HttpOptions,
): Server {
  const files = createStaticFiles(webRoot)

  function handle(request: IncomingMessage, response: ServerResponse): void {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return sendText(response, 405, 'only GET and HEAD are answered here\n', { allow: 'GET, HEAD' })
    }
    const path = pathOf(request)
    switch (path) {
      case null:
        return sendText(response, 400, 'the address is not valid\n')
      case '/livez':
        return sendText(response, 200, 'ok\n')
      case '/readyz': {
        const problem = notReady(replica)
        return problem === null ? sendText(response, 200, 'ok\n') : sendText(response, 503, `${problem}\n`)
      }
      case '/metrics':
        metrics.render().then(
          ({ type, text }) => {
            response.writeHead(200, { 'content-type': type })
            response.end(text)
          },
          (error: unknown) => {
            logger.error({ error }, 'the metrics could not be shown')
            sendText(response, 500, 'the metrics could not be shown\n')
          },
        )
        return
      case '/ws':
        return sendText(response, 426, 'this is for WebSockets\n', { upgrade: 'websocket' })
      default:
        files.serve(request, response, path, connectSources(request, replica)).catch((error: unknown) => {
          logger.error({ error }, 'a file could not be sent')
          response.destroy()
        })
    }
  }

  const bounds = {
    // Clients that send their request byte by byte, or never, do not hold a socket for long.
    headersTimeout: requestMs,
    requestTimeout: requestMs,
    connectionsCheckingInterval: Math.ceil(requestMs / 4),
    keepAliveTimeout: 10_000,
    maxHeaderSize: 16 * 1024,
    noDelay: true,
  }
  const server = tls === null ? createServer(bounds, handle) : secureServer(tls, bounds, requestMs, handle)
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    socket.on('error', () => undefined)
    if (pathOf(request) !== '/ws') return refuse(socket, 404, 'Not Found')
    if (!isOwnOrigin(request, replica)) return refuse(socket, 403, 'Forbidden')
    webSockets.upgrade(request, socket, head)
  })
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    // Nothing can be told to somebody with whom the handshake failed.
    if (socket.writable && error.code?.startsWith('ERR_SSL_') !== true)
      socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n')
    else socket.destroy()
  })
  return server
}

function secureServer(
  tls: ServerTls,
  bounds: ServerOptions,
  handshakeMs: number,
  handle: RequestListener,
): Server {
  const secrets = () => ({ cert: tls.current.certificate, key: tls.current.key })
  const server = createSecureServer({ ...bounds, ...secrets(), handshakeTimeout: handshakeMs }, handle)
  tls.onRenewed(() => server.setSecureContext(secrets()))
  // Node counts a connection when its handshake is through: one that never gets there would keep the port from closing.
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  const closeKnown = server.closeAllConnections.bind(server)
  server.closeAllConnections = () => {
    closeKnown()
    for (const socket of sockets) socket.destroy()
  }
  return server
}

/** Why clients should go elsewhere; null when they need not. */
export function notReady(replica: Replica): string | null {
  if (replica.state.draining) return 'draining: this replica is stopping'
  if (!replica.state.quorum) return 'no quorum: too few replicas can be reached, read-only'
  if (replica.state.hindered) return 'hindered: this replica has no room on its disk, or is catching up'
  return null
}

function pathOf(request: IncomingMessage): string | null {
  try {
    return decodeURIComponent(new URL(request.url ?? '/', 'http://replica').pathname)
  } catch {
    return null
  }
}

/**
 * Whether a browser that connects shows a page of this cluster. Programs send no origin. No cookie is ever used, so that a page from elsewhere could do nothing in
 * anybody's name; this keeps it from guessing passwords through its visitors.
 */
function isOwnOrigin(request: IncomingMessage, replica: Replica): boolean {
  const { origin, host } = request.headers
  if (origin === undefined) return true
  let page: URL
  try {
    page = new URL(origin)
  } catch {
    return false
  }
  const hostname = hostnameOf(host)
  return (
    page.host === host ||
    page.hostname === hostname ||
    // The names of this machine for itself are one place: a page from localhost fails over to 127.0.0.1.
    (isLoopback(page.hostname) && isLoopback(hostname)) ||
    replica.state.addresses.includes(page.host)
  )
}

function isLoopback(hostname: string | null): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.[0-9]{1,3}){3}$/.test(hostname ?? '')
}

function hostnameOf(host: string | undefined): string | null {
  try {
    return new URL(`http://${host ?? ''}`).hostname
  } catch {
    return null
  }
}

/** Where the web app may connect to: all replicas, and what else runs on the machine that it came from (the supervisor of a local cluster). */
function connectSources(request: IncomingMessage, replica: Replica): string {
  const hosts = new Set(replica.state.addresses)
  const hostname = hostnameOf(request.headers.host)
  if (hostname !== null) hosts.add(`${hostname}:*`)
  return [...hosts]
    .filter((host) => /^[A-Za-z0-9._:*[\]-]+$/.test(host))
    .flatMap((host) => [`ws://${host}`, `wss://${host}`, `http://${host}`, `https://${host}`])
    .join(' ')
}

function sendText(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...headers,
  })
  response.end(text)
}

function refuse(socket: Socket, status: number, text: string): void {
  // Node's HTTP server knows nothing of it any more, and the other side may never end it.
  socket.once('finish', () => socket.destroy())
  socket.end(`HTTP/1.1 ${status} ${text}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`)
}
