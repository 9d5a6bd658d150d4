import type { Outcome } from '../gen/parley/v1/command.ts'
import { Reason, type FieldViolation } from '../gen/parley/v1/model.ts'

/** What a command came to. */
export type Result = NonNullable<Outcome['outcome']>

export type Rejected = Extract<Result, { readonly $case: 'rejected' }>

/** @param message one sentence for people. */
export function reject(
  reason: Reason,
  message: string,
  violations: readonly FieldViolation[] = [],
  retryAfterMs = 0,
): Rejected {
  return { $case: 'rejected', value: { reason, message, violations, retryAfterMs } }
}

/** @param violations at least one. */
export function rejectInvalid(violations: readonly FieldViolation[]): Rejected {
  const first = violations[0]
  return reject(
    Reason.INVALID_ARGUMENT,
    first === undefined ? 'The request is not valid.' : `${first.field}: ${first.description}.`,
    violations,
  )
}

export function invalid(field: string, description: string): Rejected {
  return rejectInvalid([{ field, description }])
}

export function accountNotFound(name: string): Rejected {
  return reject(Reason.ACCOUNT_NOT_FOUND, `${name} does not exist, or has deleted their account.`)
}

export const conversationNotFound = reject(
  Reason.CONVERSATION_NOT_FOUND,
  'There is no such conversation, or you are not in it.',
)

export function roomNotFound(name: string): Rejected {
  return reject(Reason.ROOM_NOT_FOUND, `There is no room #${name}, or it is private.`)
}

export const messageNotFound = reject(
  Reason.MESSAGE_NOT_FOUND,
  'There is no such message, or it was deleted.',
)

export const notSignedIn = reject(Reason.NOT_SIGNED_IN, 'You are not signed in.')

export const sessionExpired = reject(Reason.SESSION_EXPIRED, 'Your session has expired: sign in again.')

/**
 * Rejections that are not kept with the id: the same command may well succeed when it is sent again. All others are kept, like successes, since they may depend on the state at
 * that moment, and a repetition gets the first outcome.
 */
export function isKept(result: Result): boolean {
  if (result.$case !== 'rejected') return true
  switch (result.value.reason) {
    case Reason.NOT_SIGNED_IN:
    case Reason.SESSION_EXPIRED:
    case Reason.RATE_LIMITED:
    case Reason.UPGRADE_PENDING:
      return false
    default:
      return true
  }
}
