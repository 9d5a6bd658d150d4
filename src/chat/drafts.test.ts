import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { uuidV7TimeMs } from '../base/ids.ts'
import { Reason, type Draft, type DraftOutcome, type Target } from '../gen/parley/v1/model.ts'
import type { SaveDraftResponse } from '../gen/parley/v1/service.ts'
import { Harness, toAccount, toConversation, toRoom, type Op, type Who } from './harness.ts'
import { limits } from './limits.ts'

const noBytes = new Uint8Array(0)

function start(): { chat: Harness; alice: Who; bob: Who; draftId: Uint8Array } {
  const chat = new Harness(new DatabaseSync(':memory:'))
  return { chat, alice: chat.register('alice'), bob: chat.register('bob'), draftId: chat.newId() }
}

function saving(
  draftId: Uint8Array,
  baseVersion: number,
  text: string,
  recipients: readonly Target[] = [],
): Extract<Op, { readonly $case: 'saveDraft' }> {
  return { $case: 'saveDraft', value: { id: noBytes, draftId, baseVersion, text, recipients } }
}

function sending(...draftIds: readonly Uint8Array[]): Extract<Op, { readonly $case: 'sendDrafts' }> {
  return { $case: 'sendDrafts', value: { id: noBytes, draftIds } }
}

function texts(drafts: readonly Draft[]): readonly string[] {
  return drafts.map(({ text, version }) => `${text} ${version}`)
}

function summary(outcomes: readonly DraftOutcome[]): readonly string[] {
  return outcomes.map(({ outcome, recipient }) => {
    const to = recipient?.target?.value ?? 'nobody'
    return outcome?.$case === 'sent' ? `${to}: ${outcome.value.seq}` : `${to}: ${outcome?.value}`
  })
}

test('a draft is made, changed, listed and deleted, and the account’s devices are told', () => {
  const { chat, alice, bob, draftId } = start()
  const made = chat.do(alice, saving(draftId, 0, 'one', [toAccount('bob')]))
  assert.equal(made.draft?.version, 1)
  assert.deepEqual(chat.applied.at(-1)?.events[0]?.audience, { kind: 'account', account: alice.account })
  chat.nowMs += 1
  chat.do(alice, saving(chat.newId(), 0, 'other'))
  chat.nowMs += 1
  const changed = chat.do(alice, saving(draftId, 1, 'two', [toAccount('bob'), toRoom('everyone')]))
  assert.deepEqual(changed.draft?.recipients, [toAccount('bob'), toRoom('everyone')])
  assert.deepEqual(texts(chat.queries.drafts(alice.account, 500, '').items), ['two 2', 'other 1'])
  assert.deepEqual(chat.queries.drafts(bob.account, 500, '').items, [])
  const { deleted } = chat.do(alice, {
    $case: 'deleteDrafts',
    value: { id: noBytes, draftIds: [draftId, chat.newId()] },
  })
  assert.equal(deleted, 1)
  assert.deepEqual(texts(chat.queries.drafts(alice.account, 500, '').items), ['other 1'])
})

test('saving what is there already changes nothing', () => {
  const { chat, alice, draftId } = start()
  chat.do(alice, saving(draftId, 0, 'one'))
  for (const base of [0, 1, 7]) {
    assert.equal(chat.do(alice, saving(draftId, base, 'one')).draft?.version, 1)
    assert.deepEqual(chat.lastEvents(), [])
  }
})

test('when two devices edit a draft both texts are kept', () => {
  const { chat, alice, draftId } = start()
  chat.do(alice, saving(draftId, 0, 'start'))
  chat.do(alice, saving(draftId, 1, 'phone'))
  const { draft, conflictCopy }: SaveDraftResponse = chat.do(alice, saving(draftId, 1, 'laptop'))
  assert.equal(draft?.text, 'laptop')
  assert.equal(draft.version, 3)
  assert.equal(conflictCopy?.text, 'phone')
  assert.deepEqual(conflictCopy.conflictOf, draftId)
  assert.notEqual(uuidV7TimeMs(conflictCopy.id), null)
  assert.deepEqual(texts(chat.queries.drafts(alice.account, 500, '').items).toSorted(), [
    'laptop 3',
    'phone 1',
  ])
  // Again: the copies do not collide.
  chat.do(alice, saving(draftId, 1, 'tablet'))
  assert.deepEqual(texts(chat.queries.drafts(alice.account, 500, '').items).toSorted(), [
    'laptop 1',
    'phone 1',
    'tablet 4',
  ])
})

