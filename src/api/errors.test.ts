import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { status as codes } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { Reason } from '../gen/parley/v1/model.ts'
import { invalid, makeError, meanings, statusDetails, withMessage } from './errors.ts'

test('every reason has a code, a status, and a sentence', () => {
  for (const reason of Object.values(Reason)) {
    const { code, http, message } = meanings[reason]
    assert.ok(code > codes.OK && codes[code] !== undefined, reason)
    assert.ok(http >= 400 && http < 600, reason)
    assert.match(message, /^[A-Z].*\.$/, reason)
  }
})

test('what may be asked again with hope is retryable, what was rejected is not', () => {
  assert.ok(meanings.REASON_NO_QUORUM.retryable)
  assert.ok(meanings.REASON_OUTCOME_UNKNOWN.retryable)
  assert.ok(meanings.REASON_DRAINING.retryable)
  assert.ok(!meanings.REASON_NAME_TAKEN.retryable)
  assert.ok(!meanings.REASON_INVALID_ARGUMENT.retryable)
})

test('a rejection without words gets those of its reason', () => {
  const bare = { reason: Reason.NAME_TAKEN, message: '', violations: [], retryAfterMs: 0 }
  assert.equal(withMessage(bare).message, meanings.REASON_NAME_TAKEN.message)
  const violations = [{ field: 'name', description: 'must not be empty' }]
  const named = { ...bare, reason: Reason.INVALID_ARGUMENT, violations }
  assert.equal(withMessage(named).message, 'name: must not be empty')
  assert.equal(withMessage({ ...bare, message: 'Own words.' }).message, 'Own words.')
})

test('the details are messages of google.rpc: ErrorInfo always, BadRequest with fields, RetryInfo when retryable', () => {
  assert.deepEqual(details(makeError(Reason.NAME_TAKEN)), {
    code: codes.ALREADY_EXISTS,
    message: meanings.REASON_NAME_TAKEN.message,
    'google.rpc.ErrorInfo': { reason: 'NAME_TAKEN', domain: 'parley' },
  })
  assert.deepEqual(details(invalid([{ field: 'to.room', description: 'must be shorter' }])), {
    code: codes.INVALID_ARGUMENT,
    message: 'to.room: must be shorter',
    'google.rpc.ErrorInfo': { reason: 'INVALID_ARGUMENT', domain: 'parley' },
    'google.rpc.BadRequest': { fieldViolations: [{ field: 'to.room', description: 'must be shorter' }] },
  })
  assert.deepEqual(details(makeError(Reason.RATE_LIMITED, { retryAfterMs: 2_345 })), {
    code: codes.RESOURCE_EXHAUSTED,
    message: meanings.REASON_RATE_LIMITED.message,
    'google.rpc.ErrorInfo': { reason: 'RATE_LIMITED', domain: 'parley' },
    'google.rpc.RetryInfo': { retryDelay: { seconds: 2, nanos: 345_000_000 } },
  })
})

/** Decoded by another implementation than the one that wrote it. */
function details(error: Parameters<typeof statusDetails>[0]): Record<string, unknown> {
  const described = loadSync('google/rpc/error_details.proto', {
    includeDirs: [fileURLToPath(new URL('./described', import.meta.url))],
    longs: Number,
  })
  const decode = (type: string, bytes: Uint8Array): Record<string, unknown> => {
    const definition = described[type]
    if (
      definition === undefined ||
      !('deserialize' in definition) ||
      typeof definition.deserialize !== 'function'
    )
      throw new Error(`no ${type}`)
    return { ...definition.deserialize(Buffer.from(bytes)) }
  }
  const status = decode('google.rpc.Status', statusDetails(error))
  const list = status['details'] as { typeUrl: string; value: Uint8Array }[]
  return {
    code: status['code'],
    message: status['message'],
    ...Object.fromEntries(
      list.map(({ typeUrl, value }) => {
        const type = typeUrl.replace('type.googleapis.com/', '')
        return [type, decode(type, value)]
      }),
    ),
  }
}
