import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ParleyError } from '../client/index.ts'
import type { InputOf } from '../client/index.ts'
import type { SaveDraftResponse } from '../gen/parley/v1/service.ts'
import { UnsavedDrafts } from './unsaved-drafts.ts'
import type { DraftStorage, UnsavedDraft } from './unsaved-drafts.ts'

const draft: UnsavedDraft = {
  key: '0a0b',
  account: 1,
  baseVersion: 0,
  text: 'later',
  recipients: [{ target: { $case: 'account', value: 'bob' } }],
  refused: null,
}
const saved: SaveDraftResponse = { draft: undefined, conflictCopy: undefined }

function memory(): DraftStorage {
  const kept = new Map<string, UnsavedDraft>()
  return {
    load: () => [...kept.values()],
    put: (one) => void kept.set(one.key, one),
    remove: (key) => void kept.delete(key),
  }
}

/** What was asked for, and how it is answered. */
function open(storage: DraftStorage, answer: (input: InputOf<'saveDraft'>) => Promise<SaveDraftResponse>) {
  const asked: InputOf<'saveDraft'>[] = []
  const drafts = new UnsavedDrafts({
    storage,
    save(input) {
      asked.push(input)
      return answer(input)
    },
    onChange: () => undefined,
  })
  return { asked, drafts }
}

const refuse = (reason: ParleyError['reason']) => (): Promise<SaveDraftResponse> =>
  Promise.reject(new ParleyError(reason, 'in words'))

test('a draft is kept until the cluster has it, across a reload too', async () => {
  const storage = memory()
  // No answer ever.
  void open(storage, () => new Promise(() => undefined)).drafts.save(draft)
  assert.deepEqual(storage.load(), [draft])
  const { promise, resolve } = Promise.withResolvers<SaveDraftResponse>()
  const { asked, drafts } = open(storage, () => promise)
  drafts.begin(2)
  assert.deepEqual(asked, [], "it is another account's")
  drafts.begin(1)
  drafts.begin(1)
  assert.deepEqual(asked, [
    { draftId: Uint8Array.of(10, 11), baseVersion: 0, text: 'later', recipients: draft.recipients },
  ])
  assert.deepEqual(drafts.items, [draft])
  resolve(saved)
  await promise
  assert.deepEqual(await drafts.save(draft), { kind: 'saved', hasConflictCopy: false })
  assert.deepEqual([drafts.items, storage.load()], [[], []])
})

test('a draft that is refused stays with the reason, and is not tried again by itself', async () => {
  const storage = memory()
  const { drafts } = open(storage, refuse('REASON_DRAFT_LIMIT'))
  assert.equal((await drafts.save(draft)).kind, 'refused')
  const again = open(storage, refuse('REASON_DRAFT_LIMIT'))
  again.drafts.begin(1)
  assert.deepEqual(again.asked, [])
  assert.deepEqual(again.drafts.items, [{ ...draft, refused: 'in words' }])
  again.drafts.discard(draft.key)
  assert.deepEqual(storage.load(), [])
})

test('a draft outlives the session that it was typed in, and the client', async () => {
  for (const reason of ['REASON_SESSION_EXPIRED', 'REASON_DEADLINE_EXCEEDED'] as const) {
    const storage = memory()
    const { drafts } = open(storage, refuse(reason))
    assert.deepEqual(await drafts.save(draft), { kind: 'waiting' })
    assert.deepEqual(storage.load(), [draft])
  }
})

test('an edit of a draft that was sent meanwhile becomes a draft of its own', async () => {
  const { asked, drafts } = open(memory(), ({ baseVersion }) =>
    baseVersion === 0 ? Promise.resolve(saved) : refuse('REASON_DRAFT_NOT_FOUND')(),
  )
  assert.equal((await drafts.save({ ...draft, baseVersion: 3 })).kind, 'saved')
  assert.deepEqual(
    asked.map(({ baseVersion }) => baseVersion),
    [3, 0],
  )
})
