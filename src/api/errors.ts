import { BinaryWriter } from '@bufbuild/protobuf/wire'
import { status as codes } from '@grpc/grpc-js'
import { Reason, type Error as ApiError, type FieldViolation } from '../gen/parley/v1/model.ts'

/** What a rejection means to those who do not read its reason. */
interface Meaning {
  /** The gRPC status code. */
  readonly code: codes
  readonly http: number
  /** The same request, with the same id, may succeed later. */
  readonly retryable: boolean
  /** One sentence for people; used where the rejection brings none of its own. */
  readonly message: string
}

/** Every reason there is: this does not compile while one is missing. */
export const meanings = {
  REASON_UNSPECIFIED: {
    code: codes.UNKNOWN,
    http: 500,
    retryable: false,
    message: 'The request failed for an unknown reason.',
  },
  REASON_INVALID_ARGUMENT: {
    code: codes.INVALID_ARGUMENT,
    http: 400,
    retryable: false,
    message: 'The request has a field that is not valid.',
  },
  REASON_NOT_SIGNED_IN: {
    code: codes.UNAUTHENTICATED,
    http: 401,
    retryable: false,
    message: 'Nobody is signed in here: the token is missing or unknown, or its session has ended.',
  },
  REASON_WRONG_CREDENTIALS: {
    code: codes.UNAUTHENTICATED,
    http: 401,
    retryable: false,
    message: 'There is no account with this name and password.',
  },
  REASON_SESSION_EXPIRED: {
    code: codes.UNAUTHENTICATED,
    http: 401,
    retryable: false,
    message: 'The session has expired: sign in again.',
  },
  REASON_NAME_TAKEN: {
    code: codes.ALREADY_EXISTS,
    http: 409,
    retryable: false,
    message: 'Another account has this name.',
  },
  REASON_REGISTRATION_CLOSED: {
    code: codes.PERMISSION_DENIED,
    http: 403,
    retryable: false,
    message: 'Registration is closed on this cluster.',
  },
  REASON_ACCOUNT_NOT_FOUND: {
    code: codes.NOT_FOUND,
    http: 404,
    retryable: false,
    message: 'The account does not exist, or has been deleted.',
  },
  REASON_CONVERSATION_NOT_FOUND: {
    code: codes.NOT_FOUND,
    http: 404,
    retryable: false,
    message: 'There is no such conversation.',
  },
  REASON_ROOM_NOT_FOUND: {
    code: codes.NOT_FOUND,
    http: 404,
    retryable: false,
    message: 'There is no such room.',
  },
  REASON_ROOM_NAME_TAKEN: {
    code: codes.ALREADY_EXISTS,
    http: 409,
    retryable: false,
    message: 'Another room has this name.',
  },
  REASON_NOT_A_MEMBER: {
    code: codes.PERMISSION_DENIED,
    http: 403,
    retryable: false,
    message: 'Only members may do this.',
  },
  REASON_ALREADY_A_MEMBER: {
    code: codes.ALREADY_EXISTS,
    http: 409,
    retryable: false,
    message: 'The account is a member already.',
  },
  REASON_CANNOT_LEAVE: {
    code: codes.FAILED_PRECONDITION,
    http: 400,
    retryable: false,
    message: 'This conversation cannot be left.',
  },
  REASON_MESSAGE_NOT_FOUND: {
    code: codes.NOT_FOUND,
    http: 404,
    retryable: false,
    message: 'There is no such message.',
  },
  REASON_NOT_YOUR_MESSAGE: {
    code: codes.PERMISSION_DENIED,
    http: 403,
    retryable: false,
    message: 'Only its sender may do this to a message.',
  },
  REASON_MESSAGE_TOO_LARGE: {
    code: codes.INVALID_ARGUMENT,
    http: 413,
    retryable: false,
    message: 'The message is larger than the policy of this cluster allows.',
  },
  REASON_DRAFT_NOT_FOUND: {
    code: codes.NOT_FOUND,
    http: 404,
    retryable: false,
    message: 'There is no such draft.',
  },
  REASON_DRAFT_LIMIT: {
    code: codes.RESOURCE_EXHAUSTED,
    http: 429,
    retryable: false,
    message: 'The account has as many drafts as it may have.',
  },
  REASON_SESSION_NOT_FOUND: {
    code: codes.NOT_FOUND,
    http: 404,
    retryable: false,
    message: 'The account has no such session.',
  },
  REASON_NOT_PERMITTED: {
    code: codes.PERMISSION_DENIED,
    http: 403,
    retryable: false,
    message: 'The account may not do this.',
  },
  REASON_RATE_LIMITED: {
    code: codes.RESOURCE_EXHAUSTED,
    http: 429,
    retryable: true,
    message: 'Too many requests of this kind: wait a while.',
  },
  REASON_ID_REUSED: {
    code: codes.ALREADY_EXISTS,
    http: 409,
    retryable: false,
    message: 'The id was used before for something else.',
  },
  REASON_ID_OUT_OF_WINDOW: {
    code: codes.FAILED_PRECONDITION,
    http: 400,
    retryable: false,
    message:
      'The time inside the id is more than seven days behind the cluster’s clock, or more than one day ahead.',
  },
  REASON_NOT_TO_ONESELF: {
    code: codes.INVALID_ARGUMENT,
    http: 400,
    retryable: false,
    message: 'One cannot write to oneself.',
  },
  REASON_COMMAND_FAILED: {
    code: codes.INTERNAL,
    http: 500,
    retryable: false,
    message: 'The request failed while it was applied; nothing of it was kept.',
  },
  REASON_NO_QUORUM: {
    code: codes.UNAVAILABLE,
    http: 503,
    retryable: true,
    message: 'Too few replicas can be reached: read-only until more are back.',
  },
  REASON_OUTCOME_UNKNOWN: {
    code: codes.DEADLINE_EXCEEDED,
    http: 504,
    retryable: true,
    message: 'The time ran out while the request was under way: ask again with the same id.',
  },
  REASON_DEADLINE_EXCEEDED: {
    code: codes.DEADLINE_EXCEEDED,
    http: 504,
    retryable: true,
    message: 'The time ran out before the request took effect.',
  },
  REASON_OVERLOADED: {
    code: codes.UNAVAILABLE,
    http: 503,
    retryable: true,
    message: 'Too many requests wait on this replica.',
  },
  REASON_NO_SPACE: {
    code: codes.RESOURCE_EXHAUSTED,
    http: 507,
    retryable: true,
    message: 'The disk has no space left: read-only until there is.',
  },
  REASON_DRAINING: {
    code: codes.UNAVAILABLE,
    http: 503,
    retryable: true,
    message: 'This replica is stopping: another one serves.',
  },
  REASON_CATCHING_UP: {
    code: codes.UNAVAILABLE,
    http: 503,
    retryable: true,
    message: 'This replica was away and is still catching up: another one serves.',
  },
  REASON_INTERNAL: {
    code: codes.INTERNAL,
    http: 500,
    retryable: false,
    message: 'The replica failed to handle the request.',
  },
  REASON_SLOW_RECEIVER: {
    code: codes.RESOURCE_EXHAUSTED,
    http: 429,
    retryable: true,
    message: 'The client does not read what it is sent.',
  },
  REASON_BACKUP_NOT_FOUND: {
    code: codes.NOT_FOUND,
    http: 404,
    retryable: false,
    message: 'This backup is not open on the replica that answers: start a new one.',
  },
  REASON_UPGRADE_PENDING: {
    code: codes.FAILED_PRECONDITION,
    http: 409,
    retryable: true,
    message:
      'Some replicas run an older version of Parley, or have not been met since the start: once all know the newest one this can be done.',
  },
  REASON_REPLICA_NOT_FOUND: {
    code: codes.NOT_FOUND,
    http: 404,
    retryable: false,
    message: 'There is no such replica.',
  },
  REASON_REPLICA_EXISTS: {
    code: codes.ALREADY_EXISTS,
    http: 409,
    retryable: false,
    message: 'The cluster has, or had, such a replica.',
  },
  REASON_REPLICA_NOT_READY: {
    code: codes.FAILED_PRECONDITION,
    http: 400,
    retryable: true,
    message: 'The replica is not ready for this yet.',
  },
  REASON_QUORUM_AT_RISK: {
    code: codes.FAILED_PRECONDITION,
    http: 400,
    retryable: false,
    message: 'The replicas that would be left and can be reached could decide nothing.',
  },
  REASON_CHANGE_IN_PROGRESS: {
    code: codes.ABORTED,
    http: 409,
    retryable: true,
    message: 'Another change of the replica set is under way.',
  },
  REASON_UNIMPLEMENTED: {
    code: codes.UNIMPLEMENTED,
    http: 501,
    retryable: false,
    message: 'This replica does not know the request.',
  },
  REASON_JOIN_TOKEN_UNKNOWN: {
    code: codes.PERMISSION_DENIED,
    http: 403,
    retryable: false,
    message: 'There is no such join token.',
  },
  REASON_JOIN_TOKEN_EXPIRED: {
    code: codes.PERMISSION_DENIED,
    http: 403,
    retryable: false,
    message: 'The join token has expired.',
  },
  REASON_JOIN_TOKEN_USED_UP: {
    code: codes.PERMISSION_DENIED,
    http: 403,
    retryable: false,
    message: 'The join token was used as often as it may be.',
  },
} as const satisfies Record<Reason, Meaning>