test('an edit of a draft that is gone is told so', () => {
  const { chat, alice, draftId } = start()
  assert.equal(chat.rejected(alice, saving(draftId, 1, 'x')).reason, Reason.DRAFT_NOT_FOUND)
})

test('drafts of others cannot be touched, even by their ids', () => {
  const { chat, alice, bob, draftId } = start()
  chat.do(alice, saving(draftId, 0, 'alice’s', [toAccount('bob')]))
  chat.do(bob, saving(draftId, 0, 'bob’s'))
  assert.deepEqual(summary(chat.do(bob, sending(draftId)).outcomes), ['nobody: REASON_INVALID_ARGUMENT'])
  chat.do(bob, { $case: 'deleteDrafts', value: { id: noBytes, draftIds: [draftId] } })
  assert.deepEqual(texts(chat.queries.drafts(alice.account, 500, '').items), ['alice’s 1'])
})

test('there are at most a thousand drafts, copies included', () => {
  const { chat, alice, draftId } = start()
  chat.do(alice, saving(draftId, 0, 'first'))
  const rest = Array.from({ length: limits.draftsPerAccount - 1 }, () =>
    chat.command(alice, saving(chat.newId(), 0, 'x')),
  )
  chat.apply(...rest)
  assert.equal(chat.rejected(alice, saving(chat.newId(), 0, 'x')).reason, Reason.DRAFT_LIMIT)
  assert.equal(chat.rejected(alice, saving(draftId, 9, 'conflict')).reason, Reason.DRAFT_LIMIT)
  assert.equal(chat.do(alice, saving(draftId, 1, 'changed')).draft?.version, 2)
})

test('many drafts are sent in one go, each recipient with its own outcome', () => {
  const { chat, alice, bob, draftId } = start()
  const second = chat.newId()
  chat.do(alice, saving(draftId, 0, 'hello', [toAccount('bob'), toAccount('nobody'), toRoom('everyone')]))
  chat.do(alice, saving(second, 0, 'again', [toAccount('bob'), toAccount('alice')]))
  const unknown = chat.newId()
  const { outcomes } = chat.do(alice, sending(draftId, second, draftId, unknown))
  assert.deepEqual(summary(outcomes), [
    'bob: 1',
    'nobody: REASON_ACCOUNT_NOT_FOUND',
    'everyone: 1',
    'bob: 2',
    'alice: REASON_NOT_TO_ONESELF',
    'nobody: REASON_DRAFT_NOT_FOUND',
  ])
  assert.equal(chat.queries.inboxCount(bob.account), 3)
  // What was not delivered is still there to be sent, and says to whom.
  assert.deepEqual(
    chat.queries
      .drafts(alice.account, 500, '')
      .items.map(({ text, recipients, version }) => ({ text, recipients, version })),
    [
      { text: 'again', recipients: [toAccount('alice')], version: 2 },
      { text: 'hello', recipients: [toAccount('nobody')], version: 2 },
    ],
  )
})

test('a draft that reached all is removed', () => {
  const { chat, alice, draftId } = start()
  chat.do(alice, saving(draftId, 0, 'hello', [toAccount('bob')]))
  chat.do(alice, sending(draftId))
  assert.deepEqual(chat.queries.drafts(alice.account, 500, '').items, [])
  assert.deepEqual(
    chat.lastEvents().map(({ event }) => event?.$case),
    ['conversation', 'conversation', 'message', 'draftRemoved'],
  )
})

test('messages of one command have ids and places of their own', () => {
  const { chat, alice, draftId } = start()
  chat.register('carol')
  chat.do(alice, saving(draftId, 0, 'hi', [toAccount('bob'), toAccount('carol'), toRoom('everyone')]))
  chat.do(alice, sending(draftId))
  const rows = chat.db.prepare('SELECT place, hex(id) AS id FROM message').all()
  assert.equal(new Set(rows.map(({ place }) => place)).size, 3)
  assert.equal(new Set(rows.map(({ id }) => id)).size, 3)
})

test('a conversation that is named twice gets the message once', () => {
  const { chat, alice, bob, draftId } = start()
  chat.send(alice, toAccount('bob'), 'before')
  chat.do(alice, saving(draftId, 0, 'hi', [toAccount('bob'), toConversation(2), toAccount('BOB')]))
  assert.deepEqual(summary(chat.do(alice, sending(draftId)).outcomes), ['bob: 2', '2: 2', 'BOB: 2'])
  assert.equal(chat.queries.inboxCount(bob.account), 2)
})

