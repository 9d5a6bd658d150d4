import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defaultServers, type GlobalFlags, readSettings, type Settings } from './config.ts'

const path = '/home/ann/.config/parley/config.toml'

function read(
  given: {
    readonly flags?: GlobalFlags
    readonly environment?: Readonly<Record<string, string>>
    readonly file?: string
    readonly at?: string
  } = {},
): Settings {
  return readSettings(
    given.flags ?? {},
    { HOME: '/home/ann', ...given.environment },
    {
      read: (asked) => (asked === (given.at ?? path) ? (given.file ?? null) : null),
      writePrivate: () => assert.fail('nothing is written'),
      remove: () => assert.fail('nothing is removed'),
    },
  )
}

test('without anything said: the local cluster, ten seconds, the default profile', () => {
  const settings = read()
  assert.deepEqual(settings.servers, defaultServers)
  assert.deepEqual([settings.timeoutMs, settings.isTimeoutGiven], [10_000, false])
  assert.equal(settings.statePath, '/home/ann/.local/state/parley/default.json')
})

test('flags win over the environment, the environment over the file', () => {
  const file =
    'profile = "work"\n[profiles.work]\nservers = ["a:1", "b"]\ntimeout = 3\n[profiles.home]\nservers = ["c:3"]\n'
  assert.deepEqual(read({ file }).servers, ['a:1', 'b:7400'])
  assert.equal(read({ file }).timeoutMs, 3000)
  const environment = { PARLEY_PROFILE: 'home', PARLEY_TIMEOUT: '5' }
  assert.deepEqual(read({ file, environment }).servers, ['c:3'])
  assert.equal(read({ file, environment }).timeoutMs, 5000)
  const flags = { profile: 'work', server: 'd:4,[::1]:5', timeout: '0.5' }
  assert.deepEqual(read({ file, environment, flags }).servers, ['d:4', '[::1]:5'])
  assert.equal(read({ file, environment, flags }).timeoutMs, 500)
  assert.ok(read({ file }).isTimeoutGiven)
  assert.equal(read({ file, environment, flags }).profile, 'work')
  assert.deepEqual(read({ file, environment: { PARLEY_SERVER: 'e:6' } }).servers, ['e:6'])
})

test('XDG folders are used, each profile keeps its own session', () => {
  const settings = read({
    environment: { XDG_CONFIG_HOME: '/c', XDG_STATE_HOME: '/s' },
    at: '/c/parley/config.toml',
    file: 'profile = "bob"',
  })
  assert.equal(settings.configPath, '/c/parley/config.toml')
  assert.equal(settings.statePath, '/s/parley/bob.json')
})

for (const [flags, says] of [
  [{ server: 'no port:x' }, /host:port/],
  [{ server: 'a:70000' }, /host:port/],
  [{ profile: '../other' }, /profile's name/],
  [{ timeout: 'soon' }, /seconds/],
  [{ timeout: '0' }, /seconds/],
] as const)
  test(`${JSON.stringify(flags)} is refused with words`, () => {
    assert.throws(() => read({ flags }), { name: 'UsageError', message: says })
  })

for (const [file, says] of [
  ['profile = ', /config\.toml is not good TOML/],
  ['profiles = 3', /profiles must be a table/],
  ['[profiles.default]\nservers = [1]', /servers of profile default/],
] as const)
  test(`a configuration file with ${JSON.stringify(file)} is refused with words`, () => {
    assert.throws(() => read({ file }), { name: 'CliError', message: says })
  })