/** An error with the words of the table. */
export function makeError(
  reason: Reason,
  details: { readonly message?: string; readonly retryAfterMs?: number } = {},
): ApiError {
  return {
    reason,
    message: details.message ?? meanings[reason].message,
    violations: [],
    retryAfterMs: details.retryAfterMs ?? 0,
  }
}

/** INVALID_ARGUMENT that names each field and its limit. */
export function invalid(violations: readonly FieldViolation[]): ApiError {
  const [first] = violations
  return {
    reason: Reason.INVALID_ARGUMENT,
    message:
      first === undefined ? meanings.REASON_INVALID_ARGUMENT.message : `${first.field}: ${first.description}`,
    violations,
    retryAfterMs: 0,
  }
}

/** The rejection with a sentence for people, when it came without. */
export function withMessage(error: ApiError): ApiError {
  if (error.message !== '') return error
  if (error.violations.length > 0) return { ...error, message: invalid(error.violations).message }
  return { ...error, message: meanings[error.reason].message }
}

/** `NAME_TAKEN` for REASON_NAME_TAKEN: as google.rpc.ErrorInfo spells it. */
export function reasonName(reason: Reason): string {
  return reason.slice('REASON_'.length)
}

/**
 * An encoded google.rpc.Status for the metadata entry `grpc-status-details-bin`: ErrorInfo always, BadRequest when fields are named, RetryInfo when asking again makes sense.
 * The five small messages are written by hand: see google/rpc/status.proto and google/rpc/error_details.proto.
 */
