import { encode } from '../base/encode.ts'
import { Event, type GetInboxResponse, type JoinToken, type Marks } from '../gen/parley/v1/service.ts'
import {
  ConversationKind,
  MessageRef,
  type Account,
  type Conversation,
  type Draft,
  type Message,
  type Policy,
  type Session,
  type Target,
} from '../gen/parley/v1/model.ts'
import { toHex } from '../base/bytes.ts'
import { accountFromRow, nameKey, viewAccount, type AccountRow } from './accounts.ts'
import {
  conversationFromRow,
  memberFromRow,
  peerOf,
  type ConversationRow,
  type MemberRow,
} from './conversations.ts'
import { conversationsWithNews, countInbox, countUnopened, readMarks } from './counts.ts'
import { draftFromRow, findDraft } from './drafts.ts'
import { audienceFrom, eventKind, MessageEvent, oldestCursorAt, positionAfterEvents } from './events.ts'
import { exportPage, type ExportPage, type ExportScope } from './export.ts'
import { literalPrefix, matchesGlob } from './glob.ts'
import { isJoinToken, listJoinTokens } from './join-tokens.ts'
import { maxPageBytes, utf8Length } from './limits.ts'
import { messageFromRow, placeOf, positionOfPlace, viewMessage, type MessageRow } from './messages.ts'
import { readPolicy } from './policies.ts'
import { idleSince } from './presence.ts'
import { expiryDue, isExpiryDue, type Due } from './retention.ts'
import type { SqlRow, SqlValue } from './sql.ts'
import { blob, integer, string, type Statements } from './statements.ts'
import type { Audience } from './types.ts'
import { viewConversationOf } from './views.ts'

/** What `Authenticate` needs: the session behind a token's SHA-256, when it is signed in now. */
export interface SignedIn {
  readonly account: number
  readonly session: number
}

export interface Page<T> {
  readonly items: readonly T[]
  readonly nextPageToken: string
}

export interface StoredEvent {
  readonly position: number
  readonly audience: Audience
  readonly bytes: Uint8Array
}

/** A message that was sent, edited or deleted: what an index of texts follows. */
export interface MessageChange {
  /** Names the message, the same on every replica. Larger for messages that were sent later. */
  readonly place: number
  readonly conversation: number
  readonly seq: number
  /** As it is now: empty when the message was deleted for all. */
  readonly text: string
  /** Of the newest change that is reported here. */
  readonly position: number
}

