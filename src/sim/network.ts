import type { Clock } from '../base/clock.ts'
import type { ReplicaId } from '../base/ids.ts'
import type { Random } from '../base/random.ts'
import type { Transport, TransportHandler } from '../log/transport.ts'
import {
  decodeFrame,
  encodeFrame,
  FrameSplitter,
  maxFrameBytes,
  versionOfFrame,
  type Frame,
} from '../peer/frames.ts'
import { skewed } from './faults.ts'
import type { Owner, Scheduler } from './scheduler.ts'
import { hashBytes, type Trace } from './trace.ts'

/** The links between the replicas of a cluster. */
export interface SimNetwork {
  /** The transport of a process of a replica. `onShutOut`: another process tells this one why it may not take part; other refusals are the peer link's business and not simulated. */
  attach(
    self: ReplicaId,
    process: Owner,
    clock: Clock,
    run: { readonly incarnation: number; readonly newestVersion: number },
    onShutOut: (by: ReplicaId, why: ShutOutCode, reason: string) => void,
  ): Transport
  /** How messages from one replica to another fare; the faults change it. */
  condition(from: ReplicaId, to: ReplicaId): LinkCondition
  /** Whether both believe that they have a link. */
  hear(a: ReplicaId, b: ReplicaId): boolean
  /** `at` dials `peer`, which lives, and is told that nobody listens there. */
  refuseFalsely(at: ReplicaId, peer: ReplicaId): void
  /** The process ended. `told`: the machine still runs and closes its sockets. */
  processDied(replica: ReplicaId, told: boolean): void
  /** Some of what was sent to a replica comes to it once more, as far as the links that it came over are still there. */
  echo(to: ReplicaId): void
  readonly counts: NetworkCounts
}

export interface LinkCondition {
  /** Nothing gets through in this direction. */
  blocked: boolean
  delayMs: number
  jitterMs: number
  /** Of a million messages so many get lost, come twice, or come out of turn. */
  lossPpm: number
  duplicatePpm: number
  reorderPpm: number
  bytesPerMs: number
}

export interface NetworkCounts {
  delivered: number
  lost: number
  duplicated: number
  reordered: number
  linksBroken: number
}

type ShutOutCode = Parameters<Transport['shutOut']>[1]

interface Endpoint {
  readonly self: ReplicaId
  readonly process: Owner
  readonly clock: Clock
  handler: TransportHandler | null
  peers: ReadonlySet<ReplicaId>
  /** Whom this process keeps away, and how it tells them. */
  readonly shutOut: Map<ReplicaId, (peer: Endpoint) => void>
  readonly onShutOut: (by: ReplicaId, why: ShutOutCode, reason: string) => void
  /** What this side believes of its links. */
  readonly links: Map<ReplicaId, LinkState>
  /** Which process each link that is up leads to. */
  readonly connectedTo: Map<ReplicaId, Endpoint>
  readonly incarnation: number
  readonly newestVersion: number
  /** The newest version of each replica that has greeted this process. */
  readonly versions: Map<ReplicaId, number>
  /** The newest incarnation of each replica that has greeted this process. */
  readonly greeted: Map<ReplicaId, number>
  /** Those of them that were taken for dead since: they greet again. */
  readonly doubted: Set<ReplicaId>
}

type LinkState = 'up' | 'died' | 'silent'

/** One direction of a link. */
interface Direction {
  readonly condition: LinkCondition
  lastArrivalMs: number
  busyUntilMs: number
  /** What was sent last, oldest first. */
  readonly sent: Sent[]
}

interface Sent {
  readonly from: Endpoint
  readonly frame: Frame
  readonly bytes: Uint8Array
  readonly sentMs: number
  readonly urgent: boolean
  readonly epoch: number
}

/** So much of what was sent may come again in an echo. */
const mostEchoed = 100

const retryMs = 100
/** After so much silence a link counts as broken. */
const silenceMs = 600
const mostWaitingMs = 3000

