import { toHex } from '../base/bytes.ts'
import { encode } from '../base/encode.ts'
import { Draft, Reason, type DraftOutcome, type MessageRef, type Target } from '../gen/parley/v1/model.ts'
import type { DeleteDraftsRequest, SaveDraftRequest, SendDraftsRequest } from '../gen/parley/v1/service.ts'
import { isBlank, limits, utf8Length } from './limits.ts'
import { reject, type Result } from './rejections.ts'
import { checkRate, checkText, deliver, findDestination } from './sending.ts'
import type { SqlRow } from './sql.ts'
import { blob, integer, string, type Statements } from './statements.ts'
import type { SignedInRows, State } from './state.ts'

export function draftFromRow(row: SqlRow): Draft {
  return {
    id: blob(row['id']),
    text: string(row['text']),
    recipients: Draft.decode(blob(row['recipients'])).recipients,
    version: integer(row['version']),
    updatedAtMs: integer(row['updated_at_ms']),
    conflictOf: blob(row['conflict_of']),
  }
}

export function findDraft(sql: Statements, account: number, id: Uint8Array): Draft | null {
  const row = sql.of('SELECT * FROM draft WHERE account = ? AND id = ?').get(account, id)
  return row === undefined ? null : draftFromRow(row)
}

/**
 * Makes a draft, or changes it. An edit of a version that another device's edit has overtaken wins, and what it did not know of is kept as a copy: nothing that was typed is
 * lost, and all devices agree.
 */
export function saveDraft(state: State, who: SignedInRows, request: SaveDraftRequest): Result {
  const account = who.account.id
  const tooLarge = checkText(state, request.text)
  if (tooLarge !== null) return tooLarge
  const present = findDraft(state.sql, account, request.draftId)
  if (present === null && request.baseVersion !== 0) return draftNotFound
  if (present !== null && isSame(present, request))
    return { $case: 'saveDraft', value: { draft: present, conflictCopy: undefined } }
  const overtaken = present !== null && present.version !== request.baseVersion ? present : null
  if ((present === null || overtaken !== null) && countDrafts(state, account) >= limits.draftsPerAccount)
    return reject(Reason.DRAFT_LIMIT, `You have ${limits.draftsPerAccount} drafts: delete some first.`)
  const conflictCopy =
    overtaken === null
      ? undefined
      : store(state, account, {
          ...overtaken,
          id: unusedId(state, account, overtaken.id, overtaken.version),
          version: 1,
          updatedAtMs: state.nowMs,
          conflictOf: overtaken.id,
        })
  const draft = store(state, account, {
    id: request.draftId,
    text: request.text,
    recipients: request.recipients,
    version: (present?.version ?? 0) + 1,
    updatedAtMs: state.nowMs,
    conflictOf: present?.conflictOf ?? noBytes,
  })
  return { $case: 'saveDraft', value: { draft, conflictCopy } }
}

/** Ids of drafts that do not exist are passed over. */
export function deleteDrafts(state: State, who: SignedInRows, request: DeleteDraftsRequest): Result {
  let deleted = 0
  for (const id of request.draftIds) if (remove(state, who.account.id, id)) deleted += 1
  return { $case: 'deleteDrafts', value: { deleted } }
}

/** Each draft to each of its recipients; each of these with an outcome of its own. */
export function sendDrafts(state: State, who: SignedInRows, request: SendDraftsRequest): Result {
  const outcomes: DraftOutcome[] = []
  const budget = { sends: limits.sendsAtOnce, bytes: limits.sentBytesAtOnce }
  for (const id of withoutRepetitions(request.draftIds)) {
    const draft = findDraft(state.sql, who.account.id, id)
    if (draft === null) outcomes.push(failed(id, undefined, Reason.DRAFT_NOT_FOUND))
    else outcomes.push(...sendDraft(state, who, draft, budget))
  }
  return { $case: 'sendDrafts', value: { outcomes } }
}