/** Reads of the applied state. Pages have at most 500 items, of conversations 100. An account that may not see something gets what a stranger gets: null or nothing. */
export interface ChatQueries {
  session(tokenHash: Uint8Array): SignedIn | null
  sessionExists(session: number): boolean
  accountByName(name: string): Account | null
  account(id: number): Account | null
  /** For checking a password. */
  credentials(
    name: string,
  ): { readonly account: number; readonly passwordHash: string; readonly passwordVersion: number } | null
  policy(): Policy
  /** Tokens with which replicas join, the oldest first. */
  joinTokens(): readonly JoinToken[]
  /** Whether there is, or was lately, a token with this secret. */
  isJoinToken(secretHash: Uint8Array): boolean
  /** A page may have fewer items than asked for, or none, and still a token of the next one: when few names match. */
  accounts(pattern: string, pageSize: number, pageToken: string): Page<Account>
  sessions(account: number): readonly Session[]
  conversations(account: number, pageSize: number, pageToken: string): Page<Conversation>
  /** Null when there is none or the account may not know of it. A direct conversation that was never used is null too. */
  conversation(account: number, target: Target): Conversation | null
  /** As {@link accounts}. Public rooms, and private ones that the account is in. */
  rooms(account: number, pattern: string, pageSize: number, pageToken: string): Page<Conversation>
  members(account: number, conversation: number, pageSize: number, pageToken: string): Page<Account> | null
  /**
   * In order of seq. Null when the account is not a member. With `beforeSeq` 0 and `afterSeq` 0 the newest; with `afterSeq` those after it, else those before `beforeSeq`.
   * Large texts make a page shorter.
   */
  messages(
    account: number,
    conversation: number,
    range: { readonly beforeSeq: number; readonly afterSeq: number; readonly pageSize: number },
  ): {
    readonly messages: readonly Message[]
    readonly more: boolean
    readonly marks: Marks
    readonly firstSeq: number
    readonly lastSeq: number
  } | null
  inbox(account: number): GetInboxResponse
  inboxCount(account: number): number
  /** Newest change first. Large texts make a page shorter. */
  drafts(account: number, pageSize: number, pageToken: string): Page<Draft>
  /**
   * Whether the account gets an event of this audience and position. Membership is that of now: who has left gets nothing of the conversation any more, and who has joined gets
   * nothing from before.
   */
  isInAudience(account: number, audience: Audience, position: number): boolean
  /** Members that are not to be looked up one by one: the conversations of an account. */
  conversationIds(account: number): readonly number[]
  /**
   * Events after `position`, oldest first, of anybody: about `limit` of them or `maxBytes` of text, unless there are fewer, and never only some of those of one position. They are what was given out when
   * they were applied, except that messages and drafts show what they are now: a text that was overtaken or deleted since is not shown again, and drafts that are gone are
   * left out (the event that tells so follows). All events up to `upTo` are among them: go on from there.
   */
  eventsAfter(
    position: number,
    slice: { readonly limit: number; readonly maxBytes: number },
  ): { readonly events: readonly StoredEvent[]; readonly upTo: number }
  /**
   * Messages that were sent, edited or deleted after `position`, oldest change first: at least `limit` unless there are fewer, and never only some of those of one position.
   * A message that changed several times since may come only once, at its newest change. One that was removed for its age comes without a text, a conversation and a number.
   */
  messagesChangedAfter(position: number, limit: number): readonly MessageChange[]
  /** Those of the messages that the account may see, as it sees them, in the order asked for. */
  messagesAt(account: number, places: readonly number[]): readonly Message[]
  /** Replicas, by incarnation, through which some session is shown as connected. */
  presentReplicas(): readonly { readonly replica: number; readonly incarnation: number }[]
  /** How often a replica had started when it took in the newest command that came through it; 0: none has. */
  incarnationOf(replica: number): number
  /** Whether `EndSessions` with this time would end any session: one expired, or was idle for longer than the policy allows. */
  sessionsDue(atMs: number): boolean
  /** Events up to here are no longer kept. */
  oldestCursor(): number
  /** A page of what is stored; null when the token makes no sense. See {@link exportPage}. */
  exported(scope: ExportScope, pageToken: string): ExportPage | null
  /** Whether `ExpireMessages` with this time would remove any message. */
  isExpiryDue(atMs: number): boolean
  /** What it would remove; it looks at 1000 messages. */
  expiryDue(atMs: number): Due
  /** Messages that were removed for their age at positions up to this one are not among {@link messagesChangedAfter} any more. */
  removalsForgottenUpTo(): number
}

/** Conversations that the inbox names; what waits in others is only counted. */
const maxInboxConversations = 100
/** Messages that are read at once: few enough that large ones do no harm. */
const messagesAtOnce = 64
/** Rows of a page are looked at up to this number, so that a pattern that matches little takes no time either. */
const maxScanned = 5000
const rowsAtOnce = 200

/** @param sql over a database whose tables exist and in which all is flushed; a connection that only reads will do. */
export function openQueries(sql: Statements): ChatQueries {
  return new Queries(sql)
}

class Queries implements ChatQueries {
  private readonly sql: Statements

  constructor(sql: Statements) {
    this.sql = sql
  }

  session(tokenHash: Uint8Array): SignedIn | null {
    const row = this.get(
      'SELECT id, account FROM session WHERE token_hash = ? AND expires_at_ms > (SELECT now_ms FROM chat_state)',
      tokenHash,
    )
    return row === undefined ? null : { account: integer(row['account']), session: integer(row['id']) }
  }

  sessionExists(session: number): boolean {
    return this.get('SELECT 1 FROM session WHERE id = ?', session) !== undefined
  }

  accountByName(name: string): Account | null {
    const row = this.get('SELECT * FROM account WHERE name_key = ?', nameKey(name))
    return row === undefined ? null : viewAccount(accountFromRow(row))
  }

  account(id: number): Account | null {
    const row = this.accountRow(id)
    return row === null ? null : viewAccount(row)
  }

