import { assert, unreachable } from '../base/assert.ts'
import { uuidV7TimeMs } from '../base/ids.ts'
import { newestVersion } from '../base/version.ts'
import type { Command, CommandBatch, Outcome } from '../gen/parley/v1/command.ts'
import { Reason } from '../gen/parley/v1/model.ts'
import type { SendMessageRequest } from '../gen/parley/v1/service.ts'
import { deleteMessage, editMessage } from './changing.ts'
import { expireMessages, setRoomRetention } from './retention.ts'
import { deleteDrafts, saveDraft, sendDrafts } from './drafts.ts'
import { isReplicaFailure } from './failures.ts'
import { idWindowAheadMs, idWindowBackMs } from './idempotency.ts'
import { openInbox } from './inbox.ts'
import { commandError, type CommandOp } from './limits.ts'
import { createJoinToken, revokeJoinToken, useJoinToken } from './join-tokens.ts'
import { markRead } from './marks.ts'
import { setPolicy } from './policies.ts'
import { applyPresence, applyReplicaGone, endSessions, touchSessions } from './presence.ts'
import { openQueries } from './queries.ts'
import type { ChatQueries } from './queries.ts'
import { repeat } from './repeat.ts'
import { invalid, notSignedIn, reject, sessionExpired, type Rejected, type Result } from './rejections.ts'
import { createRoom, inviteToRoom, joinRoom, leaveRoom } from './rooms.ts'
import { prepareSchema } from './schema.ts'
import { checkRate, checkText, deliver, findDestination, sendMessage } from './sending.ts'
import { changePassword, deleteAccount, logIn, logOut, register, revokeSession } from './signing.ts'
import type { Sql } from './sql.ts'
import { State, type SignedInRows } from './state.ts'
import type { Applied, ChatMachine } from './types.ts'
import { NewerVersionError, versionOf } from './versions.ts'

export interface OpenChatOptions {
  /** Called before each command is applied. A test makes a command poisonous by throwing here. */
  readonly beforeCommand?: (command: Command) => void
  /** The newest version that this replica knows; default: that of src/base/version.ts. */
  readonly newestVersion?: number
}

/** The chat in a database: its tables are made when they are not there. */
export function openChat(
  db: Sql,
  options: OpenChatOptions = {},
): { readonly machine: ChatMachine; readonly queries: ChatQueries } {
  prepareSchema(db, options.newestVersion ?? newestVersion)
  const state = new State(db)
  return { machine: new Machine(state, options), queries: openQueries(state.sql) }
}

class Machine implements ChatMachine {
  private readonly state: State
  private readonly beforeCommand: ((command: Command) => void) | undefined
  private readonly newestVersion: number

  constructor(state: State, options: OpenChatOptions) {
    this.state = state
    this.beforeCommand = options.beforeCommand
    this.newestVersion = options.newestVersion ?? newestVersion
  }

  get position(): number {
    return this.state.position
  }

  get version(): number {
    return this.state.version
  }

  get nowMs(): number {
    return this.state.nowMs
  }

  applyBatch(batch: CommandBatch, careful: boolean): readonly Applied[] | null {
    const { state } = this
    if (!state.origins.advance(batch.origin, batch.incarnation, batch.number)) return null
    state.advanceClock(batch.atMs)
    const before = state.position
    const applied: Applied[] = []
    try {
      for (const command of batch.commands) {
        const result = careful ? this.applyCarefully(command) : this.begin(command)
        applied.push(this.finish(result))
      }
      state.events.prune(before, state.position)
      state.outcomes.prune(state.nowMs, batch.commands.length)
    } catch (error) {
      throw failureOf(error)
    }
    return applied
  }

  flush(): void {
    try {
      this.state.flush()
    } catch (error) {
      throw failureOf(error)
    }
    this.state.trim()
  }

  reload(): void {
    this.state.reload()
  }

