import { assert } from '../base/assert.ts'
import { equalBytes } from '../base/bytes.ts'
import type { Command } from '../gen/parley/v1/command.ts'
import { Reason, type MessageRef } from '../gen/parley/v1/model.ts'
import { findDraft } from './drafts.ts'
import type { StoredOutcome } from './idempotency.ts'
import { viewMessage, type MessageRow } from './messages.ts'
import { reject, type Rejected, type Result } from './rejections.ts'
import type { SignedInRows, State } from './state.ts'

/**
 * The first outcome again, for a command whose id was used before; nothing is changed. Texts are shown as they are now, to who is signed in and may still see them. The session
 * may be another one of the account: a command may be repeated after a new sign-in.
 *
 * @param who the session of the command, or why there is none.
 */
export function repeat(
  state: State,
  command: Command,
  stored: StoredOutcome,
  who: SignedInRows | Rejected,
): Result {
  const { outcome } = stored
  if (!isOfSameAccount(stored, command) || stored.fingerprint !== command.fingerprint) return idReused
  if (outcome.kind === 'other')
    return carriesTexts(outcome.result) && '$case' in who ? who : restore(state, command, outcome.result)
  const message = state.messages.at(outcome.place)
  assert(message !== null, 'a sent message is in its place', { place: outcome.place })
  const { conversation, seq, atMs } = message
  return { $case: 'sendMessage', value: { conversation, seq, atMs, delivered: outcome.delivered } }
}

/** A registration is nobody's until it has succeeded: that an administrator asked for it, while none else may, does not make it another one. */
function isOfSameAccount({ account, outcome }: StoredOutcome, command: Command): boolean {
  const isRegistered = outcome.kind === 'other' && outcome.result.$case === 'register'
  return account === command.account || (isRegistered && command.op?.$case === 'register')
}

/** Whether {@link restore} puts texts back that were left out when the outcome was stored. */
function carriesTexts({ $case }: Result): boolean {
  return $case === 'openInbox' || $case === 'editMessage' || $case === 'saveDraft'
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
        const row = findVisible(state, command.account, message)
        if (row === null) return { ...message, deleted: true }
        return viewMessage(row, state.accounts.get(row.sender)?.name ?? '', false)
      })
      return { $case: 'openInbox', value: { ...result.value, messages } }
    }
    case 'editMessage': {
      const message = result.value.message
      if (message === undefined) return result
      const text = findVisible(state, command.account, message)?.text ?? ''
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

/** Null for a message of which its number is all that the account may see: removed for its age, hidden, or of a conversation that the account has left. */
function findVisible(state: State, account: number, { conversation, seq }: MessageRef): MessageRow | null {
  if (state.conversations.member(account, conversation) === null) return null
  return state.messages.isHidden(account, conversation, seq) ? null : state.messages.get(conversation, seq)
}

const idReused = reject(Reason.ID_REUSED, 'The id was used before for something else.')
