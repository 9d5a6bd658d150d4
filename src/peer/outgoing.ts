import type { Socket } from 'node:net'
import { MalformedError } from '../base/bytes.ts'
import { replicaName, type ReplicaId } from '../base/ids.ts'
import type { Logger } from '../base/logger.ts'
import type { Random } from '../base/random.ts'
import {
  closeWith,
  formatEndpoint,
  type Endpoint,
  type LinkTiming,
  type Objection,
  type Proof,
  type Refusal,
  type Sockets,
} from './context.ts'
import {
  decodeFrame,
  encodeFrame,
  FrameSplitter,
  maxFrameBytes,
  versionOfFrame,
  type Frame,
  type RefusalCode,
} from './frames.ts'

/** What an outgoing link needs of its owner. */
export interface OutgoingOwner {
  readonly logger: Logger
  readonly random: Random
  readonly timing: LinkTiming
  readonly sockets: Sockets
  readonly maxQueuedBytes: number
  wallMs(): number
  hello(to: ReplicaId): Frame
  /** The other side speaks this version with us. Throws when it was not offered. */
  speaks(peer: ReplicaId, version: number): void
  admit(peer: ReplicaId, incarnation: number): Objection | null
  /** Tells this process from every other one of the same replica. */
  readonly startNumber: number
  refused(refusal: Refusal): void
  /** Whoever answers at `endpoint` is of this incarnation. */
  welcomed(peer: ReplicaId, incarnation: number, endpoint: Endpoint): void
  up(peer: ReplicaId): void
  down(peer: ReplicaId, evidence: 'died' | 'silent'): void
  /** The newest incarnation that is known to have listened at `endpoint`; 0 = none. */
  incarnationAt(peer: ReplicaId, endpoint: Endpoint): number
  /** At an attempt to reach that incarnation nobody listened where it did, or nothing was heard. */
  unreached(peer: ReplicaId, incarnation: number, how: 'nobodyListens' | 'silence'): void
}

/** Errors that the other machine's system sends when the process is gone. All others may come from a broken network. */
const deathCodes = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE'])

/**
 * The connection that this replica dials to another one, and sends on. It is dialled again and again until it is closed. Of what the other side sends here only
 * the answers to probes are awaited: its messages come on the connection that it dialled itself.
 */
export class OutgoingLink {
  readonly peer: ReplicaId
  /** In microseconds; 0 = not measured yet. */
  roundTripUs = 0

  private readonly owner: OutgoingOwner
  private endpoint: Endpoint
  private socket: Socket | null = null
  private state: 'waiting' | 'greeting' | 'up' | 'closed' = 'waiting'
  /** What the owner was told last. */
  private told: 'nothing' | 'up' | 'died' | 'silent' = 'nothing'
  private timer: NodeJS.Timeout | null = null
  private attempts = 0
  /** That both ends speak, once they have greeted. */
  private version = 0
  private lastUpMs = Number.NEGATIVE_INFINITY
  private refusedByPeer = false
  private corked = false
  private chunks: (readonly Uint8Array[])[] = []
  /** By the wall clock, which is what the probe says, and by the one that measures. */
  private pingWallMs = 0
  private pingSentMs = 0
  private unansweredPings = 0
  /** The incarnation that the present connection is with, or was begun to look for. */
  private sought = 0
  /** Where the present connection was last tried: a name may lead to several addresses, which are tried one after another. */
  private triedAddress = ''
  /** Who greeted last, and where. */
  private greeted = { incarnation: 0, address: '' }

  constructor(owner: OutgoingOwner, peer: ReplicaId, endpoint: Endpoint) {
    this.owner = owner
    this.peer = peer
    this.endpoint = endpoint
    this.dial()
  }

  get isUp(): boolean {
    return this.state === 'up'
  }

  /** Never blocks; what does not fit goes nowhere, as does what the other side could not read since it came with a later version. */
  sendFrame(frame: Frame): void {
    if (this.state === 'up' && versionOfFrame(frame) <= this.version) this.send(encodeFrame(frame))
  }

  /** As `sendFrame`, but waits until the messages before it have left. */
  sendChunk(parts: readonly Uint8Array[]): void {
    if (this.state !== 'up') return
    this.chunks.push(parts)
    this.sendChunks()
  }

  /** The other side has just been heard: no need to wait any longer. */
  dialNow(): void {
    if (this.state !== 'waiting') return
    this.attempts = 0
    this.dial()
  }