export function statusDetails(error: ApiError): Uint8Array {
  const writer = new BinaryWriter()
  writer.uint32(tag(1, varint)).int32(meanings[error.reason].code)
  writer.uint32(tag(2, delimited)).string(error.message)
  any(writer, 'google.rpc.ErrorInfo', () => {
    writer.uint32(tag(1, delimited)).string(reasonName(error.reason))
    writer.uint32(tag(2, delimited)).string('parley')
  })
  if (error.violations.length > 0)
    any(writer, 'google.rpc.BadRequest', () => {
      for (const { field, description } of error.violations) {
        writer.uint32(tag(1, delimited)).fork()
        writer.uint32(tag(1, delimited)).string(field)
        writer.uint32(tag(2, delimited)).string(description)
        writer.join()
      }
    })
  if (meanings[error.reason].retryable)
    any(writer, 'google.rpc.RetryInfo', () => {
      writer.uint32(tag(1, delimited)).fork()
      writer.uint32(tag(1, varint)).int64(Math.floor(error.retryAfterMs / 1000))
      writer.uint32(tag(2, varint)).int32((error.retryAfterMs % 1000) * 1_000_000)
      writer.join()
    })
  return writer.finish()
}

const varint = 0
const delimited = 2

function tag(field: number, wireType: number): number {
  return field * 8 + wireType
}

function any(writer: BinaryWriter, type: string, content: () => void): void {
  writer.uint32(tag(3, delimited)).fork()
  writer.uint32(tag(1, delimited)).string(`type.googleapis.com/${type}`)
  writer.uint32(tag(2, delimited)).fork()
  content()
  writer.join()
  writer.join()
}
