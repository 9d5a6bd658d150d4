import type { Cancel, Clock } from '../base/clock.ts'
import { encode } from '../base/encode.ts'
import type { Logger } from '../base/logger.ts'
import type { ChatQueries, StoredEvent } from '../chat/queries.ts'
import type { Applied } from '../chat/types.ts'
import { Event } from '../gen/parley/v1/service.ts'
import { type EventSlice, PastSlices } from './past-slices.ts'
import { RecentEvents } from './recent.ts'
import type { Receiver, Subscription } from './types.ts'

export interface SubscriptionsOptions {
  readonly clock: Clock
  readonly logger: Logger
  /** Of the applied state; asked again after every swap of the state. */
  readonly queries: () => ChatQueries
  readonly position: () => number
  /** Calls back when everything that was applied anywhere before the call has been applied here: true; false when that cannot be told now. */
  readonly whenCaughtUp: (done: (caughtUp: boolean) => void) => void
  /** The first subscription of a session was opened, or its last one closed. */
  readonly onConnected: (session: number, connected: boolean) => void
}

/** `#everyone`: all accounts are members. */
const everyone = 1

/** Most events that are looked at in one turn of the event loop for subscriptions that catch up. */
const eventsPerTurn = 2000
/** What a stream that catches up is given at once. */
const sliceLimits = { limit: 500, maxBytes: 256 * 1024 }
/** Most events that are kept for one receiver within one call of `publish`; one that gets more catches up in slices instead. */
const maxAtOnce = 2000
/** So few that under load they are gone before the collector moves them among what lives long, from where it is costly to get rid of them. */
const recentLimits = { maxEvents: 512, maxBytes: 4 * 1024 * 1024 }
/** What an event is taken to hold that nobody here gets. */
const unencodedBytes = 512
const progressMs = 20_000

type State =
  /** Gets events as they are applied. */
  | 'live'
  /** Gets past events, slice by slice. */
  | 'catchingUp'
  /** Its cursor is ahead of what this replica has applied. */
  | 'ahead'
  /** Its receiver takes no more until `resume`. */
  | 'full'
  | 'closed'

/** The subscriptions of one account. */
interface Subscriber {
  readonly account: number
  readonly subscriptions: Set<Open>
  /** Conversations whose events the account gets; `#everyone` left out. */
  conversations: Set<number>
}

interface Open {
  readonly subscriber: Subscriber
  readonly session: number
  readonly receiver: Receiver
  state: State
  /** Everything up to here was given to the receiver; only while the state is not `live`. */
  cursor: number
  /** What `publish` is about to give to the receiver; null when it got too much. */
  batch: Uint8Array[] | null
  /** The newest position that the receiver knows of. */
  toldPosition: number
  /** It is to go on from now, and its receiver does not know yet from which position. */
  isFresh: boolean
  progressAtMs: number
}

/** The open event streams of this replica. */
export class Subscriptions {
  private readonly clock: Clock
  private readonly logger: Logger
  private readonly queries: () => ChatQueries
  private readonly position: () => number
  private readonly whenCaughtUp: (done: (caughtUp: boolean) => void) => void
  private readonly onConnected: (session: number, connected: boolean) => void

  private readonly all = new Set<Open>()
  private readonly byAccount = new Map<number, Subscriber>()
  private readonly byConversation = new Map<number, Set<Subscriber>>()
  private readonly bySession = new Map<number, Set<Open>>()
  private readonly catchingUp = new Set<Open>()
  private readonly ahead = new Set<Open>()
  private readonly recent: RecentEvents
  /** For those that catch up; empty when nobody does. */
  private readonly past = new PastSlices()
  /** Up to here `publish` has seen everything. */
  private recentPosition: number
  private pumpScheduled = false
  private cancelTick: Cancel | null = null
  private isCatchingUpWithOthers = false

  constructor(options: SubscriptionsOptions) {
    this.clock = options.clock
    this.logger = options.logger
    this.queries = options.queries
    this.position = options.position
    this.whenCaughtUp = options.whenCaughtUp
    this.onConnected = options.onConnected
    this.recentPosition = options.position()
    this.recent = new RecentEvents(this.recentPosition, recentLimits)
  }