  /** A command that throws leaves nothing behind but its rejection. */
  private applyCarefully(command: Command): Result {
    const { state } = this
    state.flush()
    state.sql.exec('SAVEPOINT one_command')
    try {
      const result = this.begin(command)
      state.flush()
      state.sql.exec('RELEASE one_command')
      return result
    } catch (error) {
      if (isReplicaFailure(error)) throw error
      state.sql.exec('ROLLBACK TO one_command; RELEASE one_command')
      state.reload()
      state.beginCommand()
      const result = reject(Reason.COMMAND_FAILED, 'The command failed; nothing of it was kept.')
      const timeMs = uuidV7TimeMs(command.id)
      if (timeMs !== null && state.outcomes.find(command.id) === null)
        state.outcomes.keep(command.id, timeMs, command.account, command.fingerprint, result)
      return result
    }
  }

  private begin(command: Command): Result {
    this.state.beginCommand()
    this.beforeCommand?.(command)
    return this.apply(command)
  }

  private finish(result: Result): Applied {
    const { state } = this
    const outcome: Outcome = { outcome: result }
    return {
      position: state.position,
      outcome,
      events: state.events.take(),
      endedSessions: state.endedSessions,
      memberships: state.memberships,
    }
  }

  private apply(command: Command): Result {
    const { op } = command
    if (op === undefined)
      return reject(Reason.UNIMPLEMENTED, 'This version of Parley does not know the command.')
    const version = versionOf(op)
    if (version > this.newestVersion)
      throw new NewerVersionError(
        `The other replicas use version ${version} of Parley's commands, and this one knows ${this.newestVersion}: start a Parley that is at least as new as theirs in this folder`,
      )
    if (this.applyOfCluster(op)) return { $case: 'done', value: {} }
    // Replicas refuse to propose it before, so this is for those that do not.
    if (version > this.state.version)
      return reject(Reason.UPGRADE_PENDING, 'Not before all replicas have been upgraded.')
    const timeMs = uuidV7TimeMs(command.id)
    if (timeMs === null) return invalid('id', 'must be a UUIDv7 of 16 bytes')
    const { nowMs } = this.state
    if (timeMs < nowMs - idWindowBackMs || timeMs > nowMs + idWindowAheadMs) return outOfWindow
    if (op.$case === 'sendMessage') {
      const sent = this.sendQuickly(command, op.value, timeMs)
      if (sent !== null) return sent
    }
    // From here on tables may be searched, so they must be complete.
    this.state.flush()
    const stored = this.state.outcomes.find(command.id)
    if (stored !== null) return repeat(this.state, command, stored, this.signedIn(command))
    const result = this.applyNew(command, op)
    this.state.outcomes.keep(command.id, timeMs, command.account, command.fingerprint, result)
    return result
  }

  private applyOfCluster(op: CommandOp): boolean {
    const { state } = this
    switch (op.$case) {
      case 'presence':
        state.flush()
        applyPresence(state, op.value)
        return true
      case 'replicaGone':
        state.flush()
        applyReplicaGone(state, op.value)
        return true
      case 'touchSessions':
        touchSessions(state, op.value)
        return true
      case 'endSessions':
        state.flush()
        endSessions(state)
        return true
      case 'expireMessages':
        state.flush()
        expireMessages(state)
        return true
      case 'raiseVersion':
        state.raiseVersion(op.value.version)
        return true
      default:
        return false
    }
  }

  /**
   * The usual case of a send, with as few statements as possible: a share of two. Null when it is not the usual case, and then nothing has been changed. Whether the id was used before shows when it is
   * claimed.
   *
   * @param timeMs the time inside the command's id.
   */
  private sendQuickly(command: Command, request: SendMessageRequest, timeMs: number): Result | null {
    const { state } = this
    const who = this.signedIn(command)
    if ('$case' in who || commandError({ $case: 'sendMessage', value: request }) !== null) return null
    const destination = findDestination(state, who.account, request.to)
    if (destination.kind !== 'conversation') return null
    if (checkText(state, request.text) !== null || checkRate(state, who.account) !== null) return null
    const { peer } = destination
    const isClaimed = state.outcomes.claim(
      command.id,
      timeMs,
      command.account,
      command.fingerprint,
      state.events.nextPlace,
      peer !== null && peer.connections > 0,
    )
    if (!isClaimed) return null
    this.noteActivity(who)
    return {
      $case: 'sendMessage',
      value: deliver(state, who.account, destination, command.id, request.text),
    }
  }