  credentials(
    name: string,
  ): { readonly account: number; readonly passwordHash: string; readonly passwordVersion: number } | null {
    const row = this.get('SELECT * FROM account WHERE name_key = ?', nameKey(name))
    if (row === undefined) return null
    const { id, passwordHash, passwordVersion } = accountFromRow(row)
    return { account: id, passwordHash, passwordVersion }
  }

  policy(): Policy {
    return readPolicy(this.sql)
  }

  joinTokens(): readonly JoinToken[] {
    return listJoinTokens(this.sql)
  }

  isJoinToken(secretHash: Uint8Array): boolean {
    return isJoinToken(this.sql, secretHash)
  }

  accounts(pattern: string, pageSize: number, pageToken: string): Page<Account> {
    return this.namesPage(
      { pattern, pageSize, pageToken },
      (from, after, limit) =>
        this.all(
          'SELECT id, name_key FROM account WHERE name_key >= ? AND name_key > ? ORDER BY name_key LIMIT ?',
          from,
          after,
          limit,
        ),
      (id) => this.account(id),
    )
  }

  sessions(account: number): readonly Session[] {
    return this.all(
      `SELECT s.*, EXISTS (SELECT 1 FROM presence p WHERE p.session = s.id) AS online FROM session s
       WHERE account = ? AND expires_at_ms > (SELECT now_ms FROM chat_state) ORDER BY last_active_at_ms DESC, id DESC`,
      account,
    ).map((row) => ({
      id: integer(row['id']),
      device: string(row['device']),
      createdAtMs: integer(row['created_at_ms']),
      lastActiveAtMs: integer(row['last_active_at_ms']),
      expiresAtMs: integer(row['expires_at_ms']),
      current: false,
      online: integer(row['online']) === 1,
    }))
  }

  conversations(account: number, pageSize: number, pageToken: string): Page<Conversation> {
    const [position, id] = pageToken.split('.').map(Number)
    const rows = this.all(
      `SELECT * FROM member m JOIN conversation c ON c.id = m.conversation WHERE m.account = ? AND (c.last_position, c.id) < (?, ?)
       ORDER BY c.last_position DESC, c.id DESC LIMIT ?`,
      account,
      finite(position, Number.MAX_SAFE_INTEGER),
      finite(id, Number.MAX_SAFE_INTEGER),
      pageSize + 1,
    )
    const shown = rows.slice(0, pageSize)
    const end = shown.at(-1)
    const last = end === undefined ? undefined : conversationFromRow(end)
    const names = this.nameReader()
    return {
      items: shown.map((row) =>
        this.viewConversation(account, conversationFromRow(row), memberFromRow(row), names),
      ),
      nextPageToken: rows.length > pageSize && last !== undefined ? `${last.lastPosition}.${last.id}` : '',
    }
  }

  conversation(account: number, target: Target): Conversation | null {
    const row = this.find(account, target)
    if (row === null) return null
    const isPublic =
      row.kind === ConversationKind.EVERYONE || (row.kind === ConversationKind.ROOM && !row.private)
    if (!isPublic && this.member(account, row.id) === null) return null
    return this.viewConversation(account, row)
  }

  rooms(account: number, pattern: string, pageSize: number, pageToken: string): Page<Conversation> {
    return this.namesPage(
      { pattern, pageSize, pageToken },
      // Only those that the account may see, since a page token is the name of one that was looked at. To pass over 100,000 others takes about 60 ms.
      (from, after, limit) =>
        this.all(
          `SELECT id, name_key FROM conversation c WHERE name_key >= ? AND name_key > ?
           AND (private = 0 OR EXISTS (SELECT 1 FROM member m WHERE m.account = ? AND m.conversation = c.id))
           ORDER BY name_key LIMIT ?`,
          from,
          after,
          account,
          limit,
        ),
      (id) => {
        const room = this.conversationRow(id)
        return room?.kind === ConversationKind.ROOM ? this.viewConversation(account, room) : null
      },
    )
  }

  members(account: number, conversation: number, pageSize: number, pageToken: string): Page<Account> | null {
    if (this.member(account, conversation) === null) return null
    const rows = this.all(
      'SELECT a.* FROM member m JOIN account a ON a.id = m.account WHERE m.conversation = ? AND m.account > ? ORDER BY m.account LIMIT ?',
      conversation,
      finite(Number(pageToken), 0),
      pageSize + 1,
    )
    const items = rows.slice(0, pageSize).map((row) => viewAccount(accountFromRow(row)))
    return { items, nextPageToken: rows.length > pageSize ? String(items.at(-1)?.id ?? '') : '' }
  }

