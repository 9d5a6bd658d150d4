import { connect, createServer, type Server, type Socket } from 'node:net'
import { assert } from '../base/assert.ts'
import { equalBytes, MalformedError } from '../base/bytes.ts'
import { replicaName, type ReplicaId } from '../base/ids.ts'
import { newestVersion } from '../base/version.ts'
import type { SnapshotChunk, SnapshotChunkReply, Transport, TransportHandler } from '../log/transport.ts'
import type { Message } from '../raft/types.ts'
import {
  defaultTiming,
  formatEndpoint,
  parseEndpoint,
  type Endpoint,
  type LinkTiming,
  type PeerLinksOptions,
  type Objection,
  type Proof,
  type Refusal,
  type Sockets,
} from './context.ts'
import { encodeFrame, oldestVersion, type Frame } from './frames.ts'
import { IncomingLink, type Greeted, type IncomingOwner } from './incoming.ts'
import { OutgoingLink, type OutgoingOwner } from './outgoing.ts'

export type { Objection, Endpoint, LinkTiming, PeerLinksOptions, Refusal, Sockets } from './context.ts'
export { formatEndpoint, parseEndpoint } from './context.ts'

/** Connections that have not said yet who they are; more are cut at once. */
const maxStrangers = 64

/** All connections, with those whose TLS handshake is not over: of them nothing is known yet, and each takes memory. */
const maxConnections = 512

/** A clock that shows an earlier time was never set: a machine without a battery starts in 1970. */
const neverSetMs = Date.UTC(2020)

interface KnownProcess {
  readonly incarnation: number
  /** What it drew at its start; null: it has not said. */
  readonly number: number | null
}

/** The objection to a replica that has started fewer times than is known of it. */
export function staleStart(peer: ReplicaId, incarnation: number, known: number): Objection {
  const name = replicaName(peer)
  const reason = `${name} has started ${known} times, and who says now that it is ${name} has done so ${incarnation} times only: its folder is an old copy, or was made anew. ${wayOut(name)}`
  return { code: 'incarnation', reason }
}

function wayOut(name: string): string {
  return `A replica that forgot what it promised must not take part. Put the newest folder back; or, if that is lost: parley replica replace ${name}`
}

/** TCP as it is. */
const plainSockets: Sockets = {
  connect({ host, port }, ready) {
    const socket = connect({ host, port, noDelay: true })
    socket.once('connect', () => ready({ kind: 'none' }))
    return socket
  },
  createServer: (accepted) => createServer({ noDelay: true }, (socket) => accepted(socket, { kind: 'none' })),
}

/** The links over TCP: each replica dials every other one and sends on what it dialled, so that each direction is one connection of its own. */
export class PeerLinks implements Transport {
  private readonly options: PeerLinksOptions
  private readonly timing: LinkTiming
  private readonly server: Server
  private readonly outgoing = new Map<ReplicaId, OutgoingLink>()
  /** The newest connection of each replica. */
  private readonly incoming = new Map<ReplicaId, IncomingLink>()
  private readonly strangers = new Set<IncomingLink>()
  private readonly shutOuts = new Map<ReplicaId, Objection>()
  /** The newest process of each replica that was heard of. */
  private readonly processes = new Map<ReplicaId, KnownProcess>()
  /** Where the replica set says that each replica is found. */
  private readonly configured = new Map<ReplicaId, string>()
  /** Where each replica said that it is found; the replica set follows. */
  private readonly told = new Map<ReplicaId, Endpoint>()
  private readonly lastRefusals = new Map<ReplicaId, string>()
  /** By how much the wall clock of each replica was ahead of this process's own measure of time when it told of it. */
  private readonly clocks = new Map<ReplicaId, number>()
  /** The newest incarnation of each replica that is known, and where it listens. */
  private readonly incarnations = new Map<
    ReplicaId,
    { readonly incarnation: number; readonly endpoint: Endpoint | null }
  >()
  /** The newest version of each replica that greeted since the start, as far as this one knows versions. */
  private readonly versions = new Map<ReplicaId, number>()
  private members = new Map<ReplicaId, Endpoint>()
  private handler: TransportHandler | null = null
  private address = ''
  private probeTimer: NodeJS.Timeout | null = null
  private stopped = false
  private readonly outgoingOwner: OutgoingOwner
  private readonly incomingOwner: IncomingOwner

