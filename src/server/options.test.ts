import assert from 'node:assert/strict'
import { test } from 'node:test'

import { environmentName, OptionError, readOptions, upOptions } from './options.ts'

const nothing = { flags: {}, environment: {}, file: {} }

test('flags go before the environment, the environment before the file, the file before the defaults', () => {
  const file = { replicas: 1, httpPort: 1, grpcPort: 1, restart: true }
  const environment = { PARLEY_REPLICAS: '2', PARLEY_HTTP_PORT: '2' }
  const options = readOptions(upOptions, { flags: { replicas: '3' }, environment, file })
  assert.equal(options.replicas, 3)
  assert.equal(options.httpPort, 2)
  assert.equal(options.grpcPort, 1)
  assert.equal(options.restart, true)
  assert.equal(options.peerPort, 7600)
})

test('a value that may not be is refused with its source and what it may be', () => {
  const refused = (sources: Partial<typeof nothing>, message: RegExp): void =>
    assert.throws(
      () => readOptions(upOptions, { ...nothing, ...sources }),
      (error) => error instanceof OptionError && message.test(error.message),
    )
  refused({ flags: { replicas: 'five' } }, /^--replicas must be a whole number from 1 to 9, not "five"$/)
  refused({ flags: { replicas: '10' } }, /from 1 to 9/)
  refused({ environment: { PARLEY_HTTP_PORT: '1.5' } }, /^PARLEY_HTTP_PORT must be a whole number/)
  refused({ environment: { PARLEY_RESTART: 'maybe' } }, /^PARLEY_RESTART must be true or false/)
  refused({ file: { logLevel: 'loud' } }, /^logLevel in the configuration file must be one of debug, info/)
  refused({ file: { data: 5 } }, /^data in the configuration file must be a text/)
})

test('an empty variable is as good as none, and names follow from the flags', () => {
  assert.equal(readOptions(upOptions, { ...nothing, environment: { PARLEY_DATA: '' } }).data, 'data')
  assert.equal(environmentName(upOptions.httpPort), 'PARLEY_HTTP_PORT')
})