  moveTo(endpoint: Endpoint): void {
    if (endpoint.host === this.endpoint.host && endpoint.port === this.endpoint.port) return
    this.endpoint = endpoint
    this.greeted = { incarnation: 0, address: '' }
    if (this.state === 'closed') return
    this.drop('silent')
    this.dialNow()
  }

  /** Called every `pingMs`, after what came in meanwhile has been handled: so a stall of this process counts as one probe at most. */
  probe(): void {
    if (this.state !== 'up') return
    if (this.unansweredPings >= this.owner.timing.silentAfterPings) {
      this.fallSilent()
      return
    }
    this.unansweredPings += 1
    this.pingWallMs = this.owner.wallMs()
    this.pingSentMs = performance.now()
    this.sendFrame({ kind: 'ping', sentMs: this.pingWallMs })
  }

  /** Tells the other side that it is not wanted, and closes. */
  refuse(code: RefusalCode, reason: string): void {
    const { socket } = this
    this.socket = null
    this.close()
    if (socket === null) return
    // Who has not greeted yet would not be believed.
    if (socket.connecting) socket.destroy()
    else closeWith(socket, encodeFrame({ kind: 'refused', code, reason }))
  }

  /** Lets what was sent leave, and ends. */
  close(): void {
    this.state = 'closed'
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
    this.chunks = []
    const { socket } = this
    this.socket = null
    if (socket !== null) closeWith(socket, [])
  }

  private send(parts: readonly Uint8Array[]): void {
    const { socket } = this
    if (this.state !== 'up' || socket === null) return
    if (socket.writableLength > this.owner.maxQueuedBytes) {
      this.owner.logger.warn(
        { peer: replicaName(this.peer), queuedBytes: socket.writableLength },
        'a peer link cannot keep up and is cut',
      )
      this.drop('silent')
      return
    }
    // All that is sent within one turn of the event loop leaves with one system call.
    if (!this.corked) {
      this.corked = true
      socket.cork()
      process.nextTick(() => {
        if (this.socket === socket) this.corked = false
        socket.uncork()
      })
    }
    for (const part of parts) socket.write(part)
  }

  private dial(): void {
    if (this.timer !== null) clearTimeout(this.timer)
    this.state = 'greeting'
    this.refusedByPeer = false
    this.corked = false
    this.chunks = []
    // As of now: one that starts later may find the port free in between.
    this.sought = this.owner.incarnationAt(this.peer, this.endpoint)
    const socket = this.owner.sockets.connect(this.endpoint, (proof) => {
      if (this.socket === socket) this.connected(socket, proof)
    })
    this.socket = socket
    this.timer = setTimeout(() => this.fallSilent(), this.owner.timing.greetingMs)
    this.triedAddress = ''
    socket.on('connectionAttempt', (address) => {
      if (this.socket === socket) this.triedAddress = address
    })
    let failure: NodeJS.ErrnoException | null = null
    socket.setNoDelay(true)
    socket.setKeepAlive(true, 10_000)
    const splitter = new FrameSplitter(maxFrameBytes)
    socket.on('data', (bytes) => {
      if (this.socket !== socket || typeof bytes === 'string') return
      this.unansweredPings = 0
      try {
        splitter.push(bytes, (frame) => {
          this.take(decodeFrame(frame))
          return this.socket === socket
        })
      } catch (error) {
        if (!(error instanceof MalformedError)) throw error
        this.turnAway('malformed', error.message)
      }
    })
    socket.on('drain', () => {
      if (this.socket === socket) this.sendChunks()
    })
    socket.once('error', (error) => {
      failure = error
    })
    socket.once('close', () => {
      if (this.socket !== socket) return
      if (this.refusedByPeer) this.drop('silent')
      else if (this.provesDeath(failure)) this.dropDead(this.nobodyListens(failure))
      else this.fallSilent()
    })
  }

  /** A connection that ends is a good reason to look; that nobody listens any more is the proof. */
  private dropDead(nobodyListens: boolean): void {
    this.drop('died')
    if (nobodyListens) this.owner.unreached(this.peer, this.sought, 'nobodyListens')
  }

  private fallSilent(): void {
    this.drop('silent')
    this.owner.unreached(this.peer, this.sought, 'silence')
  }

