import type { SignedIn } from '../chat/queries.ts'
import type { Executed, Unavailable } from '../replica/types.ts'
import type { Request, Response } from '../gen/parley/v1/frames.ts'
import { Reason, type Error as ApiError } from '../gen/parley/v1/model.ts'
import { makeError, withMessage } from './errors.ts'

/** Who asks: a WebSocket connection, or one gRPC call. */
export interface Caller {
  /** Null before sign-in, and again after the session has ended. */
  signedIn: SignedIn | null
  /** It has shown that it may read this replica's data folder: it may do what administrators may. */
  isOperator: boolean
  /** The address it comes from: failed log-ins are counted by it. */
  readonly address: string
}

export type Op = NonNullable<Request['op']>
export type Result = NonNullable<Response['result']>

/** What is asked: a `Request` without its number. */
export type Call = Pick<Request, 'timeoutMs' | 'local' | 'minPosition' | 'op'>

/** Called once per call. `position` is 0 when the result shows no state. */
export type Answer = (result: Result, position: number) => void

export const defaultTimeoutMs = 10_000
const maxTimeoutMs = 60_000

/** The time that a call may take, in milliseconds. */
export function timeoutOf(call: Call): number {
  return call.timeoutMs === 0 ? defaultTimeoutMs : Math.min(call.timeoutMs, maxTimeoutMs)
}

export function failed(error: ApiError): Result {
  return { $case: 'error', value: error }
}

export function unavailable(why: Unavailable): Result {
  const message = why === 'stalled' ? { message: stalledWords } : {}
  return failed(makeError(reasonOf[why], { retryAfterMs: retryAfterMs[why], ...message }))
}

const stalledWords =
  'Nothing has been written for a while although the replicas answer: the disks of some are full, or hang. Read-only until they take something.'

/** The response to what a command came to. */
export function resultOf(executed: Executed): Result {
  switch (executed.kind) {
    case 'refused':
      return unavailable(executed.why)
    case 'outcomeUnknown':
      return failed(makeError(Reason.OUTCOME_UNKNOWN))
    case 'applied': {
      const outcome = executed.outcome.outcome
      if (outcome === undefined || outcome.$case === 'done') return failed(makeError(Reason.INTERNAL))
      return outcome.$case === 'rejected' ? failed(withMessage(outcome.value)) : outcome
    }
  }
}

/** The position to answer with: 0 when nothing was applied. */
export function positionOf(executed: Executed): number {
  return executed.kind === 'applied' ? executed.position : 0
}

const reasonOf = {
  noQuorum: Reason.NO_QUORUM,
  noSpace: Reason.NO_SPACE,
  draining: Reason.DRAINING,
  upgradePending: Reason.UPGRADE_PENDING,
  catchingUp: Reason.CATCHING_UP,
  overloaded: Reason.OVERLOADED,
  stalled: Reason.OVERLOADED,
  deadline: Reason.DEADLINE_EXCEEDED,
} as const satisfies Record<Unavailable, Reason>

const retryAfterMs = {
  noQuorum: 500,
  noSpace: 5_000,
  draining: 0,
  upgradePending: 0,
  catchingUp: 200,
  overloaded: 100,
  stalled: 1000,
  deadline: 0,
} as const satisfies Record<Unavailable, number>
