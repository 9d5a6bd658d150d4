import { unreachable } from '../base/assert.ts'
import { encode } from '../base/encode.ts'
import { MessageRef, type Message } from '../gen/parley/v1/model.ts'
import { Event } from '../gen/parley/v1/service.ts'
import { placeOf, positionOfPlace } from './messages.ts'
import { integer, type Statements } from './statements.ts'
import type { Audience, ChatEvent } from './types.ts'

/** How many positions back a cursor may lie. */
export const eventWindow = 100_000
/** Events are pruned for so many positions at once. */
const pruneStep = 1000

export const eventKind = { whole: 1, edited: 2, draft: 3 } as const

/** Events up to here are not kept, when `position` has been applied. */
export function oldestCursorAt(position: number): number {
  return Math.max(0, Math.floor(position / pruneStep) * pruneStep - eventWindow)
}

/** Collects the events of the command that is being applied, and keeps those that are not kept elsewhere. */
export class EventLog {
  private readonly sql: Statements
  private position = 0
  private ordinal = 0
  private collected: ChatEvent[] = []

  constructor(sql: Statements) {
    this.sql = sql
  }

  begin(position: number): void {
    this.position = position
    this.ordinal = 0
    if (this.collected.length > 0) this.collected = []
  }

  take(): readonly ChatEvent[] {
    if (this.collected.length === 0) return none
    const events = this.collected
    this.collected = []
    return events
  }

  /** The place of the next event. */
  get nextPlace(): number {
    return placeOf(this.position, this.ordinal)
  }

  emit(audience: Audience, event: NonNullable<Event['event']>): void {
    const bytes = encode(Event, { position: this.position, event })
    this.keep(audience, eventKind.whole, bytes)
    this.collected.push({ position: this.position, audience, bytes })
  }

  /** The message is kept in its table, at `nextPlace`. */
  emitMessage(message: Message): void {
    this.ordinal += 1
    this.collected.push(new MessageEvent(this.position, message))
  }

  /** Kept without its text, which a later edit or deletion must be able to erase. */
  emitEdited(message: Message): void {
    const audience: Audience = { kind: 'conversation', conversation: message.conversation }
    const reference = encode(MessageRef, { conversation: message.conversation, seq: message.seq })
    this.keep(audience, eventKind.edited, reference)
    const event = { $case: 'messageEdited', value: message } as const
    this.collected.push({
      position: this.position,
      audience,
      bytes: encode(Event, { position: this.position, event }),
    })
  }

  /** Kept without its text, as {@link emitEdited}. */
  emitDraft(account: number, event: Extract<Event['event'], { readonly $case: 'draft' }>): void {
    const audience: Audience = { kind: 'account', account }
    this.keep(audience, eventKind.draft, event.value.id)
    this.collected.push({
      position: this.position,
      audience,
      bytes: encode(Event, { position: this.position, event }),
    })
  }

  /** Drops the events that left the window between the two positions. */
  prune(before: number, after: number): void {
    const cursor = oldestCursorAt(after)
    if (cursor === oldestCursorAt(before)) return
    this.sql.of('DELETE FROM event WHERE place < ?').run(placeOf(cursor + 1, 0))
  }

  private keep(audience: Audience, kind: number, body: Uint8Array): void {
    this.sql
      .of('INSERT INTO event (place, audience, audience_id, kind, body) VALUES (?, ?, ?, ?, ?)')
      .run(this.nextPlace, audienceNumber(audience), audienceId(audience), kind, body)
    this.ordinal += 1
  }
}

const none: readonly ChatEvent[] = []

/** A message that was sent. Encoded on first use: on most replicas nobody is connected who gets it. */
export class MessageEvent implements ChatEvent {
  readonly position: number
  readonly audience: Audience
  private readonly message: Message
  private encoded: Uint8Array | null = null

  constructor(position: number, message: Message) {
    this.position = position
    this.audience = { kind: 'conversation', conversation: message.conversation }
    this.message = message
  }

  get bytes(): Uint8Array {
    this.encoded ??= encode(Event, {
      position: this.position,
      event: { $case: 'message', value: this.message },
    })
    return this.encoded
  }
}

function audienceNumber(audience: Audience): number {
  switch (audience.kind) {
    case 'conversation':
      return 1
    case 'account':
      return 2
    case 'all':
      return 3
    default:
      return unreachable(audience)
  }
}

function audienceId(audience: Audience): number {
  switch (audience.kind) {
    case 'conversation':
      return audience.conversation
    case 'account':
      return audience.account
    case 'all':
      return 0
    default:
      return unreachable(audience)
  }
}

export function audienceFrom(kind: number, id: number): Audience {
  if (kind === 1) return { kind: 'conversation', conversation: id }
  if (kind === 2) return { kind: 'account', account: id }
  return { kind: 'all' }
}

/** What an event is taken to hold whose text is kept elsewhere. */
const roughTextBytes = 4096

/**
 * A position with about `limit` events, or `maxBytes` of text, after `position` and up to there; `newest` when there are fewer. Positions are never cut in two.
 */
export function positionAfterEvents(
  sql: Statements,
  position: number,
  { limit, maxBytes }: { readonly limit: number; readonly maxBytes: number },
  newest: number,
): number {
  const from = placeOf(position + 1, 0)
  // Lengths are told without reading the texts.
  const ends = [
    'SELECT place, octet_length(text) AS bytes FROM message WHERE place >= ? ORDER BY place LIMIT ?',
    `SELECT place, iif(kind = ${eventKind.whole}, octet_length(body), ${roughTextBytes}) AS bytes FROM event WHERE place >= ? ORDER BY place LIMIT ?`,
  ].map((query) => {
    const rows = sql.of(query).all(from, limit)
    let bytes = 0
    for (const [i, row] of rows.entries()) {
      bytes += integer(row['bytes'])
      if (bytes >= maxBytes || i === limit - 1) return positionOfPlace(integer(row['place']))
    }
    return newest
  })
  return Math.min(newest, ...ends)
}