function sendDraft(
  state: State,
  who: SignedInRows,
  draft: Draft,
  budget: { sends: number; bytes: number },
): readonly DraftOutcome[] {
  if (draft.recipients.length === 0) return [failed(draft.id, undefined, Reason.INVALID_ARGUMENT)]
  // The same for all recipients, so found once: texts are long, and recipients may be many.
  const bytes = utf8Length(draft.text)
  const blank = isBlank(draft.text)
  const tooLarge = checkText(state, draft.text)
  // A conversation that is named twice, by its id and by its name, gets the message once.
  const sent = new Map<number, MessageRef>()
  const outcomes = draft.recipients.map((recipient, i): DraftOutcome => {
    if (blank) return failed(draft.id, recipient, Reason.INVALID_ARGUMENT)
    const destination = findDestination(state, who.account, recipient)
    if (destination.kind === 'rejected') return failed(draft.id, recipient, destination.rejected.value.reason)
    const known = destination.kind === 'conversation' ? sent.get(destination.conversation.id) : undefined
    const peer = destination.peer
    const delivered = peer !== null && peer.connections > 0
    if (known !== undefined)
      return { draftId: draft.id, recipient, outcome: { $case: 'sent', value: known }, delivered }
    const rejected = tooLarge ?? checkRate(state, who.account)
    if (rejected !== null) return failed(draft.id, recipient, rejected.value.reason)
    if (budget.sends < 1 || budget.bytes < bytes) return failed(draft.id, recipient, Reason.RATE_LIMITED)
    budget.sends -= 1
    budget.bytes -= bytes
    const messageId = derivedId(draft.id, draft.version * limits.draftRecipients + i)
    const { conversation, seq } = deliver(state, who.account, destination, messageId, draft.text)
    sent.set(conversation, { conversation, seq })
    return {
      draftId: draft.id,
      recipient,
      outcome: { $case: 'sent', value: { conversation, seq } },
      delivered,
    }
  })
  const left = outcomes.flatMap(({ outcome, recipient }) =>
    outcome?.$case === 'rejected' && recipient !== undefined ? [recipient] : [],
  )
  if (left.length === 0) remove(state, who.account.id, draft.id)
  else if (left.length < draft.recipients.length)
    store(state, who.account.id, {
      ...draft,
      recipients: left,
      version: draft.version + 1,
      updatedAtMs: state.nowMs,
    })
  return outcomes
}

function failed(draftId: Uint8Array, recipient: Target | undefined, reason: Reason): DraftOutcome {
  return { draftId, recipient, outcome: { $case: 'rejected', value: reason }, delivered: false }
}

function store(state: State, account: number, draft: Draft): Draft {
  state.sql
    .of(
      'INSERT OR REPLACE INTO draft (account, id, version, updated_at_ms, conflict_of, recipients, text) VALUES (?, ?, ?, ?, ?, ?, ?)',
    )
    .run(
      account,
      draft.id,
      draft.version,
      draft.updatedAtMs,
      draft.conflictOf,
      encodeRecipients(draft.recipients),
      draft.text,
    )
  state.events.emitDraft(account, { $case: 'draft', value: draft })
  return draft
}

function remove(state: State, account: number, id: Uint8Array): boolean {
  const { changes } = state.sql.of('DELETE FROM draft WHERE account = ? AND id = ?').run(account, id)
  if (changes === 0) return false
  state.events.emit({ kind: 'account', account }, { $case: 'draftRemoved', value: { draftId: id } })
  return true
}

function encodeRecipients(recipients: readonly Target[]): Uint8Array {
  return encode(Draft, {
    id: noBytes,
    text: '',
    recipients,
    version: 0,
    updatedAtMs: 0,
    conflictOf: noBytes,
  })
}

function isSame(draft: Draft, request: SaveDraftRequest): boolean {
  return (
    draft.text === request.text &&
    toHex(encodeRecipients(draft.recipients)) === toHex(encodeRecipients(request.recipients))
  )
}

function countDrafts(state: State, account: number): number {
  const row = state.sql.of('SELECT count(*) AS n FROM draft WHERE account = ?').get(account)
  return integer(row?.['n'])
}

function withoutRepetitions(ids: readonly Uint8Array[]): readonly Uint8Array[] {
  return [...new Map(ids.map((id) => [toHex(id), id])).values()]
}

function unusedId(state: State, account: number, id: Uint8Array, salt: number): Uint8Array {
  for (let attempt = 0; ; attempt += 1) {
    const candidate = derivedId(id, salt + attempt * 2 ** 31)
    if (findDraft(state.sql, account, candidate) === null) return candidate
  }
}

/** Another UUIDv7 of the same time: the same on every replica, and different for each salt. Not for secrets. */
function derivedId(id: Uint8Array, salt: number): Uint8Array {
  const derived = new Uint8Array(id)
  // FNV-1a over the id and the salt, once for each byte that is random.
  let hash = 0x811c9dc5
  const mix = (byte: number): void => {
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  }
  for (const byte of id) mix(byte)
  for (let rest = salt, i = 0; i < 7; i += 1, rest = Math.floor(rest / 256)) mix(rest % 256)
  for (let i = 6; i < 16; i += 1) {
    mix(i)
    derived[i] = hash >>> 24
  }
  const view = new DataView(derived.buffer)
  view.setUint8(6, 0x70 | (view.getUint8(6) & 0x0f))
  view.setUint8(8, 0x80 | (view.getUint8(8) & 0x3f))
  return derived
}

const noBytes = new Uint8Array(0)
const draftNotFound = reject(Reason.DRAFT_NOT_FOUND, 'There is no such draft: it was sent or deleted.')
