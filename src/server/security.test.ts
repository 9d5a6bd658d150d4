import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { silentLogger } from '../base/logger.ts'
import { ManualClock } from '../replica/manual-clock.ts'
import { createAuthority, issue } from '../tls/authority.ts'
import { replicaOf } from '../tls/names.ts'
import { readCertificates, writeCertificates } from '../tls/store.ts'
import { openSecurity, type Security } from './security.ts'

const clusterId = 'ab'.repeat(16)
const dayMs = 24 * 60 * 60 * 1000
const plain = { insecure: false, listen: '', tlsCert: '', tlsKey: '' }
const elsewhere = { id: 1, http: '192.0.2.1:7400', grpc: '192.0.2.1:7500', peer: '192.0.2.1:7600' }
const here = { id: 1, http: '127.0.0.1:7400', grpc: '[::1]:7500', peer: 'localhost:7600' }

function temporary(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'parley-security-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}

async function withCertificates(folder: string, nowMs: number): Promise<void> {
  const authority = await createAuthority(clusterId, nowMs)
  const own = await issue(authority, { clusterId, replica: 1, hosts: ['192.0.2.1'] }, { nowMs })
  writeCertificates(folder, { clusterId, authority, own })
}

function open(
  t: TestContext,
  folder: string,
  own: typeof here,
  options: Partial<typeof plain> = {},
  clock = new ManualClock(),
): Promise<Security> {
  const parts = { folder, clusterId, own, options: { ...plain, ...options }, clock, logger: silentLogger }
  return openSecurity(parts).then((security) => {
    t.after(() => security.close())
    return security
  })
}

test('without certificates a replica speaks plain text on loopback, and says nothing of it', async (t) => {
  const security = await open(t, temporary(t), here)
  assert.equal(security.tls, null)
  assert.equal(security.sockets, null)
  assert.equal(security.warning, '')
  assert.equal(security.address, here.http)
})

test('without certificates it refuses to be heard elsewhere, unless it is told that it may, which it then says', async (t) => {
  const folder = temporary(t)
  await assert.rejects(open(t, folder, elsewhere), /plain text at 192\.0\.2\.1:7600.*parley init.*--insecure/)
  await assert.rejects(open(t, folder, here, { listen: '0.0.0.0' }), /plain text at 0\.0\.0\.0, .*--insecure/)
  const http = '192.0.2.1:7400'
  await assert.rejects(open(t, folder, { ...here, http }), /plain text at 192\.0\.2\.1:7400, /)
  const security = await open(t, folder, elsewhere, { insecure: true })
  assert.match(security.warning, /--insecure: r1 speaks plain text with everybody.*passwords too/)
})

test('with certificates all ports speak TLS, and the address for this machine pins the authority', async (t) => {
  const folder = temporary(t)
  await withCertificates(folder, Date.now())
  const security = await open(t, folder, elsewhere)
  assert.notEqual(security.sockets, null)
  assert.notEqual(security.tls, null)
  assert.equal(security.warning, '')
  assert.match(security.address, /^parleys:\/\/192\.0\.2\.1:7400#sha256=[0-9a-f]{64}$/)
})

test('with certificates --insecure opens the ports for clients only', async (t) => {
  const folder = temporary(t)
  await withCertificates(folder, Date.now())
  const security = await open(t, folder, elsewhere, { insecure: true })
  assert.notEqual(security.sockets, null)
  assert.equal(security.tls, null)
  assert.match(security.warning, /plain text with clients/)
})

test('a certificate is renewed by itself long before it ends, and the new one is kept', async (t) => {
  const folder = temporary(t)
  const clock = new ManualClock()
  await withCertificates(folder, clock.wallMs())
  const security = await open(t, folder, elsewhere, {}, clock)
  const { tls } = security
  assert.ok(tls !== null)
  const first = tls.current.certificate
  let renewals = 0
  const renewed = new Promise<void>((resolve) => {
    tls.onRenewed(() => {
      renewals += 1
      resolve()
    })
  })
  clock.run(9 * dayMs)
  assert.equal(tls.current.certificate, first)
  clock.run(2 * dayMs)
  await renewed
  assert.equal(renewals, 1)
  assert.notEqual(tls.current.certificate, first)
  const parsed = new X509Certificate(tls.current.certificate)
  assert.equal(replicaOf(parsed, clusterId), 1)
  assert.ok(Date.parse(parsed.validTo) > clock.wallMs() + 29 * dayMs)
  assert.ok(tls.current.certificate.startsWith(readCertificates(folder)?.own.certificate ?? 'none'))
})

test('a replica that has moved gets a certificate with its new name at once', async (t) => {
  const folder = temporary(t)
  await withCertificates(folder, Date.now())
  const clock = new ManualClock()
  const moved = { id: 1, http: 'r1.example:7400', grpc: '192.0.2.9:7500', peer: '192.0.2.9:7600' }
  const { tls } = await open(t, folder, moved, {}, clock)
  const names = new X509Certificate(tls?.current.certificate ?? '').subjectAltName ?? ''
  assert.match(names, /DNS:r1\.example/)
  assert.match(names, /IP Address:192\.0\.2\.9/)
})

test('a certificate that was made while the clock was ahead is replaced', async (t) => {
  const folder = temporary(t)
  const clock = new ManualClock()
  await withCertificates(folder, clock.wallMs() + 40 * dayMs)
  const { tls } = await open(t, folder, elsewhere, {}, clock)
  assert.ok(Date.parse(new X509Certificate(tls?.current.certificate ?? '').validFrom) <= clock.wallMs())
})

for (const [what, aheadMs] of [
  ['the clock of a machine without a battery was set', -1_700_000_000_000],
  ['the machine was suspended', -40 * dayMs],
] as const)
  test(`a certificate is made anew at once when ${what}`, { timeout: 20_000 }, async (t) => {
    const folder = temporary(t)
    const clock = new ManualClock()
    clock.wallAheadMs = aheadMs
    await withCertificates(folder, clock.wallMs())
    const { tls } = await open(t, folder, elsewhere, {}, clock)
    assert.ok(tls !== null)
    const renewed = new Promise<void>((resolve) => tls.onRenewed(resolve))
    clock.wallAheadMs = 0
    clock.run(10_000)
    await renewed
    const { validFrom, validTo } = new X509Certificate(tls.current.certificate)
    assert.ok(Date.parse(validFrom) <= clock.wallMs() && clock.wallMs() < Date.parse(validTo))
  })

test('a name that no certificate can have is no reason to make one again and again', async (t) => {
  const folder = temporary(t)
  const clock = new ManualClock()
  await withCertificates(folder, clock.wallMs())
  const { tls } = await open(t, folder, { ...elsewhere, http: '[::ffff:10.0.0.1]:7400' }, {}, clock)
  assert.ok(tls !== null)
  const renewed = new Promise<void>((resolve) => tls.onRenewed(resolve))
  clock.run(9 * dayMs)
  // One that is being made would be of now.
  await new Promise((resolve) => setImmediate(resolve))
  clock.run(2 * dayMs)
  await renewed
  assert.ok(Date.parse(new X509Certificate(tls.current.certificate).validTo) > clock.wallMs() + 29 * dayMs)
})

test('certificates of another replica are replaced by its own, and those of another cluster stop the start', async (t) => {
  const folder = temporary(t)
  const clock = new ManualClock()
  await withCertificates(folder, clock.wallMs())
  const { tls } = await open(t, folder, { ...elsewhere, id: 2 }, {}, clock)
  assert.equal(replicaOf(new X509Certificate(tls?.current.certificate ?? ''), clusterId), 2)
  const kept = readCertificates(folder)
  assert.ok(kept !== null)
  writeCertificates(folder, { ...kept, clusterId: 'cd'.repeat(16) })
  await assert.rejects(open(t, folder, elsewhere, {}, clock), /certificates\.json is of another cluster/)
})

test('a certificate out of files is read again when they change, and not while they do not fit each other', async (t) => {
  const folder = temporary(t)
  const clock = new ManualClock()
  const authority = await createAuthority(clusterId, Date.now())
  const subject = { clusterId, replica: 1, hosts: [] }
  const [one, two] = [
    await issue(authority, subject, { nowMs: Date.now() }),
    await issue(authority, subject, { nowMs: Date.now() }),
  ]
  const files = { tlsCert: join(folder, 'cert.pem'), tlsKey: join(folder, 'key.pem') }
  await assert.rejects(open(t, folder, here, files), /cert\.pem cannot be read/)
  await assert.rejects(open(t, folder, here, { tlsCert: files.tlsCert }), /given together/)
  writeFileSync(files.tlsCert, one.certificate)
  writeFileSync(files.tlsKey, one.key)
  const security = await open(t, folder, here, files, clock)
  const { tls, address } = security
  assert.deepEqual(tls?.current, one)
  writeFileSync(files.tlsCert, two.certificate)
  clock.run(10_000)
  assert.deepEqual(tls?.current, one)
  writeFileSync(files.tlsKey, two.key)
  clock.run(10_000)
  assert.deepEqual(tls?.current, two)
  // It pins the certificate itself.
  assert.notEqual(security.address, address)
  rmSync(files.tlsKey)
  clock.run(10_000)
  assert.deepEqual(tls?.current, two)
})

test('a certificate out of files that nobody renews is a problem until the files are replaced', async (t) => {
  const folder = temporary(t)
  const clock = new ManualClock()
  const authority = await createAuthority(clusterId, clock.wallMs())
  const files = { tlsCert: join(folder, 'cert.pem'), tlsKey: join(folder, 'key.pem') }
  const renew = async (agoMs: number): Promise<void> => {
    const subject = { clusterId, replica: 1, hosts: [] }
    const validity = { nowMs: clock.wallMs() - agoMs, lifetimeMs: 90 * dayMs }
    const pair = await issue(authority, subject, validity)
    writeFileSync(files.tlsCert, pair.certificate)
    writeFileSync(files.tlsKey, pair.key)
  }
  await renew(75 * dayMs)
  const { expiry } = await open(t, folder, here, files, clock)
  assert.equal(expiry.problem, '')
  clock.run(2.5 * dayMs)
  assert.match(
    expiry.problem,
    /cert\.pem ends in 12 days, .* clients .* turn away: put a renewed one and its key/,
  )
  await renew(0)
  clock.run(10_000)
  assert.equal(expiry.problem, '')
})

test('a certificate of the cluster that cannot renew itself is a problem in time', async (t) => {
  const folder = temporary(t)
  const clock = new ManualClock()
  await withCertificates(folder, clock.wallMs())
  const kept = readCertificates(folder)
  assert.ok(kept !== null)
  const authority = { ...kept.authority, key: 'no key' }
  writeCertificates(folder, { ...kept, authority })
  const { expiry } = await open(t, folder, elsewhere, {}, clock)
  clock.run(15 * dayMs)
  assert.equal(expiry.problem, '')
  clock.run(2.5 * dayMs)
  assert.match(expiry.problem, /the cluster's certificate of r1 ends in 12 days, .* other replicas refuse it/)
  clock.run(20 * dayMs)
  assert.match(expiry.problem, /the cluster's certificate of r1 ended on/)
})

test('damaged certificates stop the start with a word on what to do', async (t) => {
  const folder = temporary(t)
  writeFileSync(join(folder, 'certificates.json'), '{"version":1')
  await assert.rejects(open(t, folder, here), /certificates\.json is damaged: put back a copy/)
  assert.ok(existsSync(join(folder, 'certificates.json')))
})