  get size(): number {
    return this.all.size
  }

  open(
    who: { readonly account: number; readonly session: number },
    cursor: number,
    receiver: Receiver,
  ): Subscription {
    const nowMs = this.clock.monotonicMs()
    const open: Open = {
      subscriber: this.subscriber(who.account),
      session: who.session,
      receiver,
      state: 'catchingUp',
      cursor: cursor === 0 ? this.position() : cursor,
      batch: [],
      toldPosition: -1,
      isFresh: cursor === 0,
      progressAtMs: nowMs + progressMs,
    }
    this.all.add(open)
    open.subscriber.subscriptions.add(open)
    const siblings = this.bySession.get(who.session)
    if (siblings === undefined) {
      this.bySession.set(who.session, new Set([open]))
      this.onConnected(who.session, true)
    } else {
      siblings.add(open)
    }
    this.startCatchingUp(open)
    this.scheduleTick()
    return {
      close: () => this.remove(open),
      resume: () => {
        if (open.state === 'full') this.startCatchingUp(open)
      },
    }
  }

  /** What was just applied and committed, in order. */
  publish(applied: readonly Applied[]): void {
    const before = this.recentPosition
    const touched: Open[] = []
    for (const one of applied) {
      for (const change of one.memberships) this.changeMembership(change)
      for (const event of one.events) {
        const isWanted = this.route(event, touched)
        this.recent.add(event, isWanted ? event.bytes.length : unencodedBytes)
      }
      // At once: what follows is not for them any more.
      for (const session of one.endedSessions) this.endSession(session)
    }
    this.recentPosition = this.position()
    for (const open of touched) this.deliver(open, before)
    for (const open of this.ahead) if (open.cursor <= this.recentPosition) this.startCatchingUp(open)
  }

  /** The state was swapped for a newer one: what each stream missed comes from the event table. */
  reload(): void {
    const queries = this.queries()
    const before = this.recentPosition
    this.recentPosition = this.position()
    this.recent.reset(this.recentPosition)
    this.past.clear()
    this.byConversation.clear()
    for (const subscriber of this.byAccount.values()) {
      subscriber.conversations = new Set()
      this.joinAll(subscriber)
    }
    for (const session of this.bySession.keys()) {
      if (!queries.sessionExists(session)) this.endSession(session)
    }
    for (const open of this.all) {
      if (open.state !== 'live') continue
      open.cursor = before
      this.startCatchingUp(open)
    }
  }

  close(): void {
    this.cancelTick?.()
    for (const open of this.all) this.remove(open)
  }

  private subscriber(account: number): Subscriber {
    const known = this.byAccount.get(account)
    if (known !== undefined) return known
    const subscriber: Subscriber = { account, subscriptions: new Set(), conversations: new Set() }
    this.byAccount.set(account, subscriber)
    this.joinAll(subscriber)
    return subscriber
  }

  private joinAll(subscriber: Subscriber): void {
    for (const conversation of this.queries().conversationIds(subscriber.account))
      this.join(subscriber, conversation)
  }

  private join(subscriber: Subscriber, conversation: number): void {
    if (conversation === everyone) return
    subscriber.conversations.add(conversation)
    const members = this.byConversation.get(conversation)
    if (members === undefined) this.byConversation.set(conversation, new Set([subscriber]))
    else members.add(subscriber)
  }

  private leave(subscriber: Subscriber, conversation: number): void {
    subscriber.conversations.delete(conversation)
    const members = this.byConversation.get(conversation)
    members?.delete(subscriber)
    if (members?.size === 0) this.byConversation.delete(conversation)
  }

  private changeMembership(change: Applied['memberships'][number]): void {
    const subscriber = this.byAccount.get(change.account)
    if (subscriber === undefined) return
    if (change.member) this.join(subscriber, change.conversation)
    else this.leave(subscriber, change.conversation)
  }

