import { unreachable } from '../base/assert.ts'
import { replicaName } from '../base/ids.ts'
import type { ClientState } from './types.ts'

/** The state in words for people: `connected via r2`, `no quorum: read-only, 2 messages queued`. */
export function describeState(state: ClientState): string {
  switch (state.kind) {
    case 'connecting':
      return 'connecting'
    case 'connected':
      return `connected via ${replicaName(state.replica)}`
    case 'reconnecting':
      return 'reconnecting'
    case 'noQuorum':
      return `no quorum: read-only${untilBack(state.waitingFor)}${queuedWords(state.queued)}`
    case 'signedOut':
      return signedOutWords(state.reason)
    case 'closed':
      return 'closed'
    default:
      return unreachable(state)
  }
}

/** ` until r2 and r3 are back`; empty when nobody in particular is waited for. */
export function untilBack(waitingFor: readonly number[] = []): string {
  if (waitingFor.length === 0) return ''
  return ` until ${waitingFor.map(replicaName).join(' and ')} ${waitingFor.length === 1 ? 'is' : 'are'} back`
}

function queuedWords(queued: number): string {
  if (queued === 0) return ''
  return queued === 1 ? ', 1 message queued' : `, ${queued} messages queued`
}

function signedOutWords(reason: string): string {
  if (reason === 'REASON_SESSION_EXPIRED') return 'signed out: the session has expired'
  if (reason === 'REASON_ACCOUNT_NOT_FOUND') return 'signed out: the account was deleted'
  return 'signed out: the session was ended'
}

export function sameState(a: ClientState, b: ClientState): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
