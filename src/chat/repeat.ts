import { assert } from '../base/assert.ts'
import { equalBytes } from '../base/bytes.ts'
import type { Command } from '../gen/parley/v1/command.ts'
import { Reason } from '../gen/parley/v1/model.ts'
import { findDraft } from './drafts.ts'
import type { StoredOutcome } from './idempotency.ts'
import { viewMessage } from './messages.ts'
import { reject, type Result } from './rejections.ts'
import type { State } from './state.ts'

/**
 * The first outcome again, for a command whose id was used before; nothing is changed. Texts are shown as they are now. The session may be another one of the account: a
 * command may be repeated after a new sign-in.
 */
export function repeat(state: State, command: Command, stored: StoredOutcome): Result {
  if (stored.account !== command.account || stored.fingerprint !== command.fingerprint) return idReused
  const { outcome } = stored
  if (outcome.kind === 'other') return restore(state, command, outcome.result)
  const message = state.messages.at(outcome.place)
  assert(message !== null, 'a sent message is in its place', { place: outcome.place })
  const { conversation, seq, atMs } = message
  return { $case: 'sendMessage', value: { conversation, seq, atMs, delivered: outcome.delivered } }
}

function restore(state: State, command: Command, result: Result): Result {
  const { op } = command
  switch (result.$case) {
    case 'register':
    case 'logIn': {
      // The fingerprint leaves secrets out, so the token is compared here: another one would not open the session.
      const tokenHash = op?.$case === 'register' || op?.$case === 'logIn' ? op.value.tokenHash : null
      const known = state.sessions.tokenHash(result.value.session)
      return tokenHash !== null && known !== null && !equalBytes(tokenHash, known) ? idReused : result
    }
    case 'openInbox': {
      const messages = result.value.messages.map((message) => {
        const row = state.messages.get(message.conversation, message.seq)
        // It was removed for its age: nothing is left of it but its number.
        if (row === null) return { ...message, deleted: true }
        return viewMessage(row, state.accounts.get(row.sender)?.name ?? '', false)
      })
      return { $case: 'openInbox', value: { ...result.value, messages } }
    }
    case 'editMessage': {
      const message = result.value.message
      if (message === undefined) return result
      const text = state.messages.get(message.conversation, message.seq)?.text ?? ''
      return { $case: 'editMessage', value: { message: { ...message, text } } }
    }
    case 'saveDraft': {
      const { draft, conflictCopy } = result.value
      const text = op?.$case === 'saveDraft' ? op.value.text : ''
      const copied =
        conflictCopy === undefined ? null : findDraft(state.sql, command.account, conflictCopy.id)
      return {
        $case: 'saveDraft',
        value: {
          draft: draft === undefined ? undefined : { ...draft, text },
          conflictCopy:
            conflictCopy === undefined ? undefined : { ...conflictCopy, text: copied?.text ?? '' },
        },
      }
    }
    default:
      return result
  }
}

const idReused = reject(Reason.ID_REUSED, 'The id was used before for something else.')