  constructor(options: PeerLinksOptions) {
    this.options = options
    this.timing = { ...defaultTiming, ...options.timing }
    const sockets = options.sockets ?? plainSockets
    this.server = sockets.createServer((socket, proof) => this.accept(socket, proof))
    this.server.maxConnections = maxConnections
    this.outgoingOwner = {
      logger: options.logger,
      random: options.random,
      timing: this.timing,
      sockets,
      maxQueuedBytes: options.maxQueuedBytes ?? 64 * 1024 * 1024,
      wallMs: () => Math.max(0, Math.floor((options.wallMs ?? Date.now)())),
      hello: (to) => this.hello(to),
      speaks: (peer, version) => {
        const { oldest, newest } = this.spoken()
        if (version < oldest || version > newest)
          throw new MalformedError(`version ${version} was not offered`)
        this.versions.set(peer, version)
      },
      admit: options.admit,
      startNumber: options.random.below(2 ** 32),
      refused: (refusal) => this.refused(refusal),
      up: (peer) => this.up(peer),
      down: (peer, evidence) => this.down(peer, evidence),
      welcomed: (peer, incarnation, endpoint) => this.met(peer, incarnation, endpoint),
      incarnationAt: (peer, endpoint) => this.incarnationAt(peer, endpoint),
      unreached: (peer, incarnation, how) => this.unreached(peer, incarnation, how),
    }
    this.incomingOwner = {
      self: options.self,
      greetingMs: this.timing.greetingMs,
      greet: (hello) => this.greet(hello),
      started: (peer, number) => this.started(peer, number),
      opened: (link) => this.opened(link),
      frame: (frame) => this.frame(frame),
      clock: (peer, wallMs) => this.clock(peer, wallMs),
      refused: (refusal) => this.refused(refusal),
      closed: (link) => this.closed(link),
    }
  }

  /** The port that it listens on, once started. */
  get port(): number {
    const address = this.server.address()
    assert(address !== null && typeof address === 'object', 'the peer links are not listening')
    return address.port
  }

