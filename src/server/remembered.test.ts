import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { test, type TestContext } from 'node:test'
import { initOptions, OptionError, readOptions, serveOptions } from './options.ts'
import { readRemembered, rememberOptions } from './remembered.ts'

function temporary(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'parley-remembered-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}

test('what a replica was made with is read again by serve, unless a flag or the environment says otherwise', (t) => {
  const folder = temporary(t)
  const flags = { data: folder, listen: '0.0.0.0', tlsCert: 'cert.pem', tlsKey: 'key.pem', logMib: '8' }
  rememberOptions(
    folder,
    readOptions(initOptions, { flags, environment: { PARLEY_INSECURE: 'true' }, file: {} }),
  )
  const file = readRemembered(folder)
  // Wherever serve is called from, the files are the same.
  const [tlsCert, tlsKey] = [resolve('cert.pem'), resolve('key.pem')]
  assert.deepEqual(file, { listen: '0.0.0.0', tlsCert, tlsKey, logMib: 8, insecure: true })
  const served = readOptions(serveOptions, {
    flags: { data: folder, listen: '127.0.0.1' },
    environment: { PARLEY_INSECURE: 'false' },
    file,
  })
  assert.deepEqual(
    [served.listen, served.insecure, served.tlsCert, served.logMib, served.log],
    ['127.0.0.1', false, tlsCert, 8, 'stderr'],
  )
  assert.equal(statSync(join(folder, 'serve.toml')).mode & 0o777, 0o600)
})

test('nothing is remembered of what is as usual, nor of a folder that says nothing', (t) => {
  const folder = temporary(t)
  assert.deepEqual(readRemembered(folder), {})
  assert.deepEqual(readRemembered(join(folder, 'not-there')), {})
  rememberOptions(folder, readOptions(initOptions, { flags: { data: folder }, environment: {}, file: {} }))
  assert.deepEqual(readRemembered(folder), {})
  assert.match(readFileSync(join(folder, 'serve.toml'), 'utf8'), /^# "parley serve" starts this replica so/)
})

test('a file that is no good is refused with what it may say', (t) => {
  const folder = temporary(t)
  const refused = (text: string, message: RegExp): void => {
    writeFileSync(join(folder, 'serve.toml'), text)
    assert.throws(
      () => readRemembered(folder),
      (error) => error instanceof OptionError && message.test(error.message),
    )
  }
  refused('listen = ', /serve\.toml is not good TOML/)
  refused('listne = "0.0.0.0"', /serve\.toml may say logMib, .*listen, and says listne/)
  refused('http = "127.0.0.1:1"', /and says http/)
})
