import { Reason, type Policy } from '../gen/parley/v1/model.ts'
import type { SetPolicyRequest } from '../gen/parley/v1/service.ts'
import { reject, type Result } from './rejections.ts'
import { boolean, integer, type Statements } from './statements.ts'
import type { SignedInRows, State } from './state.ts'

export function readPolicy(sql: Statements): Policy {
  const row = sql.of('SELECT * FROM policy').get() ?? {}
  return {
    registrationOpen: boolean(row['registration_open']),
    singleSession: boolean(row['single_session']),
    idleLogoutS: integer(row['idle_logout_s']),
    maxMessageBytes: integer(row['max_message_bytes']),
    messagesPerMinute: integer(row['messages_per_minute']),
    sessionLifetimeS: integer(row['session_lifetime_s']),
    retentionS: integer(row['retention_s']),
  }
}

export function writePolicy(sql: Statements, policy: Policy): void {
  sql
    .of(
      'UPDATE policy SET registration_open = ?, single_session = ?, idle_logout_s = ?, max_message_bytes = ?, messages_per_minute = ?, session_lifetime_s = ?, retention_s = ?',
    )
    .run(
      Number(policy.registrationOpen),
      Number(policy.singleSession),
      policy.idleLogoutS,
      policy.maxMessageBytes,
      policy.messagesPerMinute,
      policy.sessionLifetimeS,
      policy.retentionS,
    )
}

export function setPolicy(state: State, who: SignedInRows, request: SetPolicyRequest): Result {
  if (!who.account.admin) return reject(Reason.NOT_PERMITTED, 'Only an administrator may change the policy.')
  const given = request.policy ?? state.policy
  const isSet = (field: string): boolean => request.fields.length === 0 || request.fields.includes(field)
  const old = state.policy
  const policy: Policy = {
    registrationOpen: isSet('registration_open') ? given.registrationOpen : old.registrationOpen,
    singleSession: isSet('single_session') ? given.singleSession : old.singleSession,
    idleLogoutS: isSet('idle_logout_s') ? given.idleLogoutS : old.idleLogoutS,
    maxMessageBytes: isSet('max_message_bytes') ? given.maxMessageBytes : old.maxMessageBytes,
    messagesPerMinute: isSet('messages_per_minute') ? given.messagesPerMinute : old.messagesPerMinute,
    sessionLifetimeS: isSet('session_lifetime_s') ? given.sessionLifetimeS : old.sessionLifetimeS,
    retentionS: isSet('retention_s') ? given.retentionS : old.retentionS,
  }
  state.setPolicy(policy)
  state.events.emit({ kind: 'all' }, { $case: 'policy', value: policy })
  return { $case: 'setPolicy', value: { policy } }
}
