import type { Socket } from 'node:net'
import { MalformedError } from '../base/bytes.ts'
import { replicaName, type ReplicaId } from '../base/ids.ts'
import { closeWith, type Objection, type Proof, type Refusal } from './context.ts'
import {
  decodeFrame,
  encodeFrame,
  FrameSplitter,
  maxFrameBytes,
  maxGreetingBytes,
  oldestVersion,
  versionOfFrame,
  type Frame,
  type RefusalCode,
} from './frames.ts'

/** What an incoming link needs of its owner. */
export interface IncomingOwner {
  readonly self: ReplicaId
  readonly greetingMs: number
  /** The answer to a greeting. */
  greet(hello: Frame & { kind: 'hello' }): Greeted
  /** The link can be heard. */
  opened(link: IncomingLink): void
  frame(frame: Frame): void
  /** The process that dialled has told its number; what is wrong with that, or null. */
  started(peer: ReplicaId, number: number): Objection | null
  /** What the wall clock of `peer` showed when it sent this. */
  clock(peer: ReplicaId, wallMs: number): void
  refused(refusal: Refusal): void
  closed(link: IncomingLink): void
}

export type Greeted =
  | { readonly ok: true; readonly welcome: Frame & { kind: 'welcome' } }
  | { readonly ok: false; readonly code: RefusalCode; readonly reason: string }

/** A connection that another replica dialled: what it sends comes in here. */
export class IncomingLink {
  private readonly owner: IncomingOwner
  private readonly socket: Socket
  private readonly proof: Proof
  private readonly splitter = new FrameSplitter(maxGreetingBytes)
  private timer: NodeJS.Timeout | null
  private from: ReplicaId = 0
  /** That both ends speak, once they have greeted. */
  private version = oldestVersion
  private lastHeardMs = performance.now()
  private open = true

  constructor(owner: IncomingOwner, socket: Socket, proof: Proof) {
    this.owner = owner
    this.socket = socket
    this.proof = proof
    this.timer = setTimeout(() => this.cut(), owner.greetingMs)
    socket.setNoDelay(true)
    socket.setKeepAlive(true, 10_000)
    socket.on('data', (bytes) => {
      if (typeof bytes !== 'string') this.take(bytes)
    })
    socket.on('error', () => {})
    socket.once('end', () => socket.end())
    socket.once('close', () => this.cut())
  }

  /** Who dialled; 0 = has not said so yet. */
  get peer(): ReplicaId {
    return this.from
  }

  /** How long ago something came in. */
  get silentMs(): number {
    return performance.now() - this.lastHeardMs
  }

  refuse(code: RefusalCode, reason: string): void {
    if (!this.open) return
    this.owner.refused({ peer: this.from, by: 'self', code, reason })
    this.end(encodeFrame({ kind: 'refused', code, reason }))
  }

  cut(): void {
    if (!this.open) return
    this.end(null)
  }

  private end(lastWords: readonly Uint8Array[] | null): void {
    this.open = false
    if (this.timer !== null) clearTimeout(this.timer)
    if (lastWords === null) this.socket.destroy()
    else closeWith(this.socket, lastWords)
    this.owner.closed(this)
  }

  private take(bytes: Uint8Array): void {
    this.lastHeardMs = performance.now()
    try {
      this.splitter.push(bytes, (frame) => {
        this.takeFrame(decodeFrame(frame))
        return this.open
      })
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error
      this.refuse('malformed', error.message)
    }
  }

  private takeFrame(frame: Frame): void {
    const version = versionOfFrame(frame)
    if (version > this.version)
      throw new MalformedError(`a frame of version ${version} on a link of version ${this.version}`)
    switch (frame.kind) {
      case 'hello': {
        if (this.from !== 0) throw new MalformedError('a second hello')
        const { proof } = this
        if (proof.kind === 'replica' && proof.replica !== frame.from) {
          const reason = `a replica that calls itself ${replicaName(frame.from)} has the certificate of ${replicaName(proof.replica)}`
          this.refuse('certificate', reason)
          return
        }
        const greeted = this.owner.greet(frame)
        this.from = frame.from
        if (!greeted.ok) {
          this.refuse(greeted.code, greeted.reason)
          return
        }
        if (this.timer !== null) clearTimeout(this.timer)
        this.timer = null
        this.version = greeted.welcome.version
        this.splitter.maxBytes = maxFrameBytes
        this.write(greeted.welcome)
        this.owner.opened(this)
        return
      }
      case 'start': {
        this.expect(this.from !== 0)
        const objection = this.owner.started(this.from, frame.number)
        if (objection !== null) this.refuse(objection.code, objection.reason)
        return
      }
      case 'ping':
        this.expect(this.from !== 0)
        this.owner.clock(this.from, frame.sentMs)
        this.write({ kind: 'pong', sentMs: frame.sentMs })
        return
      case 'message':
        this.expectAddressed(frame.message)
        this.owner.frame(frame)
        return
      case 'chunk':
        this.expectAddressed(frame.chunk)
        this.owner.frame(frame)
        return
      case 'chunkReply':
        this.expectAddressed(frame.reply)
        this.owner.frame(frame)
        return
      case 'refused': {
        const { from, proof, owner } = this
        // Who dialled may have found the certificate here wrong, and not have greeted. But a stranger that has shown none must not be able to end this replica.
        const peer = from === 0 && proof.kind === 'replica' ? proof.replica : from
        this.expect(peer !== 0)
        owner.refused({ peer, by: 'peer', code: frame.code, reason: frame.reason })
        return
      }
      default:
        throw new MalformedError(`${frame.kind} has no place here`)
    }
  }

  private expectAddressed({ from, to }: { readonly from: ReplicaId; readonly to: ReplicaId }): void {
    this.expect(this.from !== 0 && from === this.from && to === this.owner.self)
  }

  private expect(right: boolean): void {
    if (!right) throw new MalformedError('a frame does not belong on this link')
  }

  private write(frame: Frame): void {
    // A peer that sends probes and never reads the answers gets no more of them, so that they cannot pile up.
    if (this.socket.writableNeedDrain) return
    for (const part of encodeFrame(frame)) this.socket.write(part)
  }
}