  messages(
    account: number,
    conversation: number,
    range: { readonly beforeSeq: number; readonly afterSeq: number; readonly pageSize: number },
  ): ReturnType<ChatQueries['messages']> {
    const member = this.member(account, conversation)
    const row = this.conversationRow(conversation)
    if (member === null || row === null) return null
    const forwards = range.afterSeq > 0
    const page = this.messageRows(conversation, range)
    const shown = forwards ? page.rows : page.rows.toReversed()
    const hidden = new Set(
      shown.length === 0
        ? []
        : this.all(
            'SELECT seq FROM hidden WHERE account = ? AND conversation = ? AND seq BETWEEN ? AND ?',
            account,
            conversation,
            shown[0]?.seq ?? 0,
            shown.at(-1)?.seq ?? 0,
          ).map((found) => integer(found['seq'])),
    )
    const marks = readMarks(this.sql, row, member)
    const view = this.messageViewer(account, marks)
    return {
      messages: shown.filter(({ seq }) => !hidden.has(seq)).map(view),
      more: page.more,
      marks,
      firstSeq: shown[0]?.seq ?? 0,
      lastSeq: shown.at(-1)?.seq ?? 0,
    }
  }

  inbox(account: number): GetInboxResponse {
    const conversations = []
    for (const id of conversationsWithNews(this.sql, account)) {
      const conversation = this.conversationRow(id)
      const member = this.member(account, id)
      if (conversation === null || member === null) continue
      const count = countUnopened(this.sql, conversation, member)
      if (count === 0) continue
      const { name } = this.shape(account, conversation)
      conversations.push({ conversation: id, name, kind: conversation.kind, count })
      if (conversations.length === maxInboxConversations) break
    }
    return { count: countInbox(this.sql, account), conversations }
  }

  inboxCount(account: number): number {
    return countInbox(this.sql, account)
  }

  drafts(account: number, pageSize: number, pageToken: string): Page<Draft> {
    const [updatedAtMs, id = ''] = pageToken.split('.')
    const keys = this.all(
      'SELECT id, updated_at_ms FROM draft WHERE account = ? AND (updated_at_ms, id) < (?, unhex(?)) ORDER BY updated_at_ms DESC, id DESC LIMIT ?',
      account,
      finite(Number(updatedAtMs), Number.MAX_SAFE_INTEGER),
      id,
      pageSize + 1,
    )
    const items: Draft[] = []
    let bytes = 0
    let token = ''
    for (const key of keys) {
      const draft = findDraft(this.sql, account, blob(key['id']))
      if (draft === null) continue
      bytes += utf8Length(draft.text)
      if (items.length === pageSize || (bytes > maxPageBytes && items.length > 0))
        return { items, nextPageToken: token }
      items.push(draft)
      token = `${draft.updatedAtMs}.${toHex(draft.id)}`
    }
    return { items, nextPageToken: '' }
  }

  isInAudience(account: number, audience: Audience, position: number): boolean {
    switch (audience.kind) {
      case 'all':
        return true
      case 'account':
        return audience.account === account
      case 'conversation': {
        const member = this.member(account, audience.conversation)
        return member !== null && member.joinedPosition <= position
      }
    }
  }

  conversationIds(account: number): readonly number[] {
    return this.all('SELECT conversation FROM member WHERE account = ? ORDER BY conversation', account).map(
      (row) => integer(row['conversation']),
    )
  }

  eventsAfter(
    position: number,
    slice: { readonly limit: number; readonly maxBytes: number },
  ): { readonly events: readonly StoredEvent[]; readonly upTo: number } {
    const upTo = positionAfterEvents(this.sql, position, slice, this.position())
    if (upTo <= position) return { events: [], upTo: position }
    const from = placeOf(position + 1, 0)
    const end = placeOf(upTo + 1, 0)
    const names = this.nameReader()
    const found: { readonly place: number; readonly event: StoredEvent }[] = []
    for (const row of this.all('SELECT * FROM message WHERE place >= ? AND place < ?', from, end)) {
      const message = messageFromRow(row)
      found.push({
        place: message.place,
        event: new MessageEvent(
          positionOfPlace(message.place),
          viewMessage(message, names(message.sender), false),
        ),
      })
    }
    for (const row of this.all('SELECT * FROM event WHERE place >= ? AND place < ?', from, end)) {
      const event = this.restoreEvent(row)
      if (event !== null) found.push({ place: integer(row['place']), event })
    }
    return { events: found.sort((a, b) => a.place - b.place).map(({ event }) => event), upTo }
  }