  /** Whether anybody gets it. */
  private route(event: StoredEvent, touched: Open[]): boolean {
    const { audience } = event
    if (audience.kind === 'account') {
      const subscriber = this.byAccount.get(audience.account)
      if (subscriber === undefined) return false
      return add(subscriber.subscriptions, event, touched)
    }
    if (audience.kind === 'all' || audience.conversation === everyone) return add(this.all, event, touched)
    const members = this.byConversation.get(audience.conversation)
    if (members === undefined) return false
    let isWanted = false
    for (const subscriber of members) isWanted = add(subscriber.subscriptions, event, touched) || isWanted
    return isWanted
  }

  /** @param before the position before what `publish` was given. */
  private deliver(open: Open, before: number): void {
    const batch = open.batch
    open.batch = []
    if (open.state !== 'live') return
    if (batch === null) {
      open.cursor = before
      this.startCatchingUp(open)
    } else if (!this.give(open, batch, this.recentPosition)) {
      open.state = 'full'
      open.cursor = this.recentPosition
    }
  }

  /** False when the receiver takes no more for now. One that throws is closed. */
  private give(open: Open, encoded: readonly Uint8Array[], position: number): boolean {
    open.toldPosition = position
    open.progressAtMs = this.clock.monotonicMs() + progressMs
    try {
      return open.receiver.events(encoded)
    } catch (error) {
      this.logger.error({ error: String(error), session: open.session }, 'an event receiver failed')
      this.remove(open)
      return true
    }
  }

  private startCatchingUp(open: Open): void {
    this.ahead.delete(open)
    open.state = 'catchingUp'
    this.catchingUp.add(open)
    this.schedulePump()
  }

  private schedulePump(): void {
    if (this.pumpScheduled) return
    if (this.catchingUp.size === 0) {
      this.past.clear()
      return
    }
    this.pumpScheduled = true
    this.clock.soon(() => {
      this.pumpScheduled = false
      let budget = eventsPerTurn
      for (const open of this.catchingUp) {
        // Taken out and put back at the end: each gets its turn.
        this.catchingUp.delete(open)
        if (open.state === 'catchingUp') budget -= 20 + this.catchUp(open)
        if (budget <= 0) break
      }
      this.schedulePump()
    })
  }

  /** One slice. Returns how many events were looked at. */
  private catchUp(open: Open): number {
    const position = this.position()
    if (!this.queries().sessionExists(open.session)) {
      this.end(open)
      return 0
    }
    if (open.cursor > position) {
      open.state = 'ahead'
      this.ahead.add(open)
      return 0
    }
    const slice = this.slice(open.cursor)
    if (slice === null) {
      open.cursor = position
      this.goLive(open, [encodeEvent(position, { $case: 'resync', value: {} })])
      return 0
    }
    const { events, upTo } = slice
    const wanted: Uint8Array[] = []
    // First of all from where to resume, or what a break of the connection takes of the rest would be missed.
    if (open.isFresh && open.cursor < upTo)
      wanted.push(encodeEvent(open.cursor, { $case: 'progress', value: {} }))
    open.isFresh = false
    for (const event of events) {
      if (this.concerns(open.subscriber, event)) wanted.push(event.bytes)
    }
    open.cursor = upTo
    if (upTo === position) {
      wanted.push(encodeEvent(position, { $case: 'progress', value: {} }))
      this.goLive(open, wanted)
    } else if (wanted.length > 0 && !this.give(open, wanted, upTo)) {
      if (open.state === 'catchingUp') open.state = 'full'
    } else if (open.state === 'catchingUp') {
      this.catchingUp.add(open)
    }
    return events.length
  }

  private goLive(open: Open, encoded: readonly Uint8Array[]): void {
    open.state = 'live'
    open.batch = []
    if (!this.give(open, encoded, open.cursor) && open.state === 'live') open.state = 'full'
  }

  /** Some events after `cursor`, of whole positions, and the position up to which they are all; null when they are no longer kept. */
  private slice(cursor: number): EventSlice | null {
    const queries = this.queries()
    if (cursor < queries.oldestCursor()) return null
    return (
      this.recent.after(cursor, sliceLimits, this.recentPosition) ??
      this.past.after(cursor) ??
      this.past.keep(cursor, queries.eventsAfter(cursor, sliceLimits))
    )
  }

