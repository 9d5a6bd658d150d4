import { assert } from '../base/assert.ts'
import { ConversationKind } from '../gen/parley/v1/model.ts'
import { RowCache } from './row-cache.ts'
import { followsPolicy } from './schema.ts'
import type { SqlRow } from './sql.ts'
import { boolean, integer, string, type Statements } from './statements.ts'

export interface ConversationRow {
  readonly id: number
  readonly kind: ConversationKind
  readonly name: string
  readonly topic: string
  readonly private: boolean
  readonly owner: number
  /** The accounts of a direct conversation, else 0. */
  readonly low: number
  readonly high: number
  members: number
  lastSeq: number
  lastPosition: number
  /** Messages up to this number were removed for their age. */
  expiredUpTo: number
  /** In seconds; 0 = for ever, below 0 = as the policy says: see schema.ts. */
  retentionS: number
}

export interface MemberRow {
  readonly account: number
  readonly conversation: number
  readonly joinedPosition: number
  openedUpTo: number
  readUpTo: number
  ownUnopened: number
  ownUnread: number
}

export function conversationFromRow(row: SqlRow): ConversationRow {
  return {
    id: integer(row['id']),
    kind: kindFromNumber(integer(row['kind'])),
    name: string(row['name']),
    topic: string(row['topic']),
    private: boolean(row['private']),
    owner: integer(row['owner']),
    low: integer(row['low']),
    high: integer(row['high']),
    members: integer(row['members']),
    lastSeq: integer(row['last_seq']),
    lastPosition: integer(row['last_position']),
    expiredUpTo: integer(row['expired_up_to']),
    retentionS: integer(row['retention_s']),
  }
}

export function memberFromRow(row: SqlRow): MemberRow {
  return {
    account: integer(row['account']),
    conversation: integer(row['conversation']),
    joinedPosition: integer(row['joined_position']),
    openedUpTo: integer(row['opened_up_to']),
    readUpTo: integer(row['read_up_to']),
    ownUnopened: integer(row['own_unopened']),
    ownUnread: integer(row['own_unread']),
  }
}

/** The other account of a direct conversation. */
export function peerOf(conversation: ConversationRow, account: number): number {
  return conversation.low === account ? conversation.high : conversation.low
}

/** Both numbers in one, for maps: ids stay far below these limits. */
function pairKey(account: number, other: number): number {
  assert(account < 2 ** 26 && other < 2 ** 27, 'ids are small', { account, other })
  return account * 2 ** 27 + other
}

export class Conversations {
  private readonly sql: Statements
  private readonly cache: RowCache<ConversationRow>
  private readonly members: RowCache<MemberRow>
  private directs = new Map<number, number>()
  /** Rooms by name, as people write it. */
  private rooms = new Map<string, number>()
  /** How many rooms an account is in; of those that were asked for. */
  private roomCounts = new Map<number, number>()

  constructor(sql: Statements) {
    this.sql = sql
    this.cache = new RowCache<ConversationRow>({
      read: (id) => {
        const row = this.sql.of('SELECT * FROM conversation WHERE id = ?').get(id)
        return row === undefined ? null : conversationFromRow(row)
      },
      write: (row) => {
        this.sql
          .of(
            'UPDATE conversation SET members = ?, last_seq = ?, last_position = ?, expired_up_to = ? WHERE id = ?',
          )
          .run(row.members, row.lastSeq, row.lastPosition, row.expiredUpTo, row.id)
      },
    })
    this.members = new RowCache<MemberRow>({
      read: (key) => {
        const row = this.sql
          .of('SELECT * FROM member WHERE account = ? AND conversation = ?')
          .get(Math.floor(key / 2 ** 27), key % 2 ** 27)
        return row === undefined ? null : memberFromRow(row)
      },
      write: (row) => {
        this.sql
          .of(
            'UPDATE member SET opened_up_to = ?, read_up_to = ?, own_unopened = ?, own_unread = ? WHERE account = ? AND conversation = ?',
          )
          .run(row.openedUpTo, row.readUpTo, row.ownUnopened, row.ownUnread, row.account, row.conversation)
      },
    })
  }

  get(id: number): ConversationRow | null {
    return this.cache.get(id)
  }

  byRoomName(name: string): ConversationRow | null {
    let id = this.rooms.get(name)
    if (id === undefined) {
      const row = this.sql.of('SELECT id FROM conversation WHERE name_key = ?').get(name.toLowerCase())
      if (row === undefined) return null
      id = integer(row['id'])
      this.rooms.set(name, id)
    }
    return this.get(id)
  }

  direct(account: number, peer: number): ConversationRow | null {
    const low = Math.min(account, peer)
    const high = Math.max(account, peer)
    const key = pairKey(low, high)
    let id = this.directs.get(key)
    if (id === undefined) {
      const row = this.sql
        .of('SELECT id FROM conversation WHERE low = ? AND high = ? AND kind = 1')
        .get(low, high)
      if (row === undefined) return null
      id = integer(row['id'])
      this.directs.set(key, id)
    }
    return this.get(id)
  }

