import { hash, randomBytes } from 'node:crypto'
import type { Clock } from '../base/clock.ts'
import type { Logger } from '../base/logger.ts'
import type { SignedIn } from '../chat/queries.ts'
import { Reason } from '../gen/parley/v1/model.ts'
import type { ChangePasswordRequest, LogInRequest, RegisterRequest } from '../gen/parley/v1/service.ts'
import { PasswordsOverloadedError, type Passwords } from '../replica/passwords.ts'
import type { Executed, Replica } from '../replica/types.ts'
import { createAttempts, type Attempt } from './attempts.ts'
import { failed, positionOf, resultOf, unavailable, type Answer, type Caller } from './calls.ts'
import { makeCommand } from './commands.ts'
import { makeError } from './errors.ts'

/** The operations that handle passwords and tokens. Neither goes into the log: only a hash of each does. */
export interface SignIn {
  register(caller: Caller, request: RegisterRequest, timeoutMs: number, answer: Answer): void
  logIn(caller: Caller, request: LogInRequest, timeoutMs: number, answer: Answer): void
  changePassword(
    caller: Caller,
    signedIn: SignedIn,
    request: ChangePasswordRequest,
    timeoutMs: number,
    answer: Answer,
  ): void
  /** Finds the session of a token. Calls back with an error result when it is not signed in. */
  authenticate(
    token: Uint8Array,
    timeoutMs: number,
    done: (signedIn: SignedIn | null, failure: ReturnType<typeof failed> | null) => void,
  ): void
}

export const tokenBytes = 32