  private concerns(subscriber: Subscriber, { audience, position }: StoredEvent): boolean {
    switch (audience.kind) {
      case 'all':
        return true
      case 'account':
        return audience.account === subscriber.account
      case 'conversation':
        if (audience.conversation === everyone) return true
        // Most events of a busy cluster are of conversations that the account is not in: those cost no query.
        return (
          subscriber.conversations.has(audience.conversation) &&
          this.queries().isInAudience(subscriber.account, audience, position)
        )
    }
  }

  private endSession(session: number): void {
    for (const open of this.bySession.get(session) ?? []) this.end(open)
  }

  private end(open: Open): void {
    // What was applied up to its end, with the event that says so, was not given to it yet.
    const last = open.state === 'live' ? (open.batch ?? []) : []
    this.remove(open)
    try {
      if (last.length > 0) open.receiver.events(last)
      open.receiver.ended()
    } catch (error) {
      this.logger.error({ error: String(error), session: open.session }, 'an event receiver failed')
    }
  }

  private remove(open: Open): void {
    if (open.state === 'closed') return
    open.state = 'closed'
    open.batch = []
    this.all.delete(open)
    this.catchingUp.delete(open)
    this.ahead.delete(open)
    const { subscriber } = open
    subscriber.subscriptions.delete(open)
    if (subscriber.subscriptions.size === 0) {
      this.byAccount.delete(subscriber.account)
      for (const conversation of subscriber.conversations) this.leave(subscriber, conversation)
    }
    const siblings = this.bySession.get(open.session)
    siblings?.delete(open)
    if (siblings?.size === 0) {
      this.bySession.delete(open.session)
      this.onConnected(open.session, false)
    }
  }

  private scheduleTick(): void {
    if (this.cancelTick !== null) return
    this.cancelTick = this.clock.after(1000, () => {
      this.cancelTick = null
      this.tick(this.clock.monotonicMs())
      if (this.all.size > 0) this.scheduleTick()
    })
  }

  /**
   * A cursor that is ahead even of a replica that has caught up is one of another cluster, or of a state that was lost. How long this replica lags says nothing: cut off from the
   * others it may lag for hours, and a stream that is set back to where it is would show everything after that twice.
   */
  private judgeAhead(): void {
    if (this.ahead.size === 0 || this.isCatchingUpWithOthers) return
    this.isCatchingUpWithOthers = true
    const suspects = [...this.ahead]
    this.whenCaughtUp((caughtUp) => {
      this.isCatchingUpWithOthers = false
      const position = this.position()
      for (const open of caughtUp ? suspects : []) {
        if (open.state !== 'ahead' || open.cursor <= position) continue
        this.ahead.delete(open)
        open.cursor = position
        this.goLive(open, [encodeEvent(position, { $case: 'resync', value: {} })])
      }
    })
  }

  private tick(nowMs: number): void {
    const position = this.position()
    this.judgeAhead()
    const progress = encodeEvent(position, { $case: 'progress', value: {} })
    for (const open of this.all) {
      if (open.state !== 'live' || open.progressAtMs > nowMs) continue
      if (open.toldPosition === position) open.progressAtMs = nowMs + progressMs
      else if (!this.give(open, [progress], position) && open.state === 'live') {
        open.state = 'full'
        open.cursor = position
      }
    }
  }
}

/** Whether any of them is live. */
function add(subscriptions: ReadonlySet<Open>, event: StoredEvent, touched: Open[]): boolean {
  let isWanted = false
  for (const open of subscriptions) {
    if (open.state !== 'live') continue
    isWanted = true
    if (open.batch === null) continue
    if (open.batch.length === 0) touched.push(open)
    if (open.batch.length < maxAtOnce) open.batch.push(event.bytes)
    else open.batch = null
  }
  return isWanted
}

function encodeEvent(position: number, event: Event['event']): Uint8Array {
  return encode(Event, { position, event })
}
