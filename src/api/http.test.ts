import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { brotliDecompressSync } from 'node:zlib'
import { host, newId, signUp, startTestApi, type TestApi } from './test-support.ts'

let server: TestApi
let webRoot: string
const script = 'console.log("a script of some length")\n'.repeat(100)

before(async () => {
  webRoot = mkdtempSync(join(tmpdir(), 'parley-web-'))
  mkdirSync(join(webRoot, 'app', 'assets'), { recursive: true })
  writeFileSync(join(webRoot, 'secret.txt'), 'not for you')
  writeFileSync(join(webRoot, 'app', 'index.html'), '<!doctype html><title>Parley</title>')
  writeFileSync(join(webRoot, 'app', 'assets', 'main-a1b2c3.js'), script)
  server = await startTestApi({ webRoot: join(webRoot, 'app') })
})
after(async () => {
  await server.close()
  rmSync(webRoot, { recursive: true })
  assert.deepEqual(server.errors, [])
})

const url = (path: string, port = server.api.httpPort) => `http://${host}:${port}${path}`

/** Sends bytes as they are and returns all that comes back until the connection ends. */
async function raw(bytes: string | Uint8Array, port = server.api.httpPort): Promise<string> {
  const socket = connect(port, host)
  let text = ''
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1')
  })
  socket.on('error', () => undefined)
  socket.write(bytes)
  await once(socket, 'close')
  return text
}

test(
  'thousands of clients that come at once, while the replica is busy, are all taken in by the system',
  { skip: process.platform === 'linux' ? false : 'other systems may keep fewer' },
  () => {
    // From another process, since this one stands still meanwhile. It ends when all are connected; what the system drops comes again only when this one goes on.
    const child = spawnSync(
      process.execPath,
      [
        '-e',
        `const { connect } = require('node:net')
       let left = 2000
       for (let i = left; i > 0; i -= 1)
         connect(${server.api.httpPort}, '${host}', () => { if (--left === 0) process.exit() })`,
      ],
      { timeout: 30_000 },
    )
    assert.equal(child.status, 0, 'all are connected before the replica has accepted any')
  },
)

test('/livez is well while the process lives, /readyz only while the replica serves, and says why not', async () => {
  assert.equal((await fetch(url('/livez'))).status, 200)
  assert.equal((await fetch(url('/readyz'))).status, 200)
  server.setQuorum(false)
  const response = await fetch(url('/readyz'))
  assert.equal(response.status, 503)
  assert.match(await response.text(), /no quorum/)
  assert.equal((await fetch(url('/livez'))).status, 200)
  server.setQuorum(true)
  await server.ready()
  assert.equal((await fetch(url('/readyz'))).status, 200)
})

test('/metrics counts requests by operation and outcome, with their durations', async () => {
  const ann = await signUp(server.api.httpPort, 'ann')
  const to = { target: { $case: 'room', value: 'everyone' } } as const
  for (let i = 0; i < 3; i += 1) await ann.get('sendMessage', { id: newId(), to, text: 'hi' })
  await ann.fail({ $case: 'sendMessage', value: { id: newId(), to, text: '' } })
  const response = await fetch(url('/metrics'))
  assert.match(response.headers.get('content-type') ?? '', /^text\/plain/)
  const text = await response.text()
  assert.match(text, /^parley_requests_total\{op="sendMessage",outcome="OK"\} 3$/m)
  assert.match(text, /^parley_requests_total\{op="sendMessage",outcome="INVALID_ARGUMENT"\} 1$/m)
  assert.match(text, /^parley_request_duration_seconds_bucket\{op="sendMessage",le="\+Inf"\} 4$/m)
  assert.match(text, /^parley_request_duration_seconds_count\{op="sendMessage"\} 4$/m)
  assert.match(text, /^parley_is_leader 1$/m)
  assert.match(text, /^process_resident_memory_bytes \d+$/m)
  ann.close()
})