  messagesChangedAfter(position: number, limit: number): readonly MessageChange[] {
    const from = placeOf(position + 1, 0)
    const sentEnd = this.get(
      'SELECT place FROM message WHERE place >= ? ORDER BY place LIMIT 1 OFFSET ?',
      from,
      limit - 1,
    )
    // `> 0` lets SQLite use the index, which holds changed messages only; else it would look at every message there is.
    const changedEnd = this.get(
      'SELECT changed_position AS position FROM message WHERE changed_position > 0 AND changed_position > ? ORDER BY changed_position LIMIT 1 OFFSET ?',
      position,
      limit - 1,
    )
    const removedEnd = this.get(
      'SELECT position FROM removed WHERE position > ? ORDER BY position, place LIMIT 1 OFFSET ?',
      position,
      limit - 1,
    )
    const upTo = Math.min(
      this.position(),
      removedEnd === undefined ? Infinity : integer(removedEnd['position']),
      sentEnd === undefined ? Infinity : positionOfPlace(integer(sentEnd['place'])),
      changedEnd === undefined ? Infinity : integer(changedEnd['position']),
    )
    const sent = this.all(
      'SELECT * FROM message WHERE place >= ? AND place < ?',
      from,
      placeOf(upTo + 1, 0),
    ).map(messageFromRow)
    const changed = this.all(
      'SELECT * FROM message WHERE changed_position > 0 AND changed_position > ? AND changed_position <= ?',
      position,
      upTo,
    ).map(messageFromRow)
    const changes = new Map<number, MessageChange>()
    for (const row of [...sent, ...changed]) {
      const sentPosition = positionOfPlace(row.place)
      // A change after `upTo` is reported again, later.
      const changedPosition = row.changedPosition > upTo ? 0 : row.changedPosition
      changes.set(row.place, {
        place: row.place,
        conversation: row.conversation,
        seq: row.seq,
        text: row.text,
        position: Math.max(sentPosition, changedPosition),
      })
    }
    for (const row of this.all(
      'SELECT position, place FROM removed WHERE position > ? AND position <= ?',
      position,
      upTo,
    )) {
      const place = integer(row['place'])
      changes.set(place, { place, conversation: 0, seq: 0, text: '', position: integer(row['position']) })
    }
    return [...changes.values()].sort((a, b) => a.position - b.position || a.place - b.place)
  }

  messagesAt(account: number, places: readonly number[]): readonly Message[] {
    const viewers = new Map<number, ((row: MessageRow) => Message) | null>()
    const messages: Message[] = []
    for (const place of places) {
      const row = this.get('SELECT * FROM message WHERE place = ?', place)
      if (row === undefined) continue
      const message = messageFromRow(row)
      let viewer = viewers.get(message.conversation)
      if (viewer === undefined) {
        viewer = this.viewerOf(account, message.conversation)
        viewers.set(message.conversation, viewer)
      }
      const isHidden =
        this.get(
          'SELECT 1 FROM hidden WHERE account = ? AND conversation = ? AND seq = ?',
          account,
          message.conversation,
          message.seq,
        ) !== undefined
      if (viewer !== null && !isHidden) messages.push(viewer(message))
    }
    return messages
  }

  presentReplicas(): readonly { readonly replica: number; readonly incarnation: number }[] {
    return this.all('SELECT DISTINCT replica, incarnation FROM presence ORDER BY replica, incarnation').map(
      (row) => ({ replica: integer(row['replica']), incarnation: integer(row['incarnation']) }),
    )
  }

  incarnationOf(replica: number): number {
    const row = this.get('SELECT incarnation FROM origin WHERE replica = ?', replica)
    return row === undefined ? 0 : integer(row['incarnation'])
  }

