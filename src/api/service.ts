import { timingSafeEqual } from 'node:crypto'
import type { Clock } from '../base/clock.ts'
import { replicaName } from '../base/ids.ts'
import type { Logger } from '../base/logger.ts'
import { requestError } from '../chat/limits.ts'
import type { SignedIn } from '../chat/queries.ts'
import { Reason } from '../gen/parley/v1/model.ts'
import type { JoinClusterRequest } from '../gen/parley/v1/service.ts'
import type { Passwords } from '../replica/passwords.ts'
import type { Receiver, Replica, Subscription } from '../replica/types.ts'
import {
  failed,
  positionOf,
  resultOf,
  timeoutOf,
  unavailable,
  type Answer,
  type Call,
  type Caller,
  type Op,
  type Result,
} from './calls.ts'
import { Backups } from './backups.ts'
import { makeCommand } from './commands.ts'
import { makeError } from './errors.ts'
import { answerExport } from './export.ts'
import { answerOpenRead, answerRead, type OpenReadOp, type ReadOp } from './reads.ts'
import { answerReplicaSet } from './replica-set.ts'
import { createSignIn } from './sign-in.ts'

/** Answers every request, whichever way it came in. */
export interface Service {
  /** Calls `answer` once, at once or later. `subscribe` is not answered here: see {@link Service.subscribe}. */
  call(caller: Caller, call: Call, answer: Answer): void

  /** Signs the caller in by a session's token. Calls back with the error result when that fails. */
  authenticate(
    caller: Caller,
    token: Uint8Array,
    timeoutMs: number,
    done: (failure: Result | null) => void,
  ): void

  /** Streams the caller's events; null when nobody is signed in. */
  subscribe(caller: Caller, cursor: number, receiver: Receiver): Subscription | null
}

export interface ServiceOptions {
  readonly passwords: Passwords
  readonly clock: Clock
  readonly logger: Logger
  /** Who has it may do what administrators may; null: nobody has. */
  readonly operatorToken: Uint8Array | null
  /** Null in a cluster without an authority. */
  readonly join: JoinDesk | null
  /** Of Parley. */
  readonly version: string
}

/** Where new replicas are let in. */
export interface JoinDesk {
  /** SHA-256 of the authority's certificate. */
  readonly authority: Uint8Array
  /** Where they may ask. */
  addresses(): readonly string[]
  admit(request: JoinClusterRequest, timeoutMs: number): Promise<Result>
}

function isOperatorToken(token: Uint8Array, operatorToken: Uint8Array | null): boolean {
  return (
    operatorToken !== null && token.length === operatorToken.length && timingSafeEqual(token, operatorToken)
  )
}