  private connected(socket: Socket, proof: Proof): void {
    if (proof.kind === 'refused') {
      this.turnAway('certificate', proof.reason)
      return
    }
    if (proof.kind === 'replica' && proof.replica !== this.peer) {
      const reason = `${replicaName(this.peer)} is looked for at ${formatEndpoint(this.endpoint)}, and whoever answers there has the certificate of ${replicaName(proof.replica)}: check the addresses`
      this.turnAway('certificate', reason)
      return
    }
    for (const part of encodeFrame(this.owner.hello(this.peer))) socket.write(part)
  }

  /** Whoever has not greeted may have closed the connection for another reason than its end: then only a port on which nobody listens tells. */
  private provesDeath(failure: NodeJS.ErrnoException | null): boolean {
    if (this.state !== 'up') return this.nobodyListens(failure)
    return failure === null || (failure.code !== undefined && deathCodes.has(failure.code))
  }

  /**
   * That one of several addresses refuses says nothing of who listens at another one, which perhaps could not be reached. (The code of the error as a whole is that of the
   * first address.)
   */
  private nobodyListens(failure: NodeJS.ErrnoException | null): boolean {
    const failures: readonly { readonly code?: string; readonly address?: string }[] =
      failure instanceof AggregateError ? failure.errors : failure === null ? [] : [failure]
    const refused = failures.filter(({ code }) => code === 'ECONNREFUSED')
    const { incarnation, address } = this.greeted
    if (address !== '' && incarnation === this.sought) return refused.some((one) => one.address === address)
    return failures.length > 0 && refused.length === failures.length
  }

  private take(frame: Frame): void {
    switch (frame.kind) {
      case 'welcome':
        this.welcomed(frame)
        return
      case 'pong':
        if (frame.sentMs === this.pingWallMs)
          this.roundTripUs = Math.max(1, Math.round((performance.now() - this.pingSentMs) * 1000))
        return
      case 'refused':
        this.refusedByPeer = true
        this.owner.refused({ peer: this.peer, by: 'peer', code: frame.code, reason: frame.reason })
        return
      default:
        throw new MalformedError(`${frame.kind} has no place in an answer`)
    }
  }

  private welcomed({ version, incarnation }: Frame & { kind: 'welcome' }): void {
    if (this.state !== 'greeting') throw new MalformedError('a second welcome')
    this.owner.speaks(this.peer, version)
    const objection = this.owner.admit(this.peer, incarnation)
    if (objection !== null) {
      this.turnAway(objection.code, objection.reason)
      return
    }
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
    this.state = 'up'
    this.version = version
    this.attempts = 0
    this.unansweredPings = 0
    this.told = 'up'
    this.sendFrame({ kind: 'start', number: this.owner.startNumber })
    this.sought = incarnation
    this.greeted = { incarnation, address: this.triedAddress }
    this.owner.welcomed(this.peer, incarnation, this.endpoint)
    this.owner.up(this.peer)
    this.probe()
  }

  /** Refuses the other side for now, and tries again later. */
  private turnAway(code: RefusalCode, reason: string): void {
    const { socket } = this
    if (socket === null) return
    this.owner.refused({ peer: this.peer, by: 'self', code, reason })
    this.refusedByPeer = true
    this.drop('silent', encodeFrame({ kind: 'refused', code, reason }))
  }

  private drop(evidence: 'died' | 'silent', lastWords: readonly Uint8Array[] | null = null): void {
    const { socket } = this
    const now = performance.now()
    if (this.state === 'up') this.lastUpMs = now
    this.state = 'waiting'
    this.socket = null
    this.chunks = []
    if (socket !== null) {
      if (lastWords === null) socket.destroy()
      else closeWith(socket, lastWords)
    }
    const { dialFirstMs, dialMostMs, dialRefusedMostMs, latelyMs } = this.owner.timing
    const lately = evidence === 'died' && now - this.lastUpMs < latelyMs
    const most = lately ? dialRefusedMostMs : dialMostMs
    const step = this.refusedByPeer ? most : Math.min(most, dialFirstMs * 2 ** Math.min(this.attempts, 20))
    this.attempts += 1
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = setTimeout(() => this.dial(), step / 2 + this.owner.random.below(Math.ceil(step / 2) + 1))
    const news =
      this.told === 'up' || this.told === 'nothing' || (this.told === 'silent' && evidence === 'died')
    if (!news) return
    this.told = evidence
    this.owner.down(this.peer, evidence)
  }

  private sendChunks(): void {
    const { socket } = this
    if (this.state !== 'up' || socket === null) return
    while (!socket.writableNeedDrain) {
      const parts = this.chunks.shift()
      if (parts === undefined) return
      this.send(parts)
    }
  }
}
