import type { Cancel, Clock } from '../base/clock.ts'
import type { Random } from '../base/random.ts'
import type { Response, ServerState } from '../gen/parley/v1/frames.ts'
import type { Event } from '../gen/parley/v1/service.ts'
import { AddressBook, betterThan, standingOf } from './addresses.ts'
import { Link } from './link.ts'
import { addressBeside } from './server-address.ts'
import type { Connect } from './types.ts'

export interface ConnectorHandlers {
  /** From now on `link` is the one in use. */
  adopted(link: Link): void
  /** The link in use is gone, or is given up for a better one that follows at once. */
  lost(): void
  /** What the replica in use tells of itself has changed. */
  stateChanged(link: Link): void
  responses(link: Link, responses: readonly Response[]): void
  events(link: Link, events: readonly Event[]): void
}

interface Round {
  readonly untried: string[]
  readonly attempts: Set<Link>
  /** Answered, but cannot serve writes: taken when no other does better. */
  fallback: Link | null
  /** How long the next attempt may take before another one is made beside it. */
  hedgeMs: number
  cancelNext: Cancel
}

/**
 * The next address is tried when the one before has not answered for so long, and the one after that when twice as much has passed: one slow replica holds up nobody, and when all are slow,
 * since thousands of clients look for another replica at once, they do not make five connections each.
 */
const firstHedgeMs = 250
/** A link that broke sooner after it was taken counts as a failure: no endless quick reconnecting. */
const soundAfterMs = 1000
/**
 * Each link in use that is given up for its silence doubles the patience with the next ones: where replicas are not dead but overloaded, clients that come and go would only add to it.
 * One that was sound for long takes it back.
 */
const mostPatience = 16
const patientForMs = 60_000
const seekBackOff = { firstMs: 50, longestMs: 3000 }
const improveBackOff = { firstMs: 250, longestMs: 10_000 }

/**
 * Keeps one connection to the best replica that can be reached. It looks for one in rounds: the addresses are tried in order, the next when one fails or is slow; the
 * first that has a quorum, is not stopping and takes writes is taken. When none has, the best of the others is taken, and looking goes on beside it.
 */
export class Connector {
  private readonly clock: Clock
  private readonly random: Random
  private readonly connect: Connect
  private readonly discover: boolean
  private readonly handlers: ConnectorHandlers
  private readonly book: AddressBook
  private link: Link | null = null
  private adoptedAtMs = 0
  private patience = 1
  private round: Round | null = null
  private failures = 0
  private cancelPause: Cancel | null = null
  private stopped = false

  constructor(
    ports: { readonly clock: Clock; readonly random: Random; readonly connect: Connect },
    options: { readonly addresses: readonly string[]; readonly discover: boolean },
    handlers: ConnectorHandlers,
  ) {
    this.clock = ports.clock
    this.random = ports.random
    this.connect = ports.connect
    this.discover = options.discover
    this.handlers = handlers
    this.book = new AddressBook(options.addresses)
  }

  get current(): Link | null {
    return this.link
  }

  get addresses(): readonly string[] {
    return this.book.all
  }

  /** Begins to look for a replica; the first address first. */
  start(): void {
    this.startRound([...this.book.all])
  }

  /** Gives up the link in use as if it had broken. */
  drop(link: Link): void {
    link.close()
    this.linkLost(link, false)
  }

  /** Replaces the link in use by a new connection, to the same replica if it can be had. */
  renew(): void {
    const link = this.link
    if (link === null) return
    this.endRound()
    this.link = null
    link.close()
    this.handlers.lost()
    this.startRound([link.address, ...this.book.order(this.random, link.address)])
  }

  /** The network may have changed: checks the link in use, or looks for one without further delay. */
  wake(): void {
    if (this.stopped) return
    this.failures = 0
    if (this.link !== null) this.link.probe()
    if (this.cancelPause !== null) this.startRound(this.others())
  }

  stop(): void {
    this.stopped = true
    this.cancelPause?.()
    this.endRound()
    this.link?.close()
    this.link = null
  }

  private startRound(untried: string[]): void {
    this.cancelPause?.()
    this.cancelPause = null
    this.round = {
      untried,
      attempts: new Set(),
      fallback: null,
      hedgeMs: firstHedgeMs * this.patience,
      cancelNext: () => {},
    }
    this.proceed(this.round)
  }

