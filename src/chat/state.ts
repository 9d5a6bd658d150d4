import type { Policy } from '../gen/parley/v1/model.ts'
import { Accounts, type AccountRow } from './accounts.ts'
import { Conversations } from './conversations.ts'
import { EventLog } from './events.ts'
import { Outcomes } from './idempotency.ts'
import { Messages } from './messages.ts'
import { Origins } from './origins.ts'
import { readPolicy, writePolicy } from './policies.ts'
import { Sessions, type SessionRow } from './sessions.ts'
import type { Sql } from './sql.ts'
import { integer, Statements } from './statements.ts'
import type { MembershipChange } from './types.ts'

/** Who asks, once the session was checked. */
export interface SignedInRows {
  readonly account: AccountRow
  readonly session: SessionRow
}

/** Everything that commands read and change: tables, with what is kept of them in memory, and the effects of the command that is being applied. */
export class State {
  readonly sql: Statements
  readonly accounts: Accounts
  readonly sessions: Sessions
  readonly conversations: Conversations
  readonly messages: Messages
  readonly outcomes: Outcomes
  readonly origins: Origins
  readonly events: EventLog

  /** Of the command that is being applied, or was last. */
  position = 0
  nowMs = 0
  /** Commands up to this version may be used. */
  version = 0
  private lastAccount = 0
  private lastSession = 0
  private lastConversation = 0
  private expired = 0
  private isCounterDirty = false
  private cachedPolicy: Policy | null = null

  private ended: number[] = []
  private membershipChanges: MembershipChange[] = []

  constructor(db: Sql) {
    this.sql = new Statements(db)
    this.accounts = new Accounts(this.sql)
    this.sessions = new Sessions(this.sql)
    this.conversations = new Conversations(this.sql)
    this.messages = new Messages(this.sql)
    this.outcomes = new Outcomes(this.sql)
    this.origins = new Origins(this.sql)
    this.events = new EventLog(this.sql)
    this.load()
  }

  get policy(): Policy {
    this.cachedPolicy ??= readPolicy(this.sql)
    return this.cachedPolicy
  }

  setPolicy(policy: Policy): void {
    writePolicy(this.sql, policy)
    this.cachedPolicy = policy
  }

  /** See the column expired_place in schema.ts. */
  get expiredPlace(): number {
    return this.expired
  }

  setExpiredPlace(place: number): void {
    this.expired = place
    this.isCounterDirty = true
  }

  setForgottenPosition(position: number): void {
    this.sql.of('UPDATE chat_state SET forgotten_position = ?').run(position)
  }

  raiseVersion(version: number): void {
    if (version <= this.version) return
    this.sql.of('UPDATE chat_state SET version = ?').run(version)
    this.version = version
  }

  /** The clock never runs backwards. */
  advanceClock(atMs: number): void {
    if (atMs > this.nowMs) this.nowMs = atMs
    this.isCounterDirty = true
  }

  beginCommand(): void {
    this.position += 1
    this.isCounterDirty = true
    this.events.begin(this.position)
    if (this.ended.length > 0) this.ended = []
    if (this.membershipChanges.length > 0) this.membershipChanges = []
  }

  nextAccount(): number {
    this.lastAccount += 1
    this.isCounterDirty = true
    return this.lastAccount
  }

  nextSession(): number {
    this.lastSession += 1
    this.isCounterDirty = true
    return this.lastSession
  }

  nextConversation(): number {
    this.lastConversation += 1
    this.isCounterDirty = true
    return this.lastConversation
  }

  noteEnded(session: number): void {
    this.ended.push(session)
  }

  noteMembership(change: MembershipChange): void {
    this.membershipChanges.push(change)
  }

  get endedSessions(): readonly number[] {
    return this.ended.length === 0 ? noNumbers : this.ended
  }

  get memberships(): readonly MembershipChange[] {
    return this.membershipChanges.length === 0 ? noMemberships : this.membershipChanges
  }

  /** Writes all that is in memory only. */
  flush(): void {
    this.messages.flush()
    this.outcomes.flush()
    this.accounts.flush()
    this.sessions.flush()
    this.conversations.flush()
    this.origins.flush()
    if (!this.isCounterDirty) return
    this.isCounterDirty = false
    this.sql
      .of(
        'UPDATE chat_state SET position = ?, now_ms = ?, last_account = ?, last_session = ?, last_conversation = ?, expired_place = ?',
      )
      .run(this.position, this.nowMs, this.lastAccount, this.lastSession, this.lastConversation, this.expired)
  }

  trim(): void {
    this.accounts.trim()
    this.sessions.trim()
    this.conversations.trim()
  }

  /** Forgets all that is in memory: the database was rolled back, or swapped. */
  reload(): void {
    this.sql.forget()
    this.messages.clear()
    this.accounts.clear()
    this.sessions.clear()
    this.conversations.clear()
    this.origins.clear()
    this.outcomes.clear()
    this.cachedPolicy = null
    this.load()
  }

  private load(): void {
    const row = this.sql.of('SELECT * FROM chat_state').get() ?? {}
    this.position = integer(row['position'])
    this.nowMs = integer(row['now_ms'])
    this.version = integer(row['version'])
    this.lastAccount = integer(row['last_account'])
    this.lastSession = integer(row['last_session'])
    this.lastConversation = integer(row['last_conversation'])
    this.expired = integer(row['expired_place'])
    this.isCounterDirty = false
    this.events.begin(this.position)
    this.ended = []
    this.membershipChanges = []
  }
}

const noNumbers: readonly number[] = []
const noMemberships: readonly MembershipChange[] = []