  sessionsDue(atMs: number): boolean {
    const state = this.get('SELECT now_ms, version FROM chat_state')
    const nowMs = Math.max(atMs, integer(state?.['now_ms']))
    const idleSinceMs = idleSince(nowMs, this.policy().idleLogoutS, integer(state?.['version']))
    return (
      this.get('SELECT 1 FROM session WHERE expires_at_ms <= ? LIMIT 1', nowMs) !== undefined ||
      this.get('SELECT 1 FROM session WHERE last_active_at_ms < ? LIMIT 1', idleSinceMs) !== undefined
    )
  }

  exported(scope: ExportScope, pageToken: string): ExportPage | null {
    return exportPage(this.sql, scope, pageToken)
  }

  isExpiryDue(atMs: number): boolean {
    return isExpiryDue(this.sql, atMs)
  }

  expiryDue(atMs: number): Due {
    return expiryDue(this.sql, atMs, 1000)
  }

  removalsForgottenUpTo(): number {
    return integer(this.get('SELECT forgotten_position FROM chat_state')?.['forgotten_position'])
  }

  oldestCursor(): number {
    return oldestCursorAt(this.position())
  }

  private position(): number {
    return integer(this.get('SELECT position FROM chat_state')?.['position'])
  }

  private find(account: number, { target }: Target): ConversationRow | null {
    switch (target?.$case) {
      case undefined:
        return null
      case 'conversation':
        return this.conversationRow(target.value)
      case 'room': {
        const row = this.get('SELECT * FROM conversation WHERE name_key = ?', target.value.toLowerCase())
        return row === undefined ? null : conversationFromRow(row)
      }
      case 'account': {
        const peer = this.get('SELECT id FROM account WHERE name_key = ?', nameKey(target.value))
        if (peer === undefined) return null
        const id = integer(peer['id'])
        const row = this.get(
          'SELECT * FROM conversation WHERE low = ? AND high = ? AND kind = 1',
          Math.min(account, id),
          Math.max(account, id),
        )
        return row === undefined ? null : conversationFromRow(row)
      }
    }
  }

  /** Without what depends on how much was read. */
  private shape(account: number, row: ConversationRow): Conversation {
    const peer = row.kind === ConversationKind.DIRECT ? this.accountRow(peerOf(row, account)) : null
    return viewConversationOf(row, peer)
  }

  private viewConversation(
    account: number,
    row: ConversationRow,
    member = this.member(account, row.id),
    names = this.nameReader(),
  ): Conversation {
    const shape = this.shape(account, row)
    if (member === null) return { ...shape, member: false }
    const last = this.get(
      `SELECT * FROM message m WHERE conversation = ? AND seq <= ?
       AND NOT EXISTS (SELECT 1 FROM hidden h WHERE h.account = ? AND h.conversation = m.conversation AND h.seq = m.seq)
       ORDER BY seq DESC LIMIT 1`,
      row.id,
      row.lastSeq,
      account,
    )
    const marks = readMarks(this.sql, row, member)
    const view = this.messageViewer(account, marks, names)
    return {
      ...shape,
      lastMessage: last === undefined ? undefined : view(messageFromRow(last)),
      readUpTo: marks.readUpTo,
      openedUpTo: marks.openedUpTo,
      unread: marks.unreadCount,
      unopened: marks.unopenedCount,
    }
  }

  private viewerOf(account: number, conversation: number): ((row: MessageRow) => Message) | null {
    const member = this.member(account, conversation)
    const row = this.conversationRow(conversation)
    if (member === null || row === null) return null
    return this.messageViewer(account, readMarks(this.sql, row, member))
  }

  private messageViewer(
    account: number,
    marks: Marks,
    names = this.nameReader(),
  ): (row: MessageRow) => Message {
    const read = new Set(marks.read)
    const unread = new Set(marks.unread)
    return (row) => {
      const isRead =
        row.sender === account || (row.seq <= marks.readUpTo ? !unread.has(row.seq) : read.has(row.seq))
      return viewMessage(row, names(row.sender), isRead)
    }
  }

  private nameReader(): (account: number) => string {
    const names = new Map<number, string>()
    return (account) => {
      const known = names.get(account)
      if (known !== undefined) return known
      const name = this.accountRow(account)?.name ?? ''
      names.set(account, name)
      return name
    }
  }