  insert(row: ConversationRow): void {
    this.sql
      .of(
        `INSERT INTO conversation (id, kind, name, name_key, topic, private, owner, low, high, members, last_seq, last_position) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(
        row.id,
        numberFromKind(row.kind),
        row.name,
        row.kind === ConversationKind.ROOM ? row.name.toLowerCase() : null,
        row.topic,
        Number(row.private),
        row.owner,
        row.low,
        row.high,
        row.members,
        row.lastSeq,
        row.lastPosition,
      )
    this.cache.add(row.id, row)
  }

  /** Rare, and found by an index: so it is written at once. */
  setRetention(row: ConversationRow, retentionS: number): void {
    row.retentionS = retentionS
    this.sql.of('UPDATE conversation SET retention_s = ? WHERE id = ?').run(retentionS, row.id)
  }

  /** Conversations with messages that have, or had, a retention of their own. Only when all is flushed. */
  withRetention(): readonly number[] {
    return this.sql
      .of(
        `SELECT id FROM conversation WHERE retention_s <> ${followsPolicy} AND last_seq > expired_up_to ORDER BY id`,
      )
      .all()
      .map((row) => integer(row['id']))
  }

  changed(row: ConversationRow): void {
    this.cache.changed(row)
  }

  /** Nobody can enter it any more: another room may take the name. */
  freeName(row: ConversationRow): void {
    this.sql.of('UPDATE conversation SET name_key = NULL WHERE id = ?').run(row.id)
    this.rooms = new Map()
  }

  member(account: number, conversation: number): MemberRow | null {
    return account >= 2 ** 26 || conversation >= 2 ** 27
      ? null
      : this.members.get(pairKey(account, conversation))
  }

  memberChanged(row: MemberRow): void {
    this.members.changed(row)
  }

  /** A new member starts at the present end: with nothing unread and an empty inbox. */
  addMember(account: number, conversation: ConversationRow, position: number): void {
    const row: MemberRow = {
      account,
      conversation: conversation.id,
      joinedPosition: position,
      openedUpTo: conversation.lastSeq,
      readUpTo: conversation.lastSeq,
      ownUnopened: 0,
      ownUnread: 0,
    }
    this.sql
      .of(
        'INSERT INTO member (account, conversation, joined_position, opened_up_to, read_up_to) VALUES (?, ?, ?, ?, ?)',
      )
      .run(row.account, row.conversation, row.joinedPosition, row.openedUpTo, row.readUpTo)
    this.members.add(pairKey(account, conversation.id), row)
    this.countRoom(account, conversation, 1)
    conversation.members += 1
    this.changed(conversation)
  }

  removeMember(account: number, conversation: ConversationRow): void {
    this.sql.of('DELETE FROM mark WHERE account = ? AND conversation = ?').run(account, conversation.id)
    this.sql.of('DELETE FROM member WHERE account = ? AND conversation = ?').run(account, conversation.id)
    this.members.remove(pairKey(account, conversation.id))
    this.countRoom(account, conversation, -1)
    conversation.members -= 1
    this.changed(conversation)
  }

  ofAccount(account: number): readonly number[] {
    return this.sql
      .of('SELECT conversation FROM member WHERE account = ? ORDER BY conversation')
      .all(account)
      .map((row) => integer(row['conversation']))
  }

  /** `#everyone` and direct conversations are none. */
  roomsOf(account: number): number {
    const known = this.roomCounts.get(account)
    if (known !== undefined) return known
    const row = this.sql
      .of(
        'SELECT count(*) AS n FROM member m JOIN conversation c ON c.id = m.conversation WHERE m.account = ? AND c.kind = ?',
      )
      .get(account, numberFromKind(ConversationKind.ROOM))
    const count = integer(row?.['n'])
    this.roomCounts.set(account, count)
    return count
  }

  flush(): void {
    this.cache.flush()
    this.members.flush()
  }

  trim(): void {
    this.cache.trim()
    this.members.trim()
    if (this.directs.size > 50_000) this.directs = new Map()
    if (this.rooms.size > 50_000) this.rooms = new Map()
    if (this.roomCounts.size > 50_000) this.roomCounts = new Map()
  }

  clear(): void {
    this.cache.clear()
    this.members.clear()
    this.directs = new Map()
    this.rooms = new Map()
    this.roomCounts = new Map()
  }

  private countRoom(account: number, { kind }: ConversationRow, change: 1 | -1): void {
    const known = this.roomCounts.get(account)
    if (known !== undefined && kind === ConversationKind.ROOM) this.roomCounts.set(account, known + change)
  }
}

function kindFromNumber(kind: number): ConversationKind {
  switch (kind) {
    case 1:
      return ConversationKind.DIRECT
    case 2:
      return ConversationKind.ROOM
    default:
      assert(kind === 3, 'a conversation has a known kind', { kind })
      return ConversationKind.EVERYONE
  }
}

function numberFromKind(kind: ConversationKind): number {
  switch (kind) {
    case ConversationKind.DIRECT:
      return 1
    case ConversationKind.ROOM:
      return 2
    default:
      return 3
  }
}
