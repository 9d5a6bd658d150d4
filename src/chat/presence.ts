import type { PresenceCommand, ReplicaGoneCommand, TouchSessionsCommand } from '../gen/parley/v1/command.ts'
import { Reason } from '../gen/parley/v1/model.ts'
import { viewAccount } from './accounts.ts'
import { endSession } from './signing.ts'
import { integer } from './statements.ts'
import type { State } from './state.ts'

/** Sessions that one command ends at most; the rest are ended by the next. */
const endedAtOnce = 1000

/** Sessions came to a replica, or went from it. Those that have ended meanwhile are left out. */
export function applyPresence(state: State, command: PresenceCommand): void {
  for (const session of command.connected) connect(state, session, command.replica, command.incarnation)
  for (const session of command.disconnected) {
    const { changes } = state.sql
      .of('DELETE FROM presence WHERE session = ? AND replica = ? AND incarnation = ?')
      .run(session, command.replica, command.incarnation)
    const account = state.sessions.get(session)?.account
    if (changes === 1 && account !== undefined) addConnections(state, account, -1)
  }
}

export function applyReplicaGone(state: State, command: ReplicaGoneCommand): void {
  const rows = state.sql
    .of(
      'SELECT p.session, s.account FROM presence p JOIN session s ON s.id = p.session WHERE p.replica = ? AND p.incarnation <= ? ORDER BY p.session',
    )
    .all(command.replica, command.incarnation)
  state.sql
    .of('DELETE FROM presence WHERE replica = ? AND incarnation <= ?')
    .run(command.replica, command.incarnation)
  for (const row of rows) addConnections(state, integer(row['account']), -1)
}

export function touchSessions(state: State, command: TouchSessionsCommand): void {
  for (const id of command.sessions) {
    const session = state.sessions.get(id)
    if (session === null || session.lastActiveAtMs === state.nowMs) continue
    session.lastActiveAtMs = state.nowMs
    state.sessions.changed(session)
  }
}

export function endSessions(state: State): void {
  const idleSinceMs = idleSince(state.nowMs, state.policy.idleLogoutS, state.version)
  for (const session of state.sessions.due(state.nowMs, idleSinceMs, endedAtOnce))
    endSession(state, session, Reason.SESSION_EXPIRED)
}

/** What a session did is written down so late at most: what many do is told together, now and then (src/replica/housekeeping.ts). */
const activityToldWithinMs = 30_000

/** Sessions that were last active before this, as far as is written down, have been idle for too long for certain; 0 when the policy does not mind. */
export function idleSince(nowMs: number, idleLogoutS: number, version: number): number {
  if (idleLogoutS === 0) return 0
  // Version 1 signed out people who had just done something that was not written down yet.
  const lateMs = version < 2 ? 0 : activityToldWithinMs
  return Math.max(0, nowMs - idleLogoutS * 1000 - lateMs)
}

/** The session ended: it is connected nowhere any more. */
export function disconnectEverywhere(state: State, session: number, account: number): void {
  const { changes } = state.sql.of('DELETE FROM presence WHERE session = ?').run(session)
  if (changes !== 0) addConnections(state, account, -Number(changes))
}

function connect(state: State, session: number, replica: number, incarnation: number): void {
  const account = state.sessions.get(session)?.account
  if (account === undefined) return
  const known = state.sql
    .of('SELECT incarnation FROM presence WHERE session = ? AND replica = ?')
    .get(session, replica)
  if (known === undefined) {
    state.sql
      .of('INSERT INTO presence (session, replica, incarnation) VALUES (?, ?, ?)')
      .run(session, replica, incarnation)
    addConnections(state, account, 1)
  } else if (integer(known['incarnation']) < incarnation) {
    state.sql
      .of('UPDATE presence SET incarnation = ? WHERE session = ? AND replica = ?')
      .run(incarnation, session, replica)
  }
}

function addConnections(state: State, id: number, change: number): void {
  const account = state.accounts.get(id)
  if (account === null) return
  const wasOnline = account.connections > 0
  account.connections += change
  state.accounts.changed(account)
  if (wasOnline !== account.connections > 0 && !account.deleted)
    state.events.emit({ kind: 'all' }, { $case: 'account', value: viewAccount(account) })
}