export function createSimNetwork(options: {
  readonly scheduler: Scheduler
  readonly random: Random
  readonly trace: Trace
  readonly defaults: () => LinkCondition
  /** What every replica knows at least. */
  readonly oldestVersion: number
  /** Silence counts as proof of death. */
  readonly trustTimeouts: boolean
  /** Sees every message that is sent, before anything can happen to it. */
  readonly onSend: (frame: Frame, from: ReplicaId, to: ReplicaId) => void
}): SimNetwork {
  const { scheduler, random, trace } = options
  const endpoints = new Map<ReplicaId, Endpoint>()
  const directions = new Map<number, Direction>()
  /** Raised when a link breaks: what was on its way is lost. */
  const epochs = new Map<string, number>()
  const counts: NetworkCounts = { delivered: 0, lost: 0, duplicated: 0, reordered: 0, linksBroken: 0 }
  /** Looks after the link of each pair. */
  const tending = new Map<string, () => void>()

  function direction(from: ReplicaId, to: ReplicaId): Direction {
    const key = from * 65_536 + to
    let found = directions.get(key)
    if (found === undefined) {
      found = { condition: options.defaults(), lastArrivalMs: 0, busyUntilMs: 0, sent: [] }
      directions.set(key, found)
    }
    return found
  }

  function isCut(a: ReplicaId, b: ReplicaId): boolean {
    return direction(a, b).condition.blocked || direction(b, a).condition.blocked
  }

  /** No link can be between them now. */
  function isApart(a: ReplicaId, b: ReplicaId): boolean {
    return (
      isCut(a, b) || endpoints.get(a)?.shutOut.has(b) === true || endpoints.get(b)?.shutOut.has(a) === true
    )
  }

  function running(replica: ReplicaId): Endpoint | null {
    const endpoint = endpoints.get(replica)
    return endpoint !== undefined && endpoint.process.alive && endpoint.handler !== null ? endpoint : null
  }

  function connect(from: Endpoint, to: Endpoint): void {
    // A process that starts anew before its predecessor was missed resets the link that was there.
    if (from.links.get(to.self) === 'up' && from.connectedTo.get(to.self) !== to)
      setLink(from, to.self, 'died')
    from.connectedTo.set(to.self, to)
    setLink(from, to.self, 'up')
  }

  function setLink(endpoint: Endpoint, peer: ReplicaId, state: LinkState): void {
    const before = endpoint.links.get(peer)
    if (before === state || (before === 'died' && state === 'silent')) return
    endpoint.links.set(peer, state)
    scheduler.at(scheduler.nowMs, endpoint.process, () => {
      trace.add('link', endpoint.self, peer, () => `link to r${peer}: ${state}`)
      const other = endpoint.connectedTo.get(peer)
      if (state === 'up' && other !== undefined) greet(endpoint, other)
      if (state === 'up') endpoint.handler?.up(peer)
      else endpoint.handler?.down(peer, state)
    })
  }

  function greet(endpoint: Endpoint, other: Endpoint): void {
    const wasDoubted = endpoint.doubted.delete(other.self)
    if (!wasDoubted && (endpoint.greeted.get(other.self) ?? 0) >= other.incarnation) return
    endpoint.versions.set(other.self, spoken(endpoint, other))
    endpoint.greeted.set(other.self, other.incarnation)
    endpoint.handler?.incarnation(other.self, other.incarnation, true)
  }

  function spoken(a: Endpoint, b: Endpoint): number {
    return Math.min(a.newestVersion, b.newestVersion)
  }

  /** Nobody listens there: the connection is refused. */
  function refused(endpoint: Endpoint, peer: ReplicaId): void {
    const other = endpoints.get(peer)
    if (other === undefined || !endpoint.peers.has(peer)) return
    setLink(endpoint, peer, 'died')
    // One that has just started does not listen yet; the one before is dead.
    const dead = other.process.alive ? other.incarnation - 1 : other.incarnation
    scheduler.at(scheduler.nowMs, endpoint.process, () => endpoint.handler?.incarnation(peer, dead, false))
  }

  /** Takes the process that greeted last for dead, though that may live. */
  function giveUp(endpoint: Endpoint, peer: ReplicaId): void {
    const incarnation = endpoint.greeted.get(peer)
    if (incarnation === undefined || !endpoint.peers.has(peer)) return
    scheduler.at(scheduler.nowMs, endpoint.process, () => {
      trace.add('dead', endpoint.self, peer, () => `r${peer} is taken for dead`)
      endpoint.doubted.add(peer)
      endpoint.handler?.incarnation(peer, incarnation, false)
    })
  }

  /** With time-outs that are trusted a process that stands still is as good as cut off. */
  function isSilent(a: Endpoint | null, b: Endpoint | null): boolean {
    const standsStill = (one: Endpoint | null): boolean =>
      one !== null && one.process.stalledUntilMs > scheduler.nowMs
    return options.trustTimeouts && (standsStill(a) || standsStill(b))
  }

  function epochOf(a: ReplicaId, b: ReplicaId): number {
    return epochs.get(pairKey(a, b)) ?? 0
  }

  function breakLink(a: ReplicaId, b: ReplicaId): void {
    epochs.set(pairKey(a, b), epochOf(a, b) + 1)
    counts.linksBroken += 1
  }

  function tellShutOut(by: Endpoint | null, peer: Endpoint | null): void {
    if (by !== null && peer !== null && !isCut(by.self, peer.self)) by.shutOut.get(peer.self)?.(peer)
  }

  /** Looks after the link of a pair, for good: sets it up when it can be, notices when it cannot be any more. */
  function tend(a: ReplicaId, b: ReplicaId): void {
    const key = pairKey(a, b)
    if (a === b || tending.has(key)) return
    let silentSinceMs: number | null = null
    const look = (): void => {
      const left = running(a)
      const right = running(b)
      tellShutOut(left, right)
      tellShutOut(right, left)
      if (isApart(a, b) || isSilent(left, right) || (left === null && right === null)) {
        silentSinceMs ??= scheduler.nowMs
        if (scheduler.nowMs - silentSinceMs >= silenceMs) {
          if (left?.links.get(b) === 'up' || right?.links.get(a) === 'up') breakLink(a, b)
          // Whoever still gets through closes the socket, which looks like death on the other side.
          const falseDeath = random.below(3) === 0
          if (left !== null)
            setLink(left, b, falseDeath && !direction(b, a).condition.blocked ? 'died' : 'silent')
          if (right !== null)
            setLink(right, a, falseDeath && !direction(a, b).condition.blocked ? 'died' : 'silent')
          if (options.trustTimeouts) {
            if (left !== null) giveUp(left, b)
            if (right !== null) giveUp(right, a)
          }
        }
      } else {
        silentSinceMs = null
        if (left !== null && right !== null) {
          if (left.peers.has(b) || right.peers.has(a)) {
            connect(left, right)
            connect(right, left)
          }
        } else if (left !== null) refused(left, b)
        else if (right !== null) refused(right, a)
      }
    }
    tending.set(key, look)
    const again = (): void => {
      look()
      scheduler.at(scheduler.nowMs + retryMs / 2 + random.below(retryMs), null, again)
    }
    scheduler.at(scheduler.nowMs + 1 + random.below(10), null, again)
  }

  function transmit(endpoint: Endpoint, to: ReplicaId, frame: Frame, urgent: boolean): void {
    if (!endpoint.process.alive) return
    options.onSend(frame, endpoint.self, to)
    if (endpoint.links.get(to) !== 'up') return
    // As a peer link does.
    const other = endpoint.connectedTo.get(to)
    if (other !== undefined && versionOfFrame(frame) > spoken(endpoint, other)) return
    const bytes = joined(encodeFrame(frame))
    const { condition, sent } = direction(endpoint.self, to)
    const sentMs = scheduler.nowMs
    if (condition.blocked || random.below(1_000_000) < condition.lossPpm) {
      counts.lost += 1
      trace.add('lost', endpoint.self, bytes.length, () => `to r${to}: ${describe(frame)}`)
      return
    }
    const message: Sent = {
      from: endpoint,
      frame,
      bytes,
      sentMs,
      urgent,
      epoch: epochOf(endpoint.self, to),
    }
    sent.push(message)
    if (sent.length > mostEchoed) sent.shift()
    deliver(message, to)
    if (random.below(1_000_000) < condition.duplicatePpm) {
      counts.duplicated += 1
      // Perhaps long after: others have led meanwhile.
      scheduler.at(sentMs + skewed(random, 1, 10_000), null, () => deliver(message, to))
    }
  }

  function deliver({ from, frame, bytes, sentMs, urgent, epoch }: Sent, to: ReplicaId): void {
    const way = direction(from.self, to)
    const { condition } = way
    const receiver = running(to)
    if (receiver === null) return
    const startMs = Math.max(scheduler.nowMs, way.busyUntilMs)
    if (startMs - scheduler.nowMs > mostWaitingMs) {
      counts.lost += 1
      return
    }
    way.busyUntilMs = startMs + bytes.length / condition.bytesPerMs
    let arrivalMs =
      way.busyUntilMs +
      condition.delayMs +
      (random.below(1001) / 1000) * condition.jitterMs +
      (urgent ? 0 : condition.delayMs)
    if (random.below(1_000_000) < condition.reorderPpm) {
      counts.reordered += 1
      arrivalMs += random.below(300)
    } else {
      arrivalMs = Math.max(arrivalMs, way.lastArrivalMs)
      way.lastArrivalMs = arrivalMs
    }
    scheduler.at(arrivalMs, receiver.process, () => {
      if (epochOf(from.self, to) !== epoch || receiver.links.get(from.self) !== 'up') {
        counts.lost += 1
        return
      }
      greet(receiver, from)
      counts.delivered += 1
      trace.add('message', to, hashBytes(bytes), () => `from r${from.self}: ${describe(frame)}`, {
        from: from.self,
        sentMs,
      })
      const take = (complete: Uint8Array): boolean => {
        hand(receiver, decodeFrame(complete))
        return true
      }
      const splitter = new FrameSplitter(maxFrameBytes)
      // Some come in two pieces.
      const cut = random.below(8) === 0 ? random.below(bytes.length + 1) : 0
      if (cut > 0) splitter.push(bytes.subarray(0, cut), take)
      splitter.push(cut > 0 ? bytes.subarray(cut) : bytes, take)
    })
  }

  function hand(receiver: Endpoint, frame: Frame): void {
    const { handler } = receiver
    if (handler === null) return
    if (frame.kind === 'message') handler.message(frame.message)
    else if (frame.kind === 'chunk') handler.chunk(frame.chunk)
    else if (frame.kind === 'chunkReply') handler.chunkReply(frame.reply)
  }

  return {
    counts,
    condition: (from, to) => direction(from, to).condition,
    attach(self, process, clock, { incarnation, newestVersion }, onShutOut) {
      const endpoint: Endpoint = {
        self,
        process,
        clock,
        handler: null,
        peers: new Set(),
        shutOut: new Map(),
        onShutOut,
        links: new Map(),
        connectedTo: new Map(),
        incarnation,
        newestVersion,
        versions: new Map(),
        greeted: new Map(),
        doubted: new Set(),
      }
      endpoints.set(self, endpoint)
      return {
        start(handler) {
          endpoint.handler = handler
          // A process that starts dials at once.
          for (const other of endpoints.keys())
            scheduler.at(scheduler.nowMs + 1 + random.below(20), null, () =>
              tending.get(pairKey(self, other))?.(),
            )
          return Promise.resolve()
        },
        send: (message) => transmit(endpoint, message.to, { kind: 'message', message }, true),
        sendChunk: (chunk) => transmit(endpoint, chunk.to, { kind: 'chunk', chunk }, false),
        sendChunkReply: (reply) => transmit(endpoint, reply.to, { kind: 'chunkReply', reply }, true),
        setPeers(peers) {
          endpoint.peers = new Set(peers.map((peer) => peer.id).filter((id) => id !== self))
          for (const peer of endpoint.peers) tend(self, peer)
          for (const other of endpoints.keys()) if (!endpoint.peers.has(other)) tend(self, other)
        },
        shutOut(peer, why, reason) {
          trace.add('shutOut', self, peer, () => `r${peer} may not take part: ${reason}`)
          endpoint.shutOut.set(peer, (other) =>
            scheduler.at(scheduler.nowMs + direction(self, peer).condition.delayMs, other.process, () =>
              other.onShutOut(self, why, reason),
            ),
          )
          tellShutOut(endpoint, running(peer))
          breakLink(self, peer)
          setLink(endpoint, peer, 'silent')
          const other = running(peer)
          if (other !== null) setLink(other, self, 'died')
        },
        isUp: (peer) => endpoint.links.get(peer) === 'up',
        version: (peer) =>
          peer === self ? newestVersion : (endpoint.versions.get(peer) ?? options.oldestVersion),
        roundTripUs: (peer) =>
          Math.round(
            1000 * (direction(self, peer).condition.delayMs + direction(peer, self).condition.delayMs),
          ),
        clockMs: (peer) =>
          endpoint.links.get(peer) === 'up' ? (running(peer)?.clock.wallMs() ?? null) : null,
        stop() {
          endpoint.handler = null
          return Promise.resolve()
        },
      }
    },
    hear: (a, b) => running(a)?.links.get(b) === 'up' && running(b)?.links.get(a) === 'up',
    refuseFalsely(at, peer) {
      const endpoint = running(at)
      if (endpoint === null || running(peer) === null) return
      if (endpoint.links.get(peer) === 'up') breakLink(at, peer)
      setLink(endpoint, peer, 'died')
      giveUp(endpoint, peer)
    },
    echo(to) {
      for (const other of endpoints.keys())
        for (const message of other === to ? [] : direction(other, to).sent)
          if (message.epoch === epochOf(other, to) && random.below(2) === 0) {
            counts.duplicated += 1
            deliver(message, to)
          }
    },
    processDied(replica, told) {
      for (const other of endpoints.values()) {
        if (other.self === replica || !other.process.alive) continue
        if (other.links.get(replica) !== 'up') continue
        breakLink(other.self, replica)
        if (told && !isCut(other.self, replica)) setLink(other, replica, 'died')
        else {
          // Nothing says so, and nothing comes: the silence is noticed later.
          const silent = other
          scheduler.at(scheduler.nowMs + silenceMs, null, () => {
            const back = running(replica)
            if (back === null || back.links.get(silent.self) !== 'up') setLink(silent, replica, 'silent')
          })
        }
      }
    },
  }
}

