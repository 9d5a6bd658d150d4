import { timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'
import type { IncomingMessage, Server } from 'node:http'
import { parseReplicaName } from '../base/ids.ts'
import type { ReplicaId } from '../base/ids.ts'

export type ControlAction = 'kill' | 'stop' | 'start'

export interface ControlOptions {
  /** Whoever knows it may end and start replicas: it is printed by `parley up` and told to nobody else. */
  readonly token: string
  /** host:port of the replicas of this moment: pages that they serve may ask. */
  readonly addresses: () => readonly string[]
  /** Does what was asked for; a returned text says why it cannot be done. */
  readonly act: (replica: ReplicaId, action: ControlAction) => string | null
}

const loopbackNames = new Set(['localhost', '127.0.0.1', '[::1]'])

/**
 * The door through which the cluster page of a local cluster kills, stops and starts replicas: `POST /replicas/r2/kill` with the token as bearer. It must listen on loopback
 * only. The caller listens and closes.
 */
export function createControl(options: ControlOptions): Server {
  return createServer(
    { requestTimeout: 5000, headersTimeout: 5000, maxHeaderSize: 8192 },
    (request, response) => {
      const origin = request.headers.origin
      const answer = (status: number, text: string) => {
        response.writeHead(status, {
          'content-type': 'text/plain; charset=utf-8',
          ...(origin !== undefined && isOwnPage(origin, options.addresses())
            ? { 'access-control-allow-origin': origin }
            : {}),
          'access-control-allow-methods': 'POST',
          'access-control-allow-headers': 'authorization',
          vary: 'origin',
        })
        response.end(`${text}\n`)
      }
      // Another name for this machine would let a page from elsewhere in (DNS rebinding).
      if (!isLoopback(`http://${request.headers.host ?? ''}`)) return answer(403, 'only for this machine')
      if (request.method === 'OPTIONS') return answer(204, '')
      if (request.method !== 'POST') return answer(405, 'POST only')
      if (!hasToken(request, options.token))
        return answer(401, 'the token is missing or wrong: open the address that "parley up" printed')
      const match = /^\/replicas\/(r[0-9]{1,9})\/(kill|stop|start)$/.exec(request.url ?? '')
      const replica = parseReplicaName(match?.[1] ?? '')
      if (match === null || replica === null) return answer(404, 'POST /replicas/rN/kill, stop or start')
      const problem = options.act(replica, match[2] as ControlAction)
      return problem === null ? answer(200, 'done') : answer(409, problem)
    },
  )
}

function isOwnPage(origin: string, addresses: readonly string[]): boolean {
  const port = URL.parse(origin)?.port ?? ''
  return (
    isLoopback(origin) && addresses.some((address) => address.slice(address.lastIndexOf(':') + 1) === port)
  )
}

function isLoopback(url: string): boolean {
  return loopbackNames.has(URL.parse(url)?.hostname ?? '')
}

function hasToken(request: IncomingMessage, token: string): boolean {
  const given = Buffer.from(request.headers.authorization ?? '')
  const wanted = Buffer.from(`Bearer ${token}`)
  return given.length === wanted.length && timingSafeEqual(given, wanted)
}