test('a blank draft can be kept but not sent', () => {
  const { chat, alice, draftId } = start()
  chat.do(alice, saving(draftId, 0, ' ', [toAccount('bob')]))
  assert.deepEqual(summary(chat.do(alice, sending(draftId)).outcomes), ['bob: REASON_INVALID_ARGUMENT'])
  assert.equal(chat.queries.drafts(alice.account, 500, '').items.length, 1)
})

test('a text that is blank or too large is refused for each recipient, and one who does not exist is named first', () => {
  const { chat, alice, draftId } = start()
  const recipients = ['bob', 'nobody', 'alice'].map(toAccount)
  chat.do(alice, saving(draftId, 0, 'éé', [...recipients, toRoom('everyone')]))
  const blank = chat.newId()
  chat.do(alice, saving(blank, 0, '  ', recipients))
  const policy = { ...chat.queries.policy(), maxMessageBytes: 3 }
  chat.do(alice, { $case: 'setPolicy', value: { id: noBytes, policy, fields: [] } })
  assert.deepEqual(summary(chat.do(alice, sending(draftId, blank)).outcomes), [
    'bob: REASON_MESSAGE_TOO_LARGE',
    'nobody: REASON_ACCOUNT_NOT_FOUND',
    'alice: REASON_NOT_TO_ONESELF',
    'everyone: REASON_MESSAGE_TOO_LARGE',
    'bob: REASON_INVALID_ARGUMENT',
    'nobody: REASON_INVALID_ARGUMENT',
    'alice: REASON_INVALID_ARGUMENT',
  ])
})

test('the rate holds for drafts too, and what is over it stays', () => {
  const { chat, alice, draftId } = start()
  for (const name of ['carol', 'dan', 'eve']) chat.register(name)
  const policy = { ...chat.queries.policy(), messagesPerMinute: 2 }
  chat.do(alice, { $case: 'setPolicy', value: { id: noBytes, policy, fields: [] } })
  chat.do(alice, saving(draftId, 0, 'hi', ['carol', 'dan', 'eve'].map(toAccount)))
  assert.deepEqual(summary(chat.do(alice, sending(draftId)).outcomes), [
    'carol: 1',
    'dan: 1',
    'eve: REASON_RATE_LIMITED',
  ])
  chat.nowMs += 60_000
  assert.deepEqual(summary(chat.do(alice, sending(draftId)).outcomes), ['eve: 1'])
})

test('one command sends a bounded amount: the rest stays in the drafts', () => {
  const { chat, alice } = start()
  const policy = { ...chat.queries.policy(), maxMessageBytes: 65_536 }
  chat.do(alice, { $case: 'setPolicy', value: { id: noBytes, policy, fields: [] } })
  const ids = Array.from({ length: 80 }, () => {
    const id = chat.newId()
    chat.do(alice, saving(id, 0, 'x'.repeat(65_536), [toRoom('everyone')]))
    return id
  })
  const { outcomes } = chat.do(alice, sending(...ids))
  assert.equal(outcomes.filter(({ outcome }) => outcome?.$case === 'sent').length, 64)
  assert.equal(chat.queries.drafts(alice.account, 500, '').items.length, 16)
})

test('drafts are listed in pages, which are shorter when texts are large', () => {
  const { chat, alice } = start()
  for (let i = 0; i < 70; i += 1) {
    chat.do(alice, saving(chat.newId(), 0, `${i} `.padEnd(16_000, 'x')))
    // Some change at the same moment.
    if (i % 3 === 0) chat.nowMs += 1
  }
  const read = (pageSize: number): readonly number[][] => {
    const pages: number[][] = []
    let token = ''
    do {
      const page = chat.queries.drafts(alice.account, pageSize, token)
      pages.push(page.items.map(({ text }) => Number(text.split(' ')[0])))
      token = page.nextPageToken
    } while (token !== '')
    return pages
  }
  const small = read(7)
  assert.deepEqual(
    small.map((page) => page.length),
    Array.from({ length: 10 }, () => 7),
  )
  assert.deepEqual(
    small.flat().toSorted((a, b) => a - b),
    Array.from({ length: 70 }, (_, i) => i),
  )
  const large = read(500)
  assert.deepEqual(
    large.map((page) => page.length),
    [65, 5],
  )
  assert.deepEqual(large.flat(), small.flat())
})
