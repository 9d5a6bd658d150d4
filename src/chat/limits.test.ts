import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { makeUuidV7 } from '../base/ids.ts'
import { Policy, Reason, type Target } from '../gen/parley/v1/model.ts'
import {
  commandViolations,
  isBlank,
  isLonger,
  isName,
  limits,
  requestError,
  utf8Length,
  violations,
  type RequestOp,
} from './limits.ts'

const id = makeUuidV7(1_700_000_000_000, new Uint8Array(10))
const to: Target = { target: { $case: 'conversation', value: 1 } }

function fields(op: RequestOp): readonly string[] {
  return violations(op).map(({ field }) => field)
}

test('a name is 1 to 50 of letters, digits, underscore and hyphen', () => {
  for (const name of ['a', 'A-b_9', 'x'.repeat(50)]) assert.ok(isName(name), name)
  for (const name of ['', 'x'.repeat(51), 'a b', 'ä', 'a.b', '@a', '[a', '`a', '{a', 'a\n'])
    assert.ok(!isName(name), name)
})

test('lengths are bytes of UTF-8', () => {
  const unit = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(fc.integer({ min: 0, max: 0xffff })).map((codes) => String.fromCharCode(...codes)),
  )
  fc.assert(
    fc.property(unit, (text) => {
      const bytes = new TextEncoder().encode(text).length
      assert.equal(utf8Length(text), bytes)
      assert.equal(isLonger(text, bytes), false)
      assert.equal(isLonger(text, bytes - 1), true)
    }),
  )
})

test('a text of white space is blank, whichever', () => {
  for (const text of ['', ' ', '\n\t', '\u00a0', '\u2003 ']) assert.ok(isBlank(text))
  for (const text of ['a', ' a', '\u00a0x', '0', '🙂']) assert.ok(!isBlank(text))
})

test('each violation names the field as a path', () => {
  const empty = new Uint8Array(0)
  const cases: readonly (readonly [RequestOp, readonly string[]])[] = [
    [{ $case: 'lookUpName', value: { name: 'a b' } }, ['name']],
    [
      {
        $case: 'register',
        value: { id: empty, name: '', password: '', device: 'd'.repeat(101), token: new Uint8Array(5) },
      },
      ['id', 'name', 'password', 'device', 'token'],
    ],
    [
      { $case: 'changePassword', value: { id, oldPassword: '', newPassword: 'p'.repeat(1025) } },
      ['old_password', 'new_password'],
    ],
    [{ $case: 'sendMessage', value: { id, to: undefined, text: ' ' } }, ['to', 'text']],
    [
      { $case: 'sendMessage', value: { id, to: { target: { $case: 'account', value: 'é' } }, text: 'a' } },
      ['to.account'],
    ],
    [
      {
        $case: 'saveDraft',
        value: {
          id,
          draftId: empty,
          baseVersion: 0,
          text: '',
          recipients: [to, { target: undefined }],
        },
      },
      ['draft_id', 'recipients[1]'],
    ],
    [{ $case: 'openInbox', value: { id, count: 501, conversation: 0 } }, ['count']],
    [{ $case: 'openInbox', value: { id, count: 0, conversation: 0 } }, ['count']],
    [{ $case: 'sendDrafts', value: { id, draftIds: [] } }, ['draft_ids']],
    [{ $case: 'markRead', value: { id, conversation: 0, mark: undefined } }, ['conversation', 'mark']],
    [{ $case: 'markRead', value: { id, conversation: 1, mark: { $case: 'upTo', value: 0 } } }, ['up_to']],
    [
      { $case: 'createRoom', value: { id, name: '#x', topic: 't'.repeat(251), private: false } },
      ['name', 'topic'],
    ],
    [{ $case: 'editMessage', value: { id, message: undefined, text: 'x' } }, ['message']],
    [
      { $case: 'listAccounts', value: { pattern: 'p'.repeat(101), pageSize: 501, pageToken: '' } },
      ['pattern', 'page_size'],
    ],
    [
      { $case: 'listMessages', value: { conversation: to, beforeSeq: 1, afterSeq: 1, pageSize: 1 } },
      ['after_seq'],
    ],
    [
      {
        $case: 'searchMessages',
        value: { query: '  ', conversation: undefined, pageSize: 0, pageToken: '' },
      },
      ['query'],
    ],
    [{ $case: 'revokeSession', value: { id, session: 0 } }, ['session']],
    [{ $case: 'deleteAccount', value: { id, confirmName: '' } }, ['confirm_name']],
  ]
  for (const [op, expected] of cases) assert.deepEqual(fields(op), expected, op.$case)
})

test('a policy is checked in the fields that are set', () => {
  const policy = {
    registrationOpen: true,
    singleSession: false,
    idleLogoutS: 0,
    maxMessageBytes: limits.messageBytes + 1,
    messagesPerMinute: -1,
    sessionLifetimeS: 0,
    retentionS: 59,
  }
  const set = (...names: readonly string[]): readonly string[] =>
    fields({ $case: 'setPolicy', value: { id, policy, fields: names } })
  assert.deepEqual(set(), [
    'policy.max_message_bytes',
    'policy.messages_per_minute',
    'policy.session_lifetime_s',
    'policy.retention_s',
  ])
  assert.deepEqual(set('session_lifetime_s'), ['policy.session_lifetime_s'])
  assert.deepEqual(set('idle_logout_s'), [])
  assert.deepEqual(set('color', 'toString'), ['fields', 'fields'])
})

test('a policy that would sign people out within a minute is refused to who asks for it, and applied where it was decided', () => {
  const cases = [
    ['idle_logout_s', { idleLogoutS: 59 }, 'must be 0, or at least 60'],
    ['session_lifetime_s', { sessionLifetimeS: 59 }, 'must be at least 60'],
  ] as const
  for (const [field, policy, description] of cases) {
    const value = { id, policy: Policy.create({ sessionLifetimeS: 60, ...policy }), fields: [field] }
    assert.deepEqual(violations({ $case: 'setPolicy', value }), [{ field: `policy.${field}`, description }])
    assert.deepEqual(commandViolations({ $case: 'setPolicy', value }), [])
    const other = { ...value, fields: ['registration_open'] }
    assert.deepEqual(violations({ $case: 'setPolicy', value: other }), [])
  }
})

test('a text above every limit is too large a message, not just an invalid argument', () => {
  const text = 'x'.repeat(limits.messageBytes + 1)
  const error = requestError({ $case: 'sendMessage', value: { id, to, text } })
  assert.equal(error?.reason, Reason.MESSAGE_TOO_LARGE)
  assert.match(error.message, /65536 bytes/)
  assert.equal(requestError({ $case: 'sendMessage', value: { id, to, text: 'x' } }), null)
})

test('a command need not carry the id in its request again', () => {
  const value = { id: new Uint8Array(0), to, text: 'x' }
  assert.deepEqual(commandViolations({ $case: 'sendMessage', value }), [])
  assert.deepEqual(fields({ $case: 'sendMessage', value }), ['id'])
})