export function createSignIn(
  replica: Replica,
  passwords: Passwords,
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
): SignIn {
  const attempts = createAttempts(clock)

  /** Runs what takes a while, within the time that the call may take; answers whatever goes wrong. */
  function run(
    timeoutMs: number,
    answer: Answer,
    work: (remainingMs: () => number) => Promise<[result: ReturnType<typeof failed>, position: number]>,
  ): void {
    const endMs = clock.monotonicMs() + timeoutMs
    work(() => Math.max(1, endMs - clock.monotonicMs())).then(
      ([result, position]) => answer(result, position),
      (error: unknown) => {
        if (error instanceof PasswordsOverloadedError) return answer(unavailable('overloaded'), 0)
        logger.error({ error }, 'a sign-in failed')
        answer(failed(makeError(Reason.INTERNAL)), 0)
      },
    )
  }

  /** Runs what checks a password; refuses who has failed too often lately. What ends without a verdict, for want of a quorum or of room, counts as no attempt. */
  function runAttempt(
    key: string,
    timeoutMs: number,
    answer: Answer,
    work: (
      attempt: Attempt,
      remainingMs: () => number,
    ) => Promise<[result: ReturnType<typeof failed>, position: number]>,
  ): void {
    run(timeoutMs, answer, async (remainingMs) => {
      const admission = await attempts.begin(key)
      if (admission.kind === 'mustWait') return [tooManyAttempts(admission.waitMs), 0]
      try {
        return await work(admission.attempt, remainingMs)
      } finally {
        admission.attempt.ended()
      }
    })
  }

  const execute = (command: Parameters<Replica['execute']>[0], timeoutMs: number): Promise<Executed> =>
    new Promise((resolve) => replica.execute(command, timeoutMs, resolve))

  const whenReadable = (timeoutMs: number): Promise<ReturnType<typeof failed> | null> =>
    new Promise((resolve) =>
      replica.whenReadable({ local: false, timeoutMs }, (failure) =>
        resolve(failure === null ? null : unavailable(failure)),
      ),
    )

  return {
    register(caller, request, timeoutMs, answer) {
      const { signedIn } = caller
      run(timeoutMs, answer, async (remainingMs) => {
        const token = request.token.length === 0 ? randomBytes(tokenBytes) : request.token
        const passwordHash = await passwords.hash(request.password, request.id)
        const value = { name: request.name, passwordHash, device: request.device, tokenHash: sha256(token) }
        // Who asks is left out of the fingerprint: the request may be repeated after the asking session has ended.
        const command = makeCommand(request.id, null, { $case: 'register', value })
        // While registration is closed, administrators may still make accounts.
        const executed = await execute({ ...command, ...signedIn }, remainingMs())
        const result = resultOf(executed)
        if (result.$case === 'register')
          return [{ $case: 'register', value: { ...result.value, token } }, positionOf(executed)]
        return [result, positionOf(executed)]
      })
    },

    logIn(caller, request, timeoutMs, answer) {
      const key = `${caller.address} ${request.name.toLowerCase()}`
      runAttempt(key, timeoutMs, answer, async (attempt, remainingMs) => {
        // Both for accounts that exist and for those that do not, so that the time tells nothing.
        const unreadable = await whenReadable(remainingMs())
        if (unreadable !== null) return [unreadable, 0]
        const found = replica.queries.credentials(request.name)
        const good = await passwords.verify(request.password, found?.passwordHash ?? null)
        if (!good || found === null) {
          attempt.failed()
          return [failed(makeError(Reason.WRONG_CREDENTIALS)), 0]
        }
        attempt.succeeded()
        const token = request.token.length === 0 ? randomBytes(tokenBytes) : request.token
        const op = {
          $case: 'logIn',
          value: {
            account: found.account,
            passwordVersion: found.passwordVersion,
            device: request.device,
            tokenHash: sha256(token),
          },
        } as const
        const executed = await execute(
          makeCommand(request.id, null, op, {
            $case: 'logIn',
            value: { ...op.value, passwordVersion: 0 },
          }),
          remainingMs(),
        )
        const result = resultOf(executed)
        if (result.$case === 'logIn')
          return [{ $case: 'logIn', value: { ...result.value, token } }, positionOf(executed)]
        return [result, positionOf(executed)]
      })
    },

    changePassword(caller, signedIn, request, timeoutMs, answer) {
      const key = `${caller.address} #${signedIn.account}`
      runAttempt(key, timeoutMs, answer, async (attempt, remainingMs) => {
        const unreadable = await whenReadable(remainingMs())
        if (unreadable !== null) return [unreadable, 0]
        const account = replica.queries.account(signedIn.account)
        const found = account === null ? null : replica.queries.credentials(account.name)
        if (found === null || !replica.queries.sessionExists(signedIn.session))
          return [failed(makeError(Reason.NOT_SIGNED_IN)), 0]
        let { passwordVersion } = found
        if (!(await passwords.verify(request.oldPassword, found.passwordHash))) {
          // The same request may have taken effect before, its answer lost: then the new password is the account's. The command is repeated for its stored outcome, with a
          // version that no account has, so that it changes nothing when it has none.
          if (!(await passwords.verify(request.newPassword, found.passwordHash))) {
            attempt.failed()
            return [failed(makeError(Reason.WRONG_CREDENTIALS)), 0]
          }
          passwordVersion = noPasswordVersion
        }
        attempt.succeeded()
        const passwordHash = await passwords.hash(request.newPassword, request.id)
        const op = { $case: 'changePassword', value: { passwordHash, passwordVersion } } as const
        const executed = await execute(
          makeCommand(request.id, signedIn, op, {
            $case: 'changePassword',
            value: { ...op.value, passwordVersion: 0 },
          }),
          remainingMs(),
        )
        return [resultOf(executed), positionOf(executed)]
      })
    },

    authenticate(token, timeoutMs, done) {
      if (token.length !== tokenBytes) return done(null, failed(makeError(Reason.NOT_SIGNED_IN)))
      const tokenHash = sha256(token)
      const known = replica.queries.session(tokenHash)
      if (known !== null) return done(known, null)
      // This replica may not have applied the sign-in yet: only what a quorum has says that there is no such session.
      replica.whenReadable({ local: false, timeoutMs }, (failure) => {
        if (failure !== null) return done(null, unavailable(failure))
        const found = replica.queries.session(tokenHash)
        done(found, found === null ? failed(makeError(Reason.NOT_SIGNED_IN)) : null)
      })
    },
  }
}

/** Versions count up from 1. */
const noPasswordVersion = 0

function tooManyAttempts(retryAfterMs: number): ReturnType<typeof failed> {
  const message = 'Too many wrong passwords: wait a while before the next.'
  return failed(makeError(Reason.RATE_LIMITED, { message, retryAfterMs }))
}

function sha256(bytes: Uint8Array): Uint8Array {
  return hash('sha256', bytes, 'buffer')
}
