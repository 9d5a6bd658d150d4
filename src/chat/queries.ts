import type {
  Account,
  Conversation,
  Draft,
  Message,
  Policy,
  Session,
  Target,
} from '../gen/parley/v1/model.ts'
import type { GetInboxResponse, Marks } from '../gen/parley/v1/service.ts'
import type { Audience } from './types.ts'

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

/** Reads of the applied state. Pages have at most 500 items. An account that may not see something gets what a stranger gets: null or nothing. */
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
  accounts(pattern: string, pageSize: number, pageToken: string): Page<Account>
  sessions(account: number): readonly Session[]
  conversations(account: number, pageSize: number, pageToken: string): Page<Conversation>
  /** Null when there is none or the account may not know of it. A direct conversation that was never used is null too. */
  conversation(account: number, target: Target): Conversation | null
  rooms(account: number, pattern: string, pageSize: number, pageToken: string): Page<Conversation>
  members(account: number, conversation: number, pageSize: number, pageToken: string): Page<Account> | null
  /** In order of seq. Null when the account is not a member. */
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
  drafts(account: number): readonly Draft[]
  /** Whether the account gets events of this audience now. */
  isInAudience(account: number, audience: Audience): boolean
  /** Members that are not to be looked up one by one: the conversations of an account. */
  conversationIds(account: number): readonly number[]
  /** Events after `position`, oldest first, of anybody; at most `limit`. */
  eventsAfter(position: number, limit: number): readonly StoredEvent[]
  /** Replicas, by incarnation, through which some session is shown as connected. */
  presentReplicas(): readonly { readonly replica: number; readonly incarnation: number }[]
  /** Whether `EndSessions` with this time would end any session: one expired, or was idle for longer than the policy allows. */
  sessionsDue(atMs: number): boolean
  /** Events up to here are no longer kept. */
  oldestCursor(): number
}
