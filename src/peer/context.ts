import type { Socket, Server } from 'node:net'
import type { ReplicaId } from '../base/ids.ts'
import type { Logger } from '../base/logger.ts'
import type { Random } from '../base/random.ts'
import type { RefusalCode } from './frames.ts'

export interface Endpoint {
  readonly host: string
  readonly port: number
}

/** Where connections come from: TCP as it is, or with TLS under it. */
export interface Sockets {
  /** `ready` is called when the socket can carry frames (with TLS: after its handshake). */
  connect(endpoint: Endpoint, ready: (proof: Proof) => void): Socket
  /** `accepted` is called with each socket that can carry frames. */
  createServer(accepted: (socket: Socket, proof: Proof) => void): Server
}

/** What the other side of a connection has proved about itself before the greeting. */
export type Proof =
  /** Nothing: what it says of itself is believed. */
  | { readonly kind: 'none' }
  /** That it is this replica of the cluster, and no other. */
  | { readonly kind: 'replica'; readonly replica: ReplicaId }
  /** That it must not be talked with. `reason` is for people. */
  | { readonly kind: 'refused'; readonly reason: string }

export interface Refusal {
  /** The other replica; 0 when it did not get as far as saying who it is. */
  readonly peer: ReplicaId
  /** Who refused whom. */
  readonly by: 'self' | 'peer'
  readonly code: RefusalCode
  readonly reason: string
}

/** Why a replica may not take part; `reason` is for people and says what to do. */
export interface Objection {
  readonly code: RefusalCode
  readonly reason: string
}

export interface LinkTiming {
  /** Each link is probed, and its round trip measured, so often. Default 750 ms. */
  readonly pingMs: number
  /** A link is silent when nothing came back for so many probes. Default 2. */
  readonly silentAfterPings: number
  /** A greeting that takes longer is given up. Default 2,000 ms. */
  readonly greetingMs: number
  /** The first and the longest wait between two attempts to dial. Default 10 and 1,000 ms. */
  readonly dialFirstMs: number
  readonly dialMostMs: number
  /** The longest wait while a replica that was up lately refuses connections: that costs next to nothing and finds it again at once. Default 100 ms. */
  readonly dialRefusedMostMs: number
  /** How long ago is lately. Default 60,000 ms. */
  readonly latelyMs: number
  /** A process that was heard within so long is taken to be alive when another one says that it is the same replica. Default 1,000 ms. */
  readonly aliveMs: number
}

export const defaultTiming: LinkTiming = {
  pingMs: 750,
  silentAfterPings: 2,
  greetingMs: 2000,
  dialFirstMs: 10,
  dialMostMs: 1000,
  dialRefusedMostMs: 100,
  latelyMs: 60_000,
  aliveMs: 1000,
}

export interface PeerLinksOptions {
  readonly self: ReplicaId
  /** Replicas of other clusters are refused. */
  readonly clusterId: Uint8Array
  /** How often this replica has started; raised durably before the links start. */
  readonly incarnation: number
  /** Port 0: any that is free. */
  readonly listen: Endpoint
  /** The address that other replicas are told to answer to, in the form of the configuration's addresses. Default: where it listens. */
  readonly address?: string
  /** Where the peer link of a replica with such an address listens; null when there is none in it. Default: the address is `host:port`. */
  readonly endpointOf?: (address: string) => Endpoint | null
  readonly random: Random
  readonly logger: Logger
  /** One of the two replicas refuses the other. Told once as long as nothing changes; that one runs already, which may pass, at each attempt. */
  readonly onRefused: (refusal: Refusal) => void
  /** Whether this incarnation of `peer` may take part: null, or why not. */
  readonly admit: (peer: ReplicaId, incarnation: number) => Objection | null
  /** The network never parts the replicas, so one that is silent is dead. Default: only that nobody listens where it did proves that. */
  readonly trustTimeouts?: boolean
  /** Most bytes that wait on one link; one that falls further behind is cut. Default 64 MiB. */
  readonly maxQueuedBytes?: number
  readonly timing?: Partial<LinkTiming>
  /** The wall clock that the others are told of, in milliseconds since 1970. Default: the machine's. */
  readonly wallMs?: () => number
  readonly sockets?: Sockets
  /** The version that the cluster uses: replicas that do not know it are refused. Default: the oldest one. */
  readonly versionInUse?: () => number
  /** The newest version that this replica speaks; default: that of src/base/version.ts. */
  readonly newestVersion?: number
}

/** `host:port` or `[v6]:port`; null when `address` is neither. */
export function parseEndpoint(address: string): Endpoint | null {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):([0-9]{1,5})$/.exec(address)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  return host === undefined || port < 1 || port > 65_535 ? null : { host, port }
}

export function formatEndpoint({ host, port }: Endpoint): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** Sends the last words and closes; a peer that does not read them cannot hold the socket. */
export function closeWith(socket: Socket, parts: readonly Uint8Array[]): void {
  // What still comes is read and thrown away: closing with unread input would reset the connection and destroy the last words.
  socket.removeAllListeners('data')
  socket.resume()
  for (const part of parts) socket.write(part)
  socket.end()
  const timer = setTimeout(() => socket.destroy(), 500)
  socket.once('close', () => clearTimeout(timer))
}