  /** Tries the next address, or ends the round when there is none left to try or to wait for. */
  private proceed(round: Round): void {
    round.cancelNext()
    const address = round.untried.shift()
    if (address !== undefined) {
      round.attempts.add(
        new Link(
          address,
          this.connect,
          this.clock,
          {
            state: (link, state) => this.linkState(link, state),
            responses: (link, responses) => {
              if (link === this.link) this.handlers.responses(link, responses)
            },
            events: (link, events) => {
              if (link === this.link) this.handlers.events(link, events)
            },
            lost: (link, silent) => this.linkLost(link, silent),
          },
          this.patience,
        ),
      )
      round.cancelNext = this.clock.after(round.hedgeMs, () => {
        round.hedgeMs *= 2
        this.proceed(round)
      })
      return
    }
    // The slow ones may still answer; meanwhile what there is serves.
    if (round.fallback !== null && this.shouldTake(round.fallback)) {
      const link = round.fallback
      round.fallback = null
      this.adopt(link)
    }
    if (round.attempts.size > 0) return
    this.endRound()
    this.failures += 1
    this.pause()
  }

  private shouldTake(link: Link): boolean {
    if (link.state === null) return false
    if (this.link === null || this.link.state === null) return true
    return betterThan(standingOf(link.state), standingOf(this.link.state))
  }

  private linkState(link: Link, state: ServerState): void {
    const standing = standingOf(state)
    this.book.report(link.address, standing)
    if (this.discover) this.book.learn(state.addresses.map((address) => addressBeside(link.address, address)))
    const round = this.round
    if (link === this.link) {
      if (standing === 'good') this.failures = 0
      if (standing === 'good' || !this.discover) this.endRound()
      else if (round === null && this.cancelPause === null) this.startRound(this.others())
      this.handlers.stateChanged(link)
    } else if (round !== null && round.attempts.delete(link)) {
      if (standing === 'good' || !this.discover) {
        this.adopt(link)
        this.endRound()
        return
      }
      const worse = round.fallback !== null && !this.betterLink(link, round.fallback) ? link : round.fallback
      if (worse !== link) round.fallback = link
      worse?.close()
      this.proceed(round)
    } else if (round !== null && link === round.fallback && standing === 'good') {
      round.fallback = null
      this.adopt(link)
      this.endRound()
    }
  }

  private betterLink(a: Link, b: Link): boolean {
    return a.state !== null && b.state !== null && betterThan(standingOf(a.state), standingOf(b.state))
  }

  private linkLost(link: Link, silent: boolean): void {
    this.book.report(link.address, 'failed')
    if (this.stopped) return
    const round = this.round
    if (link === this.link) {
      this.link = null
      const usedMs = this.clock.monotonicMs() - this.adoptedAtMs
      const sound = usedMs >= soundAfterMs
      if (usedMs >= patientForMs) this.patience = 1
      if (silent) this.patience = Math.min(mostPatience, this.patience * 2)
      this.failures = sound ? 0 : this.failures + 1
      this.handlers.lost()
      if (round === null) this.pause()
      else this.proceed(round)
    } else if (round !== null && link === round.fallback) round.fallback = null
    else if (round !== null && round.attempts.delete(link)) this.proceed(round)
  }

  private adopt(link: Link): void {
    const old = this.link
    if (old !== null) {
      this.link = null
      old.close()
      this.handlers.lost()
    }
    this.link = link
    this.adoptedAtMs = this.clock.monotonicMs()
    this.handlers.adopted(link)
  }

  private endRound(): void {
    this.cancelPause?.()
    this.cancelPause = null
    const round = this.round
    if (round === null) return
    this.round = null
    round.cancelNext()
    for (const link of round.attempts) link.close()
    round.fallback?.close()
  }

  /** Waits before the next round: not at all after a sound link broke. */
  private pause(): void {
    this.cancelPause?.()
    const { firstMs, longestMs } = this.link === null ? seekBackOff : improveBackOff
    const fullMs = this.failures === 0 ? 0 : Math.min(longestMs, firstMs * 2 ** (this.failures - 1))
    const delayMs = fullMs === 0 ? 0 : fullMs / 2 + this.random.below(Math.ceil(fullMs / 2))
    if (delayMs === 0) this.startRound(this.others())
    else this.cancelPause = this.clock.after(delayMs, () => this.startRound(this.others()))
  }

  private others(): string[] {
    return this.book.order(this.random, this.link?.address ?? null)
  }
}
