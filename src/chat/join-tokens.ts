import { Reason, type Error as ChatError } from '../gen/parley/v1/model.ts'
import type { CreateJoinTokenRequest, JoinToken, RevokeJoinTokenRequest } from '../gen/parley/v1/service.ts'
import type { UseJoinTokenCommand } from '../gen/parley/v1/command.ts'
import { reject, type Result } from './rejections.ts'
import type { SqlRow } from './sql.ts'
import type { SignedInRows, State } from './state.ts'
import { integer, string, type Statements } from './statements.ts'

/** As many may be valid at the same time. */
const maxTokens = 100
/** A token that has expired is remembered for so long, so that who shows it is told so. */
const rememberedMs = 30 * 24 * 60 * 60 * 1000

/** @param who null: somebody who has proved to be at a replica's own machine. */
export function createJoinToken(
  state: State,
  who: SignedInRows | null,
  { secretHash, uses, lifetimeS }: CreateJoinTokenRequest,
): Result {
  if (who !== null && !who.account.admin) return notPermitted
  const { sql, nowMs } = state
  sql.of('DELETE FROM join_token WHERE expires_at_ms < ?').run(nowMs - rememberedMs)
  const count = sql.of('SELECT COUNT(*) AS count FROM join_token WHERE expires_at_ms > ?').get(nowMs)
  if (integer(count?.['count']) >= maxTokens)
    return reject(Reason.RATE_LIMITED, `There are ${maxTokens} join tokens already: revoke some.`)
  if (find(sql, secretHash) !== null) return reject(Reason.ID_REUSED, 'There is a token with this secret.')
  const token: JoinToken = {
    // Unlike a count of tokens it is never used again.
    number: state.position,
    usesLeft: uses,
    createdAtMs: nowMs,
    expiresAtMs: nowMs + lifetimeS * 1000,
    createdBy: who?.account.name ?? '',
  }
  sql
    .of(
      'INSERT INTO join_token (number, secret_hash, uses_left, created_at_ms, expires_at_ms, created_by) VALUES (?, ?, ?, ?, ?, ?)',
    )
    .run(token.number, secretHash, uses, nowMs, token.expiresAtMs, token.createdBy)
  // What else the answer tells depends on the replica that gives it.
  return {
    $case: 'createJoinToken',
    value: { token, clusterId: none, authority: none, addresses: [] },
  }
}

export function revokeJoinToken(
  state: State,
  who: SignedInRows | null,
  { number }: RevokeJoinTokenRequest,
): Result {
  if (who !== null && !who.account.admin) return notPermitted
  const { changes } = state.sql.of('DELETE FROM join_token WHERE number = ?').run(number)
  if (changes === 0) return reject(Reason.JOIN_TOKEN_UNKNOWN, 'There is no join token of this number.')
  return { $case: 'revokeJoinToken', value: {} }
}

export function useJoinToken(state: State, { secretHash }: UseJoinTokenCommand): Result {
  const token = find(state.sql, secretHash)
  const wrong = joinTokenError(token, state.nowMs)
  if (token === null || wrong !== null) return { $case: 'rejected', value: wrong ?? unknownJoinToken }
  state.sql.of('UPDATE join_token SET uses_left = uses_left - 1 WHERE number = ?').run(token.number)
  return { $case: 'done', value: {} }
}

/** Whether there is, or was lately, a token with this secret: an attempt with one that nobody made need not come into the log. */
export function isJoinToken(sql: Statements, secretHash: Uint8Array): boolean {
  return find(sql, secretHash) !== null
}

/** The tokens that are remembered, the oldest first. */
export function listJoinTokens(sql: Statements): readonly JoinToken[] {
  return sql.of('SELECT * FROM join_token ORDER BY number').all().map(tokenOf)
}

function joinTokenError(token: JoinToken | null, nowMs: number): ChatError | null {
  if (token === null) return unknownJoinToken
  if (nowMs >= token.expiresAtMs) return expired
  return token.usesLeft === 0 ? usedUp : null
}

function find(sql: Statements, secretHash: Uint8Array): JoinToken | null {
  const row = sql.of('SELECT * FROM join_token WHERE secret_hash = ?').get(secretHash)
  return row === undefined ? null : tokenOf(row)
}

function tokenOf(row: SqlRow): JoinToken {
  return {
    number: integer(row['number']),
    usesLeft: integer(row['uses_left']),
    createdAtMs: integer(row['created_at_ms']),
    expiresAtMs: integer(row['expires_at_ms']),
    createdBy: string(row['created_by']),
  }
}

const notPermitted = reject(Reason.NOT_PERMITTED, 'Only an administrator may deal with join tokens.')
const none = new Uint8Array(0)
const another = 'Ask for another one: parley token create'
export const unknownJoinToken = reject(
  Reason.JOIN_TOKEN_UNKNOWN,
  `The cluster does not know this join token; perhaps it was revoked. ${another}`,
).value
const expired = reject(Reason.JOIN_TOKEN_EXPIRED, `The join token has expired. ${another}`).value
const usedUp = reject(
  Reason.JOIN_TOKEN_USED_UP,
  `The join token was used as often as it may be. ${another}`,
).value