  private applyNew(command: Command, op: CommandOp): Result {
    const who = this.signedIn(command)
    const needsSession = !isForNobody(command, op)
    if (needsSession && '$case' in who) return who
    const error = commandError(op)
    if (error !== null) return { $case: 'rejected', value: error }
    if (op.$case === 'register') return register(this.state, '$case' in who ? null : who, op.value)
    if (op.$case === 'logIn') return logIn(this.state, op.value)
    if (op.$case === 'useJoinToken') return useJoinToken(this.state, op.value)
    if (op.$case === 'createJoinToken')
      return createJoinToken(this.state, '$case' in who ? null : who, op.value)
    if (op.$case === 'revokeJoinToken')
      return revokeJoinToken(this.state, '$case' in who ? null : who, op.value)
    if ('$case' in who) return who
    this.noteActivity(who)
    return this.dispatch(command, op, who)
  }

  private dispatch(
    command: Command,
    op: Exclude<
      CommandOp,
      { readonly $case: 'register' | 'logIn' | 'useJoinToken' | 'createJoinToken' | 'revokeJoinToken' }
    >,
    who: SignedInRows,
  ): Result {
    const { state } = this
    switch (op.$case) {
      case 'logOut':
        return logOut(state, who)
      case 'changePassword':
        return changePassword(state, who, op.value)
      case 'deleteAccount':
        return deleteAccount(state, who, op.value)
      case 'revokeSession':
        return revokeSession(state, who, op.value)
      case 'createRoom':
        return createRoom(state, who, op.value)
      case 'joinRoom':
        return joinRoom(state, who, op.value)
      case 'leaveRoom':
        return leaveRoom(state, who, op.value)
      case 'inviteToRoom':
        return inviteToRoom(state, who, op.value)
      case 'setRoomRetention':
        return setRoomRetention(state, who, op.value)
      case 'sendMessage':
        return sendMessage(state, who, op.value, command.id)
      case 'editMessage':
        return editMessage(state, who, op.value)
      case 'deleteMessage':
        return deleteMessage(state, who, op.value)
      case 'markRead':
        return markRead(state, who, op.value)
      case 'openInbox':
        return openInbox(state, who, op.value)
      case 'saveDraft':
        return saveDraft(state, who, op.value)
      case 'deleteDrafts':
        return deleteDrafts(state, who, op.value)
      case 'sendDrafts':
        return sendDrafts(state, who, op.value)
      case 'setPolicy':
        return setPolicy(state, who, op.value)
      case 'presence':
      case 'replicaGone':
      case 'touchSessions':
      case 'endSessions':
      case 'raiseVersion':
      case 'expireMessages':
        throw new Error('a command of the cluster itself')
      default:
        return unreachable(op)
    }
  }

  private signedIn(command: Command): SignedInRows | Rejected {
    const { state } = this
    const session = command.session === 0 ? null : state.sessions.get(command.session)
    if (session === null || session.account !== command.account) return notSignedIn
    if (state.nowMs >= session.expiresAtMs) return sessionExpired
    const account = state.accounts.get(session.account)
    assert(account !== null && !account.deleted, 'a session has an account', { session: session.id })
    return { account, session }
  }

  /** What a session does keeps it from idling. Written down now and then only. */
  private noteActivity({ session }: SignedInRows): void {
    const { nowMs, policy } = this.state
    const everyMs = policy.idleLogoutS === 0 ? 60_000 : Math.min(60_000, policy.idleLogoutS * 100)
    if (nowMs - session.lastActiveAtMs < everyMs) return
    session.lastActiveAtMs = nowMs
    this.state.sessions.changed(session)
  }
}

/** Commands that need no session. Those that only administrators may give come without an account from who has proved to be at a replica's own machine. */
function isForNobody({ account }: Command, op: CommandOp): boolean {
  switch (op.$case) {
    case 'register':
    case 'logIn':
    case 'useJoinToken':
      return true
    case 'createJoinToken':
    case 'revokeJoinToken':
      return account === 0
    default:
      return false
  }
}

/** What to throw for what was thrown while commands were applied, or what they left was written. */
function failureOf(error: unknown): unknown {
  if (isReplicaFailure(error)) return error
  // Its code, if it has one, does not say that the database failed.
  return new Error('a command failed while it was applied', { cause: error })
}

const outOfWindow = reject(
  Reason.ID_OUT_OF_WINDOW,
  'The time inside the id is more than seven days old, or more than a day ahead.',
)
