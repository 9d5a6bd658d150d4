import type { ChangePasswordCommand, LogInCommand, RegisterCommand } from '../gen/parley/v1/command.ts'
import { ConversationKind, Reason } from '../gen/parley/v1/model.ts'
import type { DeleteAccountRequest, RevokeSessionRequest } from '../gen/parley/v1/service.ts'
import { invalid, reject, type Rejected, type Result } from './rejections.ts'
import { nameKey, viewAccount, type AccountRow } from './accounts.ts'
import { countInbox } from './counts.ts'
import { limits } from './limits.ts'
import { disconnectEverywhere } from './presence.ts'
import { leaveConversation } from './rooms.ts'
import { everyoneId } from './schema.ts'
import type { SignedInRows, State } from './state.ts'

/** @param asking who is signed in; null when nobody is. */
export function register(state: State, asking: SignedInRows | null, command: RegisterCommand): Result {
  if (!state.policy.registrationOpen && asking?.account.admin !== true)
    return reject(Reason.REGISTRATION_CLOSED, 'Registration is closed: ask an administrator.')
  // An account of the name of #everyone would be mistaken for it.
  if (state.accounts.byName(command.name) !== null || nameKey(command.name) === 'everyone')
    return reject(Reason.NAME_TAKEN, `The name ${command.name} is taken.`)
  const tokenProblem = checkToken(state, command.tokenHash)
  if (tokenProblem !== null) return tokenProblem
  const account: AccountRow = {
    id: state.nextAccount(),
    name: command.name,
    deleted: false,
    passwordHash: command.passwordHash,
    passwordVersion: 1,
    admin: !state.accounts.hasAdmin(),
    createdAtMs: state.nowMs,
    connections: 0,
    rateUntilUs: 0,
  }
  state.accounts.insert(account)
  const everyone = state.conversations.get(everyoneId)
  if (everyone !== null) state.conversations.addMember(account.id, everyone, state.position)
  const session = startSession(state, account, command.device, command.tokenHash)
  state.events.emit({ kind: 'all' }, { $case: 'account', value: viewAccount(account) })
  return {
    $case: 'register',
    value: { account: viewAccount(account), session, token: noBytes },
  }
}

export function logIn(state: State, command: LogInCommand): Result {
  const account = state.accounts.get(command.account)
  if (account === null || account.deleted || account.passwordVersion !== command.passwordVersion)
    return reject(Reason.WRONG_CREDENTIALS, 'The name or the password is wrong.')
  const tokenProblem = checkToken(state, command.tokenHash)
  if (tokenProblem !== null) return tokenProblem
  // A session that vanished without logging out must not keep its account from signing in: it gives way.
  const present = state.sessions.ofAccount(account.id)
  const kept = state.policy.singleSession ? 0 : limits.sessionsPerAccount - 1
  for (const old of present.slice(0, Math.max(0, present.length - kept)))
    endSession(state, old, Reason.NOT_SIGNED_IN)
  const session = startSession(state, account, command.device, command.tokenHash)
  state.events.emit({ kind: 'account', account: account.id }, { $case: 'sessionsChanged', value: {} })
  return {
    $case: 'logIn',
    value: {
      account: viewAccount(account),
      session,
      token: noBytes,
      inbox: countInbox(state.sql, account.id),
    },
  }
}

export function logOut(state: State, who: SignedInRows): Result {
  endSession(state, who.session.id, Reason.NOT_SIGNED_IN)
  return { $case: 'logOut', value: {} }
}

export function changePassword(state: State, who: SignedInRows, command: ChangePasswordCommand): Result {
  if (who.account.passwordVersion !== command.passwordVersion)
    return reject(Reason.WRONG_CREDENTIALS, 'The password was changed meanwhile.')
  who.account.passwordHash = command.passwordHash
  who.account.passwordVersion += 1
  state.accounts.changed(who.account)
  for (const session of state.sessions.ofAccount(who.account.id)) {
    if (session !== who.session.id) endSession(state, session, Reason.NOT_SIGNED_IN)
  }
  return { $case: 'changePassword', value: {} }
}

export function revokeSession(state: State, who: SignedInRows, request: RevokeSessionRequest): Result {
  const session = state.sessions.get(request.session)
  if (session === null || session.account !== who.account.id)
    return reject(Reason.SESSION_NOT_FOUND, 'You have no such session.')
  endSession(state, session.id, Reason.NOT_SIGNED_IN)
  return { $case: 'revokeSession', value: {} }
}

export function deleteAccount(state: State, who: SignedInRows, request: DeleteAccountRequest): Result {
  const { account } = who
  if (nameKey(request.confirmName) !== nameKey(account.name))
    return invalid('confirm_name', `must be ${account.name}, the name of the account`)
  for (const session of state.sessions.ofAccount(account.id))
    endSession(state, session, Reason.ACCOUNT_NOT_FOUND)
  for (const id of state.conversations.ofAccount(account.id)) {
    const conversation = state.conversations.get(id)
    if (conversation === null) continue
    // The other side keeps a direct conversation, with its name.
    if (conversation.kind === ConversationKind.DIRECT)
      state.conversations.removeMember(account.id, conversation)
    else leaveConversation(state, account.id, conversation)
  }
  state.sql.of('DELETE FROM draft WHERE account = ?').run(account.id)
  state.sql.of('DELETE FROM hidden WHERE account = ?').run(account.id)
  const wasAdmin = account.admin
  state.accounts.bury(account)
  state.events.emit({ kind: 'all' }, { $case: 'account', value: viewAccount(account) })
  if (wasAdmin) appointAdmin(state)
  return { $case: 'deleteAccount', value: {} }
}

/** Ends a session that exists. */
export function endSession(state: State, id: number, reason: Reason): void {
  const session = state.sessions.get(id)
  if (session === null) return
  disconnectEverywhere(state, id, session.account)
  state.sessions.delete(id)
  state.noteEnded(id)
  state.events.emit(
    { kind: 'account', account: session.account },
    { $case: 'sessionEnded', value: { session: id, reason } },
  )
}

/** A cluster without an administrator could never change its policy again: the oldest account takes over. */
function appointAdmin(state: State): void {
  if (state.accounts.hasAdmin()) return
  const oldest = state.accounts.oldest()
  if (oldest === null) return
  oldest.admin = true
  state.accounts.changed(oldest)
  state.events.emit({ kind: 'all' }, { $case: 'account', value: viewAccount(oldest) })
}

function startSession(state: State, account: AccountRow, device: string, tokenHash: Uint8Array): number {
  const id = state.nextSession()
  state.sessions.insert(
    {
      id,
      account: account.id,
      createdAtMs: state.nowMs,
      lastActiveAtMs: state.nowMs,
      expiresAtMs: state.nowMs + state.policy.sessionLifetimeS * 1000,
    },
    tokenHash,
    device,
  )
  return id
}

/** Tokens are 256 random bits: one that exists already was copied from somewhere. */
function checkToken(state: State, tokenHash: Uint8Array): Rejected | null {
  return state.sessions.hasTokenHash(tokenHash) ? invalid('token', 'must be new') : null
}

const noBytes = new Uint8Array(0)
