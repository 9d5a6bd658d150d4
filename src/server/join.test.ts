import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { before, test, type TestContext } from 'node:test'
import { once } from 'node:events'
import { X509Certificate } from 'node:crypto'
import type { JoinClusterRequest, JoinClusterResponse } from '../gen/parley/v1/service.ts'
import { answerRequest, createAuthority, readRequest, type Authority } from '../tls/authority.ts'
import { formatJoinToken, parseJoinToken, type JoinToken } from '../tls/join-token.ts'
import { fingerprintOf } from '../tls/names.ts'
import { readCertificates } from '../tls/store.ts'
import { runInit } from './init.ts'
import type { ServerIo } from './io.ts'
import { beginJoining } from './join-cluster.ts'
import { runJoin, type Cluster } from './join.ts'
import { initOptions, joinOptions, readOptions, type InitOptions } from './options.ts'
import { problemOf } from './problems.ts'

const clusterId = 'ab'.repeat(16)
let authority: Authority
let token: JoinToken

before(async () => {
  authority = await createAuthority(clusterId, Date.now())
  const pin = fingerprintOf(new X509Certificate(authority.certificate))
  const addresses = [`parleys://127.0.0.1:7400#sha256=${pin}`]
  token = { clusterId, authority: pin, secret: new Uint8Array(16).fill(1), addresses }
})