export function createService(replica: Replica, options: ServiceOptions): Service {
  const { passwords, clock, logger, operatorToken, join, version } = options
  const backups = new Backups(replica, clock, version)
  const signIn = createSignIn(replica, passwords, { clock, logger })

  function call(caller: Caller, request: Call, answerPlainly: Answer): void {
    const { op } = request
    const answer: Answer = (result, position) => answerPlainly(withNames(result, replica), position)
    if (op === undefined) return answer(failed(makeError(Reason.UNIMPLEMENTED)), 0)
    const wrong = requestError(op)
    if (wrong !== null) return answer(failed(wrong), 0)
    const { signedIn } = caller
    if (signedIn !== null) replica.touch(signedIn.session)
    switch (op.$case) {
      case 'sendMessage':
      case 'markRead':
      case 'openInbox':
      case 'logOut':
      case 'deleteAccount':
      case 'revokeSession':
      case 'createRoom':
      case 'joinRoom':
      case 'leaveRoom':
      case 'inviteToRoom':
      case 'editMessage':
      case 'deleteMessage':
      case 'saveDraft':
      case 'deleteDrafts':
      case 'sendDrafts':
      case 'setPolicy':
      case 'setRoomRetention':
        if (signedIn === null) return answer(notSignedIn, 0)
        replica.execute(makeCommand(op.value.id, signedIn, op), timeoutOf(request), (executed) =>
          answer(resultOf(executed), positionOf(executed)),
        )
        return
      case 'register':
        return signIn.register(caller, op.value, timeoutOf(request), answer)
      case 'logIn':
        return signIn.logIn(caller, op.value, timeoutOf(request), answer)
      case 'changePassword':
        if (signedIn === null) return answer(notSignedIn, 0)
        return signIn.changePassword(caller, signedIn, op.value, timeoutOf(request), answer)
      case 'authenticate':
        return answerAuthenticate(caller, op.value.token, timeoutOf(request), answer)
      case 'lookUpName':
      case 'getPolicy':
        return openRead(request, op, answer)
      case 'getMe':
      case 'listAccounts':
      case 'listSessions':
      case 'listConversations':
      case 'getConversation':
      case 'listRooms':
      case 'listMembers':
      case 'listMessages':
      case 'getInbox':
      case 'listDrafts':
        if (signedIn === null) return answer(notSignedIn, 0)
        return read(signedIn, request, op, answer)
      case 'searchMessages':
        if (signedIn === null) return answer(notSignedIn, 0)
        return search(signedIn, request, op, answer)
      case 'getStatus':
        // What this replica knows now: an operator asks for it most of all when there is no quorum.
        return answer({ $case: 'getStatus', value: replica.status() }, replica.position)
      case 'addReplica':
      case 'promoteReplica':
      case 'removeReplica':
      case 'transferLeadership':
        return whenAdministrator(caller, request, answer, () =>
          answerReplicaSet(replica, op, timeoutOf(request), answer),
        )
      case 'startBackup':
        return whenAdministrator(caller, request, answer, () =>
          // What was acknowledged before, by whichever replica, is in it.
          whenReadable(request, answer, () => later(answer, backups.start())),
        )
      case 'readBackup':
        return whenAdministrator(caller, request, answer, () => later(answer, backups.read(op.value)))
      case 'export':
        if (op.value.all)
          return whenAdministrator(caller, request, answer, () =>
            whenReadable(request, answer, () =>
              answer(answerExport(replica, { kind: 'all' }, op.value.pageToken), replica.position),
            ),
          )
        if (signedIn === null) return answer(notSignedIn, 0)
        return whenReadable(request, answer, () => {
          if (!replica.queries.sessionExists(signedIn.session)) return answer(notSignedIn, 0)
          const scope = { kind: 'account', account: signedIn.account } as const
          answer(answerExport(replica, scope, op.value.pageToken), replica.position)
        })
      case 'ping':
        return answer({ $case: 'ping', value: {} }, 0)
      case 'createJoinToken':
        return whenAdministrator(caller, request, answer, () => createToken(caller, request, op, answer))
      case 'revokeJoinToken':
        return whenAdministrator(caller, request, answer, () =>
          replica.execute(makeCommand(op.value.id, signedIn, op), timeoutOf(request), (executed) =>
            answer(resultOf(executed), positionOf(executed)),
          ),
        )
      case 'listJoinTokens':
        return whenAdministrator(caller, request, answer, () =>
          whenReadable(request, answer, () =>
            answer({ $case: 'listJoinTokens', value: { tokens: replica.queries.joinTokens() } }, 0),
          ),
        )
      case 'joinCluster':
        if (join === null) return answer(noAuthority, 0)
        join.admit(op.value, timeoutOf(request)).then(
          (result) => answer(result, 0),
          (error: unknown) => {
            logger.error({ error }, 'a replica could not be let in')
            answer(failed(makeError(Reason.INTERNAL)), 0)
          },
        )
        return
      case 'subscribe':
        return answer(failed(makeError(Reason.UNIMPLEMENTED)), 0)
    }
  }

  function answerAuthenticate(caller: Caller, token: Uint8Array, timeoutMs: number, answer: Answer): void {
    authenticate(caller, token, timeoutMs, (failure) => {
      if (failure !== null) return answer(failure, 0)
      if (caller.signedIn === null)
        return answer({ $case: 'authenticate', value: { account: undefined, session: 0 } }, 0)
      const { account, session } = caller.signedIn
      answer(
        {
          $case: 'authenticate',
          value: { account: replica.queries.account(account) ?? undefined, session },
        },
        replica.position,
      )
    })
  }

  function authenticate(
    caller: Caller,
    token: Uint8Array,
    timeoutMs: number,
    done: (failure: Result | null) => void,
  ): void {
    caller.isOperator = isOperatorToken(token, operatorToken)
    if (caller.isOperator) {
      caller.signedIn = null
      return done(null)
    }
    signIn.authenticate(token, timeoutMs, (signedIn, failure) => {
      caller.signedIn = signedIn
      if (signedIn !== null) replica.touch(signedIn.session)
      done(failure)
    })
  }

  function whenReadable(request: Call, answer: Answer, work: () => void): void {
    const timeoutMs = timeoutOf(request)
    replica.whenReadable(
      request.local
        ? { local: true, minPosition: request.minPosition, timeoutMs }
        : { local: false, timeoutMs },
      (failure) => {
        if (failure !== null) return answer(unavailable(failure), 0)
        guard(answer, work)
      },
    )
  }

  function openRead(request: Call, op: OpenReadOp, answer: Answer): void {
    whenReadable(request, answer, () => answer(answerOpenRead(replica.queries, op), replica.position))
  }

  function read(signedIn: SignedIn, request: Call, op: ReadOp, answer: Answer): void {
    whenReadable(request, answer, () => {
      // The session may have ended since the connection was bound to it.
      if (!replica.queries.sessionExists(signedIn.session)) return answer(notSignedIn, 0)
      answer(answerRead(replica.queries, signedIn, op, replica.position), replica.position)
    })
  }

  /** Goes on when the caller may decide about the cluster; answers when not. */
  function whenAdministrator(caller: Caller, request: Call, answer: Answer, work: () => void): void {
    if (caller.isOperator) return guard(answer, work)
    const { signedIn } = caller
    if (signedIn === null) return answer(notSignedIn, 0)
    whenReadable(request, answer, () => {
      if (!replica.queries.sessionExists(signedIn.session)) return answer(notSignedIn, 0)
      if (replica.queries.account(signedIn.account)?.admin === true) return work()
      answer(failed(makeError(Reason.NOT_PERMITTED, { message: notAdministrator })), 0)
    })
  }

  function createToken(
    { signedIn }: Caller,
    request: Call,
    op: Extract<Op, { $case: 'createJoinToken' }>,
    answer: Answer,
  ): void {
    if (join === null) return answer(noAuthority, 0)
    replica.execute(makeCommand(op.value.id, signedIn, op), timeoutOf(request), (executed) => {
      const result = resultOf(executed)
      if (result.$case !== 'createJoinToken') return answer(result, positionOf(executed))
      const { clusterId } = replica.state
      const { authority } = join
      const value = { ...result.value, clusterId, authority, addresses: join.addresses() }
      answer({ $case: 'createJoinToken', value }, positionOf(executed))
    })
  }

  function search(
    signedIn: SignedIn,
    request: Call,
    op: Extract<Op, { $case: 'searchMessages' }>,
    answer: Answer,
  ): void {
    whenReadable(request, answer, () => {
      if (!replica.queries.sessionExists(signedIn.session)) return answer(notSignedIn, 0)
      replica.search(signedIn.account, op.value).then(
        (value) => answer({ $case: 'searchMessages', value }, replica.position),
        (error: unknown) => {
          logger.error({ error }, 'a search failed')
          answer(failed(makeError(Reason.INTERNAL)), 0)
        },
      )
    })
  }

  function later(answer: Answer, result: Promise<Result>): void {
    result.then(
      (value) => answer(value, 0),
      (error: unknown) => {
        logger.error({ error: String(error) }, 'a backup failed')
        answer(failed(makeError(Reason.INTERNAL)), 0)
      },
    )
  }

  /** A request that fails in a way that nobody foresaw gets an answer, and harms no other. */
  function guard(answer: Answer, work: () => void): void {
    try {
      work()
    } catch (error) {
      logger.error({ error }, 'a request failed')
      answer(failed(makeError(Reason.INTERNAL)), 0)
    }
  }

  return {
    call(caller, request, answer) {
      guard(answer, () => call(caller, request, answer))
    },
    authenticate,
    subscribe(caller, cursor, receiver) {
      return caller.signedIn === null ? null : replica.subscribe(caller.signedIn, cursor, receiver)
    },
  }
}

const notAdministrator = 'Only an administrator may decide about the replica set.'

const noAuthority = failed(
  makeError(Reason.NOT_PERMITTED, {
    message:
      'This replica lets nobody in: its cluster has no certificate authority, since it was made by "parley up" and not by "parley init", or it speaks plain text with clients (--insecure).',
  }),
)

const notSignedIn = failed(makeError(Reason.NOT_SIGNED_IN))

/** Says who is waited for, where a quorum is missing and it is known who could bring it back. */
function withNames(result: Result, replica: Replica): Result {
  if (result.$case !== 'error' || result.value.reason !== Reason.NO_QUORUM) return result
  const { waitingFor } = replica.state
  if (waitingFor.length === 0) return result
  const names = waitingFor.map(replicaName).join(' and ')
  return failed({ ...result.value, message: `Waiting for ${names}: nothing can be written without.` })
}