  private messageRows(
    conversation: number,
    range: { readonly beforeSeq: number; readonly afterSeq: number; readonly pageSize: number },
  ): { readonly rows: readonly MessageRow[]; readonly more: boolean } {
    const forwards = range.afterSeq > 0
    const query = forwards
      ? 'SELECT * FROM message WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?'
      : 'SELECT * FROM message WHERE conversation = ? AND seq < ? ORDER BY seq DESC LIMIT ?'
    let from = forwards ? range.afterSeq : range.beforeSeq > 0 ? range.beforeSeq : Number.MAX_SAFE_INTEGER
    const rows: MessageRow[] = []
    let bytes = 0
    for (;;) {
      const limit = Math.min(messagesAtOnce, range.pageSize + 1 - rows.length)
      const found = this.all(query, conversation, from, limit)
      for (const row of found.map(messageFromRow)) {
        bytes += utf8Length(row.text)
        if (rows.length === range.pageSize || (bytes > maxPageBytes && rows.length > 0))
          return { rows, more: true }
        rows.push(row)
        from = row.seq
      }
      if (found.length < limit) return { rows, more: false }
    }
  }

  private restoreEvent(row: SqlRow): StoredEvent | null {
    const position = positionOfPlace(integer(row['place']))
    const audience = audienceFrom(integer(row['audience']), integer(row['audience_id']))
    const body = blob(row['body'])
    const kind = integer(row['kind'])
    if (kind === eventKind.whole) return { position, audience, bytes: body }
    const event =
      kind === eventKind.edited
        ? this.restoreEdited(body)
        : this.restoreDraft(integer(row['audience_id']), body)
    if (event === null) return null
    return { position, audience, bytes: encode(Event, { position, event }) }
  }

  private restoreEdited(body: Uint8Array): Event['event'] | null {
    const { conversation, seq } = MessageRef.decode(body)
    const row = this.get('SELECT * FROM message WHERE conversation = ? AND seq = ?', conversation, seq)
    if (row === undefined) return null
    const message = messageFromRow(row)
    const senderName = this.accountRow(message.sender)?.name ?? ''
    return { $case: 'messageEdited', value: viewMessage(message, senderName, false) }
  }

  private restoreDraft(account: number, id: Uint8Array): Event['event'] | null {
    const row = this.get('SELECT * FROM draft WHERE account = ? AND id = ?', account, id)
    return row === undefined ? null : { $case: 'draft', value: draftFromRow(row) }
  }

  /** A page of what has a name in `name_key`, in its order. `read` gives rows that the asker may see. */
  private namesPage<T>(
    asked: { readonly pattern: string; readonly pageSize: number; readonly pageToken: string },
    read: (from: string, after: string, limit: number) => readonly SqlRow[],
    view: (id: number) => T | null,
  ): Page<T> {
    const key = asked.pattern.toLowerCase()
    const prefix = literalPrefix(key)
    const items: T[] = []
    let after = asked.pageToken
    for (let scanned = 0; scanned < maxScanned; scanned += rowsAtOnce) {
      const rows = read(prefix, after, rowsAtOnce)
      for (const row of rows) {
        after = string(row['name_key'])
        if (!after.startsWith(prefix)) return { items, nextPageToken: '' }
        const item = matchesGlob(key, after) ? view(integer(row['id'])) : null
        if (item === null) continue
        items.push(item)
        if (items.length === asked.pageSize) return { items, nextPageToken: after }
      }
      if (rows.length < rowsAtOnce) return { items, nextPageToken: '' }
    }
    return { items, nextPageToken: after }
  }

  private accountRow(id: number): AccountRow | null {
    const row = this.get('SELECT * FROM account WHERE id = ?', id)
    return row === undefined ? null : accountFromRow(row)
  }

  private conversationRow(id: number): ConversationRow | null {
    const row = this.get('SELECT * FROM conversation WHERE id = ?', id)
    return row === undefined ? null : conversationFromRow(row)
  }

  private member(account: number, conversation: number): MemberRow | null {
    const row = this.get('SELECT * FROM member WHERE account = ? AND conversation = ?', account, conversation)
    return row === undefined ? null : memberFromRow(row)
  }

  private get(query: string, ...values: SqlValue[]): SqlRow | undefined {
    return this.sql.of(query).get(...values)
  }

  private all(query: string, ...values: SqlValue[]): SqlRow[] {
    return this.sql.of(query).all(...values)
  }
}

function finite(value: number | undefined, otherwise: number): number {
  return value !== undefined && Number.isFinite(value) && value > 0 ? value : otherwise
}