function temporary(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'parley-join-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}

/** Options of both verbs, with ports that are free most likely. */
function options(data: string, more: Readonly<Record<string, unknown>> = {}): InitOptions {
  const flags = { data, host: '127.0.0.1', httpPort: 31_411, grpcPort: 31_412, peerPort: 31_413, ...more }
  return readOptions(initOptions, { flags, environment: {}, file: {} })
}

const io: ServerIo = {
  out: () => undefined,
  err: () => undefined,
  environment: {},
  onStop: () => () => undefined,
  supervisor: null,
}

/** A cluster that nobody should ask. */
const nobody: Cluster = {
  join: () => assert.fail('the cluster was asked'),
  follow: () => Promise.resolve(false),
  close: () => undefined,
}

/** What `parley join` says when it fails. */
async function refusal(word: string, given: InitOptions, cluster = nobody): Promise<string> {
  try {
    return `ended with ${await runJoin(word, given, false, io, () => cluster)}`
  } catch (error) {
    return problemOf(error)
  }
}

async function answer(
  request: JoinClusterRequest,
  by = authority,
  nowMs = Date.now(),
): Promise<JoinClusterResponse> {
  const key = await readRequest(request.certificateRequest)
  assert.ok(key !== null)
  const subject = { clusterId, replica: 3, hosts: ['127.0.0.1'] }
  return {
    clusterId: Buffer.from(clusterId, 'hex'),
    replica: 3,
    certificate: await answerRequest(by, subject, { nowMs }, key),
    authorityCertificate: by.certificate,
    authorityKey: by.key,
    faultModel: 'majority',
    others: [],
  }
}

test('what keeps a machine from joining is said in words, before the cluster is asked', async (t) => {
  const folder = temporary(t)
  const data = join(folder, 'r3')
  const word = formatJoinToken(token)
  assert.match(await refusal(word.slice(0, -3), options(data)), /no join token, or a part of it is missing/)
  writeFileSync(join(folder, 'notes.txt'), '')
  assert.match(await refusal(word, options(folder)), /is not empty \(notes\.txt\): name a new folder/)
  assert.match(
    await refusal(word, options(data, { host: 'no.such.invalid' })),
    /no\.such\.invalid leads to no address .*--host/,
  )
  assert.match(
    await refusal(word, options(data, { host: '192.0.2.7' })),
    /Cannot listen on .*EADDRNOTAVAIL.*--host/,
  )
  assert.match(
    await refusal(word, options(data, { listen: '192.0.2.7' })),
    /^--listen 192\.0\.2\.7: nothing can/,
  )
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.after(() => taken.close())
  const { port } = taken.address() as AddressInfo
  assert.match(await refusal(word, options(data, { peerPort: port })), /in use .*--peer-port/)
  const missing = join(folder, 'no.pem')
  assert.match(await refusal(word, options(data, { tlsCert: missing })), /--tls-key are given together/)
  const files = { tlsCert: missing, tlsKey: missing }
  assert.match(await refusal(word, options(data, files)), /no\.pem cannot be read/)
  await assert.rejects(runInit(options(data, files), false, io), /no\.pem cannot be read/)
  assert.ok(!existsSync(data))
  mkdirSync(data)
  const foreign = {
    version: 1,
    clusterId: 'cd'.repeat(16),
    replica: 2,
    incarnation: 1,
    begun: false,
    replicas: [],
  }
  writeFileSync(join(data, 'replica.json'), JSON.stringify(foreign))
  assert.match(await refusal(word, options(data)), /has r2 of another cluster/)
})

test('init does not touch a folder that has something in it', async (t) => {
  const folder = temporary(t)
  writeFileSync(join(folder, 'notes.txt'), '')
  await assert.rejects(runInit(options(folder), false, io), /not empty/)
  const replica = { version: 1, clusterId, replica: 2, incarnation: 1, begun: true, replicas: [] }
  writeFileSync(join(folder, 'replica.json'), JSON.stringify(replica))
  await assert.rejects(
    runInit(options(folder), false, io),
    /has r2 of the cluster abab.* parley serve --data/,
  )
  assert.deepEqual(readdirSync(folder).sort(), ['notes.txt', 'replica.json'])
})

test('an attempt to join that broke off is the same to the cluster when it is made again', async (t) => {
  const data = join(temporary(t), 'r3')
  const given = options(data)
  const first = await beginJoining(given, token)
  const second = await beginJoining(given, token)
  assert.ok(first.kind === 'asks' && second.kind === 'asks')
  assert.deepEqual(second.request, first.request)
  const other = await beginJoining(given, { ...token, secret: new Uint8Array(16).fill(2) })
  assert.ok(other.kind === 'asks')
  assert.notDeepEqual(other.request.id, first.request.id)
  // The file is cut short by a crash: the attempt begins anew.
  writeFileSync(join(data, 'join.json'), '{')
  assert.equal((await beginJoining(given, token)).kind, 'asks')
})

test('what the cluster answers is kept whole, and joining again goes on from there', async (t) => {
  const data = join(temporary(t), 'r3')
  const joining = await beginJoining(options(data), token)
  assert.ok(joining.kind === 'asks')
  assert.equal(joining.finish(await answer(joining.request)), 3)
  assert.deepEqual(readdirSync(data).sort(), ['certificates.json', 'replica.json', 'serve.toml'])
  const kept = readCertificates(data)
  assert.equal(kept?.authority.key, authority.key)
  assert.ok(!readFileSync(join(data, 'replica.json'), 'utf8').includes('KEY'))
  assert.deepEqual(await beginJoining(options(data), token), { kind: 'joined', replica: 3 })
})

test('joining again keeps what the owner of a replica that has run wrote into serve.toml', async (t) => {
  const data = join(temporary(t), 'r3')
  const joining = await beginJoining(options(data), token)
  assert.ok(joining.kind === 'asks')
  joining.finish(await answer(joining.request))
  const kept = (): string => readFileSync(join(data, 'serve.toml'), 'utf8')
  await beginJoining(options(data, { listen: '0.0.0.0' }), token)
  assert.match(kept(), /listen = "0\.0\.0\.0"/)
  const identity = JSON.parse(readFileSync(join(data, 'replica.json'), 'utf8')) as object
  writeFileSync(join(data, 'replica.json'), JSON.stringify({ ...identity, begun: true }))
  await beginJoining(options(data), token)
  assert.match(kept(), /listen = "0\.0\.0\.0"/)
})

test('joining again with options that cannot work keeps those that serve has', async (t) => {
  const data = join(temporary(t), 'r3')
  const joining = await beginJoining(options(data, { logMib: 8 }), token)
  assert.ok(joining.kind === 'asks')
  joining.finish(await answer(joining.request))
  const kept = (): string => readFileSync(join(data, 'serve.toml'), 'utf8')
  const before = kept()
  const files = { tlsCert: join(data, 'no.pem'), tlsKey: join(data, 'no.pem') }
  await assert.rejects(beginJoining(options(data, files), token), /no\.pem cannot be read/)
  await assert.rejects(
    beginJoining(options(data, { listen: '192.0.2.7' }), token),
    /^ServerError: --listen 192/,
  )
  assert.equal(kept(), before)
})

test('an answer of another cluster, for another key or of another time is not kept', async (t) => {
  const data = join(temporary(t), 'r3')
  const joining = await beginJoining(options(data), token)
  assert.ok(joining.kind === 'asks')
  const good = await answer(joining.request)
  const stranger = await createAuthority(clusterId, Date.now())
  const hourMs = 60 * 60 * 1000
  for (const [wrong, words] of [
    [await answer(joining.request, stranger), /not the one that the token was made for/],
    [{ ...good, authorityKey: stranger.key }, /not the one that the token was made for/],
    [{ ...good, replica: 4 }, /not the one that the token was made for/],
    [{ ...good, clusterId: new Uint8Array(16) }, /not the one that the token was made for/],
    [await answer(joining.request, authority, Date.now() + 3 * hourMs), /clock of this machine says/],
  ] as const)
    assert.throws(() => joining.finish(wrong), words)
  assert.deepEqual(readdirSync(data), ['join.json'])
})

test('what the cluster refuses is what people read', async (t) => {
  const cluster = { ...nobody, join: () => Promise.reject(new Error('The join token has expired.')) }
  const word = formatJoinToken(token)
  assert.deepEqual(parseJoinToken(word), token)
  assert.equal(await refusal(word, options(join(temporary(t), 'r3')), cluster), 'The join token has expired.')
})

test('init and join take the same options, but for those of the token and the fault model', () => {
  assert.deepEqual(
    Object.keys(initOptions).filter((name) => !(name in joinOptions)),
    ['uses', 'hours', 'faultModel'],
  )
})