  async start(handler: TransportHandler): Promise<void> {
    this.handler = handler
    const { listen } = this.options
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject)
      this.server.listen(listen.port, listen.host, () => {
        this.server.off('error', reject)
        resolve()
      })
    })
    this.server.on('error', (error) =>
      this.options.logger.error({ error: error.message }, 'the peer links accept nobody for now'),
    )
    this.address = this.options.address ?? formatEndpoint({ host: listen.host, port: this.port })
    for (const [peer, endpoint] of this.members) this.link(peer, endpoint)
    this.scheduleProbe()
  }

  send(message: Message): void {
    this.outgoing.get(message.to)?.sendFrame({ kind: 'message', message })
  }

  sendChunk(chunk: SnapshotChunk): void {
    const link = this.outgoing.get(chunk.to)
    if (link?.isUp === true) link.sendChunk(encodeFrame({ kind: 'chunk', chunk }))
  }

  sendChunkReply(reply: SnapshotChunkReply): void {
    this.outgoing.get(reply.to)?.sendFrame({ kind: 'chunkReply', reply })
  }

  setPeers(peers: readonly { readonly id: ReplicaId; readonly address: string }[]): void {
    const members = new Map<ReplicaId, Endpoint>()
    for (const { id, address } of peers) {
      // What the replica itself said holds until the replica set says something new.
      if (this.configured.get(id) !== address) {
        if (this.configured.has(id)) this.told.delete(id)
        this.configured.set(id, address)
      }
      const endpoint = this.told.get(id) ?? this.endpointOf(address)
      if (endpoint === null)
        this.options.logger.error(
          { peer: replicaName(id), address },
          'the address of a replica makes no sense',
        )
      else if (id !== this.options.self) members.set(id, endpoint)
    }
    this.members = members
    if (this.handler === null || this.stopped) return
    for (const [peer, endpoint] of members) this.link(peer, endpoint)
    for (const [peer, link] of this.outgoing)
      if (!members.has(peer) && !this.incoming.has(peer)) this.unlink(peer, link)
  }

  shutOut(peer: ReplicaId, code: 'regressed' | 'removed' | 'diverged', reason: string): void {
    this.shutOuts.set(peer, { code, reason })
    // Who was removed is mostly gone by then, and is no problem before it comes back.
    if (code !== 'removed') this.refused({ peer, by: 'self', code, reason })
    this.incoming.get(peer)?.refuse(code, reason)
    const link = this.outgoing.get(peer)
    if (link === undefined) return
    this.outgoing.delete(peer)
    const wasUp = link.isUp
    link.refuse(code, reason)
    if (wasUp) this.down(peer, 'silent')
  }

  isUp(peer: ReplicaId): boolean {
    return this.outgoing.get(peer)?.isUp === true
  }

  roundTripUs(peer: ReplicaId): number {
    return this.outgoing.get(peer)?.roundTripUs ?? 0
  }

  version(peer: ReplicaId): number {
    const { self, newestVersion: newest = newestVersion } = this.options
    if (peer === self) return newest
    if (this.handler === null) return 0
    const { oldest } = this.spoken()
    const greeted = this.versions.get(peer) ?? 0
    // One that does not know the version that the cluster uses can be no part of it.
    return oldest > oldestVersion ? Math.max(oldest, greeted) : greeted
  }

  clockMs(peer: ReplicaId): number | null {
    const aheadMs = this.clocks.get(peer)
    return aheadMs === undefined ? null : aheadMs + performance.now()
  }

  async stop(): Promise<void> {
    if (this.stopped) return
    this.stopped = true
    if (this.probeTimer !== null) clearTimeout(this.probeTimer)
    for (const link of this.outgoing.values()) link.close()
    for (const link of [...this.incoming.values(), ...this.strangers]) link.cut()
    if (this.handler === null) return
    await new Promise<void>((resolve) => {
      this.server.close(() => resolve())
    })
  }

  private accept(socket: Socket, proof: Proof): void {
    if (this.stopped || this.strangers.size >= maxStrangers) {
      socket.on('error', () => {})
      socket.destroy()
      return
    }
    const link = new IncomingLink(this.incomingOwner, socket, proof)
    this.strangers.add(link)
    if (proof.kind === 'refused') link.refuse('certificate', proof.reason)
  }

  private hello(to: ReplicaId): Frame {
    const { clusterId, self, incarnation } = this.options
    const { oldest, newest } = this.spoken()
    return {
      kind: 'hello',
      oldestVersion: oldest,
      newestVersion: newest,
      clusterId,
      from: self,
      to,
      incarnation,
      address: this.address,
    }
  }

  private greet(hello: Frame & { kind: 'hello' }): Greeted {
    const { self, clusterId, incarnation } = this.options
    const { oldest, newest } = this.spoken()
    const version = Math.min(hello.newestVersion, newest)
    if (version < Math.max(hello.oldestVersion, oldest))
      return {
        ok: false,
        code: 'version',
        reason: `${replicaName(self)} speaks versions ${oldest} to ${newest} of the peer protocol, ${replicaName(hello.from)} ${hello.oldestVersion} to ${hello.newestVersion}: start the older one with a later version of Parley`,
      }
    if (!equalBytes(hello.clusterId, clusterId))
      return {
        ok: false,
        code: 'otherCluster',
        reason: `${replicaName(hello.from)} belongs to another cluster than ${replicaName(self)}, and one of them has the address of the other: put the right data folder in its place, or start it at an address of its own with parley serve --peer HOST:PORT`,
      }
    if (hello.to !== self)
      return {
        ok: false,
        code: 'otherReplica',
        reason: `${replicaName(hello.from)} looks for ${replicaName(hello.to)} here, but this is ${replicaName(self)}: check the addresses`,
      }
    if (hello.from === self || hello.from === 0)
      return {
        ok: false,
        code: 'otherReplica',
        reason: `a replica that calls itself ${replicaName(hello.from)} dialled ${replicaName(self)}`,
      }
    const shutOut = this.shutOuts.get(hello.from)
    const objection =
      shutOut ??
      this.options.admit(hello.from, hello.incarnation) ??
      this.objectionTo(hello.from, hello.incarnation)
    if (objection !== null) return { ok: false, ...objection }
    if (hello.incarnation !== this.processes.get(hello.from)?.incarnation)
      this.processes.set(hello.from, { incarnation: hello.incarnation, number: null })
    const endpoint = this.endpointOf(hello.address)
    // A replica that this one does not know yet may be a new member, or lead this one: it must get answers. A member may have moved; it knows best where to.
    if (endpoint !== null) {
      this.told.set(hello.from, endpoint)
      this.link(hello.from, endpoint)
    }
    this.met(hello.from, hello.incarnation, endpoint)
    this.versions.set(hello.from, version)
    return { ok: true, welcome: { kind: 'welcome', version, incarnation } }
  }

  private met(peer: ReplicaId, incarnation: number, endpoint: Endpoint | null): void {
    const known = this.incarnations.get(peer)
    if (known === undefined || incarnation >= known.incarnation)
      this.incarnations.set(peer, { incarnation, endpoint })
    this.handler?.incarnation(peer, incarnation, true)
  }

  /** A replica that has moved is not dead because nobody listens where it was, or where the replica set still says that it is: only what it said itself counts. */
  private incarnationAt(peer: ReplicaId, endpoint: Endpoint): number {
    const known = this.incarnations.get(peer)
    return known !== undefined && known.endpoint !== null && isSame(known.endpoint, endpoint)
      ? known.incarnation
      : 0
  }

  private unreached(peer: ReplicaId, incarnation: number, how: 'nobodyListens' | 'silence'): void {
    if (this.stopped || incarnation === 0) return
    if (how === 'nobodyListens' || this.options.trustTimeouts === true)
      this.handler?.incarnation(peer, incarnation, false)
  }

  /** An old copy of a replica's folder, or one that runs beside the replica, must not pass for it. */
  private objectionTo(peer: ReplicaId, incarnation: number): Objection | null {
    const known = this.processes.get(peer)
    const name = replicaName(peer)
    if (known === undefined || incarnation === known.incarnation) return null
    if (incarnation < known.incarnation) return staleStart(peer, incarnation, known.incarnation)
    const present = this.incoming.get(peer)
    if (present === undefined || present.silentMs > this.timing.aliveMs) return null
    const reason = `${name} runs already, as another process, perhaps on another machine: stop that one first. Two copies of one folder must never run`
    return { code: 'runsAlready', reason }
  }

  private started(peer: ReplicaId, number: number): Objection | null {
    const known = this.processes.get(peer)
    if (known === undefined) return null
    const name = replicaName(peer)
    if (known.number !== null && known.number !== number) {
      const reason = `two processes say that they are start ${known.incarnation} of ${name}: one of them runs on a copy of the other's folder. ${wayOut(name)}`
      return { code: 'incarnation', reason }
    }
    this.processes.set(peer, { ...known, number })
    return null
  }

  /** The versions that this replica speaks now: none that is older than what the cluster uses by now. */
  private spoken(): { readonly oldest: number; readonly newest: number } {
    const { versionInUse, newestVersion: newest = newestVersion } = this.options
    return { oldest: Math.max(oldestVersion, versionInUse?.() ?? 0), newest }
  }

  private opened(link: IncomingLink): void {
    this.strangers.delete(link)
    this.incoming.get(link.peer)?.cut()
    this.incoming.set(link.peer, link)
    this.outgoing.get(link.peer)?.dialNow()
  }

  private closed(link: IncomingLink): void {
    this.strangers.delete(link)
    if (this.incoming.get(link.peer) !== link) return
    this.incoming.delete(link.peer)
    const outgoing = this.outgoing.get(link.peer)
    if (outgoing === undefined || this.stopped) return
    if (this.members.has(link.peer)) outgoing.dialNow()
    else if (!outgoing.isUp) this.unlink(link.peer, outgoing)
  }

  private frame(frame: Frame): void {
    if (this.stopped || this.handler === null) return
    if (frame.kind === 'message') this.handler.message(frame.message)
    else if (frame.kind === 'chunk') this.handler.chunk(frame.chunk)
    else if (frame.kind === 'chunkReply') this.handler.chunkReply(frame.reply)
  }

  private clock(peer: ReplicaId, wallMs: number): void {
    if (wallMs < neverSetMs) this.clocks.delete(peer)
    else this.clocks.set(peer, wallMs - performance.now())
  }

  private refused(refusal: Refusal): void {
    const { peer, by, code, reason } = refusal
    const words = `${by} ${code} ${reason}`
    const isNew = this.lastRefusals.get(peer) !== words
    this.lastRefusals.set(peer, words)
    if (isNew)
      this.options.logger.warn({ peer: replicaName(peer), by, code, reason }, 'a peer link was refused')
    if (isNew || code === 'runsAlready') this.options.onRefused(refusal)
  }

  private up(peer: ReplicaId): void {
    this.lastRefusals.delete(peer)
    this.options.logger.info({ peer: replicaName(peer) }, 'a peer link is up')
    this.handler?.up(peer)
  }

  private down(peer: ReplicaId, evidence: 'died' | 'silent'): void {
    if (this.stopped) return
    this.options.logger.info({ peer: replicaName(peer), evidence }, 'a peer link is down')
    this.handler?.down(peer, evidence)
    // Who is no member and has gone is not dialled again: it dials when it comes back.
    const link = this.outgoing.get(peer)
    if (link !== undefined && !this.members.has(peer) && !this.incoming.has(peer)) this.unlink(peer, link)
  }

  private link(peer: ReplicaId, endpoint: Endpoint): void {
    if (this.shutOuts.has(peer)) return
    const present = this.outgoing.get(peer)
    if (present === undefined) this.outgoing.set(peer, new OutgoingLink(this.outgoingOwner, peer, endpoint))
    else present.moveTo(endpoint)
  }

  private unlink(peer: ReplicaId, link: OutgoingLink): void {
    const wasUp = link.isUp
    this.outgoing.delete(peer)
    link.close()
    if (wasUp) this.down(peer, 'silent')
  }

  private endpointOf(address: string): Endpoint | null {
    return (this.options.endpointOf ?? parseEndpoint)(address)
  }

  private scheduleProbe(): void {
    this.probeTimer = setTimeout(() => {
      // After the input that waits: what came in during a stall of this process must not count as silence.
      setImmediate(() => {
        if (this.stopped) return
        for (const link of this.outgoing.values()) link.probe()
        this.scheduleProbe()
      })
    }, this.timing.pingMs)
  }
}

export function createPeerLinks(options: PeerLinksOptions): PeerLinks {
  return new PeerLinks(options)
}

function isSame(a: Endpoint, b: Endpoint): boolean {
  return a.host === b.host && a.port === b.port
}