function pairKey(a: ReplicaId, b: ReplicaId): string {
  return a < b ? `${a}-${b}` : `${b}-${a}`
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

function describe(frame: Frame): string {
  switch (frame.kind) {
    case 'message': {
      const { message } = frame
      const parts: string[] = [`${message.kind} term ${message.term}`]
      for (const [name, value] of Object.entries(message)) {
        if (name === 'kind' || name === 'term' || name === 'from' || name === 'to') continue
        if (name === 'entries' && message.kind === 'append') {
          const first = message.entries[0]
          const last = message.entries.at(-1)
          if (first !== undefined && last !== undefined)
            parts.push(`entries ${first.index}/${first.term}-${last.index}/${last.term}`)
          continue
        }
        parts.push(`${name} ${typeof value === 'object' ? JSON.stringify(value, short) : String(value)}`)
      }
      return parts.join(', ')
    }
    case 'chunk':
      return `chunk of snapshot ${frame.chunk.snapshotId} at ${frame.chunk.index}: ${frame.chunk.bytes.length} bytes from ${frame.chunk.offset} of ${frame.chunk.sizeBytes}`
    case 'chunkReply':
      return `chunk reply for ${frame.reply.snapshotId}: go on at ${frame.reply.nextOffset}`
    default:
      return frame.kind
  }
}

function short(_name: string, value: unknown): unknown {
  return value instanceof Uint8Array ? `${value.length} bytes` : value
}