test('the web app is served with its types; hashed files are kept by browsers, the page is asked for again', async () => {
  const index = await fetch(url('/'))
  assert.equal(index.headers.get('content-type'), 'text/html; charset=utf-8')
  assert.equal(index.headers.get('cache-control'), 'no-cache')
  assert.match(await index.text(), /<title>Parley/)
  const asset = await fetch(url('/assets/main-a1b2c3.js'))
  assert.equal(asset.headers.get('content-type'), 'text/javascript; charset=utf-8')
  assert.match(asset.headers.get('cache-control') ?? '', /immutable/)
  assert.equal(await asset.text(), script)
})

test('files are compressed for those who understand it', async () => {
  const answer = await raw(
    `GET /assets/main-a1b2c3.js HTTP/1.1\r\nhost: ${host}\r\naccept-encoding: gzip, br\r\nconnection: close\r\n\r\n`,
  )
  assert.match(answer, /content-encoding: br/)
  const body = Buffer.from(answer.slice(answer.indexOf('\r\n\r\n') + 4), 'latin1')
  assert.ok(body.length < script.length / 10)
  assert.equal(brotliDecompressSync(body).toString(), script)
})

test('the policy for pages allows no script but the app’s own and no other site', async () => {
  const policy = (await fetch(url('/'))).headers.get('content-security-policy') ?? ''
  assert.match(policy, /default-src 'self'/)
  assert.match(policy, /frame-ancestors 'none'/)
  assert.match(policy, new RegExp(`connect-src 'self' .*ws://${host}:\\*`))
  assert.doesNotMatch(policy, /script-src|unsafe-eval/)
})

test('addresses inside the app lead to the page, a file that is missing is missing', async () => {
  assert.match(await (await fetch(url('/rooms/general'))).text(), /<title>Parley/)
  assert.equal((await fetch(url('/assets/gone.js'))).status, 404)
})

test('no path leads out of the folder of the app', async () => {
  for (const path of [
    '/../secret.txt',
    '/%2e%2e/secret.txt',
    '/..%2fsecret.txt',
    '/assets/..%2f..%2fsecret.txt',
    '/..%5csecret.txt',
    '/%00',
    '/%ff',
  ]) {
    const answer = await raw(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`)
    assert.match(answer, /^HTTP\/1.1 (400|404) /, path)
    assert.doesNotMatch(answer, /not for you/, path)
  }
})

test('without a built app a page says how to get it', async () => {
  const other = await startTestApi()
  const response = await fetch(url('/', other.api.httpPort))
  assert.equal(response.status, 200)
  assert.match(await response.text(), /has not been built/)
  await other.close()
})

test('only GET and HEAD are answered', async () => {
  assert.equal((await fetch(url('/'), { method: 'POST', body: 'x' })).status, 405)
  const head = await fetch(url('/'), { method: 'HEAD' })
  assert.equal(head.status, 200)
  assert.equal(await head.text(), '')
  assert.equal((await fetch(url('/ws'))).status, 426)
})

test('garbage and oversized headers are refused, and others are served', async () => {
  assert.match(await raw(randomBytes(500)), /^HTTP\/1.1 400 /)
  assert.match(await raw(`GET / HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`), /^HTTP\/1.1 4/)
  assert.equal((await fetch(url('/livez'))).status, 200)
})

test('a stop does not wait for a client that keeps open what was refused to it', async () => {
  const other = await startTestApi()
  const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\n'
  for (const head of [
    `GET /elsewhere HTTP/1.1\r\nHost: x\r\n${upgrade}`,
    `GET /ws HTTP/1.1\r\nHost: x\r\n${upgrade}Origin: http://evil.example\r\n`,
  ]) {
    const socket = connect({ port: other.api.httpPort, host: '127.0.0.1', allowHalfOpen: true })
    socket.write(`${head}\r\n`)
    await once(socket, 'data')
    socket.on('error', () => undefined)
    after(() => socket.destroy())
  }
  await other.close()
})

test('a client that sends half a request, or nothing, is cut off', async () => {
  const impatient = await startTestApi({ webRoot: join(webRoot, 'app'), limits: { requestMs: 100 } })
  try {
    assert.match(await raw('GET / HTTP/1.1\r\nhost: ', impatient.api.httpPort), /^$|^HTTP\/1.1 4/)
    assert.match(await raw('', impatient.api.httpPort), /^$|^HTTP\/1.1 4/)
  } finally {
    await impatient.close()
  }
})
