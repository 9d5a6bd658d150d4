import type { Error as WireError, FieldViolation, Reason } from '../gen/parley/v1/model.ts'

/** Whether a call that failed took effect: certainly not, or it may have, or still may. */
export type CallOutcome = 'notDone' | 'unknown'

/** Why a call failed. */
export class ParleyError extends Error {
  override readonly name = 'ParleyError'
  readonly reason: Reason
  readonly outcome: CallOutcome
  /** The fields of the request that are wrong, each with its limit. */
  readonly violations: readonly FieldViolation[]
  /** When asking again makes sense; 0 = not said. */
  readonly retryAfterMs: number

  constructor(
    reason: Reason,
    message: string,
    details?: {
      readonly outcome?: CallOutcome
      readonly violations?: readonly FieldViolation[]
      readonly retryAfterMs?: number
    },
  ) {
    super(message)
    this.reason = reason
    this.outcome = details?.outcome ?? 'notDone'
    this.violations = details?.violations ?? []
    this.retryAfterMs = details?.retryAfterMs ?? 0
  }
}

export function errorFromWire(error: WireError, outcome: CallOutcome): ParleyError {
  return new ParleyError(error.reason, error.message === '' ? reasonWords(error.reason) : error.message, {
    outcome,
    violations: error.violations,
    retryAfterMs: error.retryAfterMs,
  })
}

/** `no quorum` for `REASON_NO_QUORUM`. */
export function reasonWords(reason: Reason): string {
  return reason
    .replace(/^REASON_/, '')
    .toLowerCase()
    .replaceAll('_', ' ')
}

/**
 * What a rejection means to a caller that would rather wait.
 * `final`: asking again changes nothing. `notNow`: it did not take effect, and may later or elsewhere. `unknown`: it may have taken effect; the same id tells.
 */
export type ReasonKind = 'final' | 'notNow' | 'unknown'

export const reasonKinds = {
  REASON_UNSPECIFIED: 'unknown',
  REASON_INVALID_ARGUMENT: 'final',
  REASON_NOT_SIGNED_IN: 'final',
  REASON_WRONG_CREDENTIALS: 'final',
  REASON_SESSION_EXPIRED: 'final',
  REASON_NAME_TAKEN: 'final',
  REASON_REGISTRATION_CLOSED: 'final',
  REASON_ACCOUNT_NOT_FOUND: 'final',
  REASON_CONVERSATION_NOT_FOUND: 'final',
  REASON_ROOM_NOT_FOUND: 'final',
  REASON_ROOM_NAME_TAKEN: 'final',
  REASON_NOT_A_MEMBER: 'final',
  REASON_ALREADY_A_MEMBER: 'final',
  REASON_CANNOT_LEAVE: 'final',
  REASON_MESSAGE_NOT_FOUND: 'final',
  REASON_NOT_YOUR_MESSAGE: 'final',
  REASON_MESSAGE_TOO_LARGE: 'final',
  REASON_DRAFT_NOT_FOUND: 'final',
  REASON_DRAFT_LIMIT: 'final',
  REASON_SESSION_NOT_FOUND: 'final',
  REASON_NOT_PERMITTED: 'final',
  REASON_RATE_LIMITED: 'final',
  REASON_ID_REUSED: 'final',
  REASON_ID_OUT_OF_WINDOW: 'final',
  REASON_NOT_TO_ONESELF: 'final',
  REASON_COMMAND_FAILED: 'final',
  REASON_NO_QUORUM: 'notNow',
  REASON_OUTCOME_UNKNOWN: 'unknown',
  REASON_DEADLINE_EXCEEDED: 'notNow',
  REASON_OVERLOADED: 'notNow',
  REASON_NO_SPACE: 'notNow',
  REASON_DRAINING: 'notNow',
  REASON_CATCHING_UP: 'notNow',
  REASON_INTERNAL: 'final',
  REASON_SLOW_RECEIVER: 'notNow',
  REASON_UNIMPLEMENTED: 'final',
  REASON_REPLICA_NOT_FOUND: 'final',
  REASON_REPLICA_EXISTS: 'final',
  REASON_REPLICA_NOT_READY: 'final',
  REASON_QUORUM_AT_RISK: 'final',
  REASON_CHANGE_IN_PROGRESS: 'final',
  REASON_JOIN_TOKEN_UNKNOWN: 'final',
  REASON_JOIN_TOKEN_EXPIRED: 'final',
  REASON_JOIN_TOKEN_USED_UP: 'final',
  REASON_UPGRADE_PENDING: 'notNow',
  REASON_BACKUP_NOT_FOUND: 'final',
} as const satisfies Record<Reason, ReasonKind>
