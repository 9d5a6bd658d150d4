import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { ManualClock } from '../replica/manual-clock.ts'
import { createAuthority, issue, type Issued } from '../tls/authority.ts'
import type { Credentials } from '../tls/credentials.ts'
import { watchExpiry, type Expiry } from './expiry.ts'

const clusterId = 'ab'.repeat(16)
const dayMs = 24 * 60 * 60 * 1000

class Replaceable implements Credentials {
  current: Issued
  private listener = (): void => {}

  constructor(first: Issued) {
    this.current = first
  }

  onRenewed(listener: () => void): void {
    this.listener = listener
  }

  replace(next: Issued): void {
    this.current = next
    this.listener()
  }

  close(): void {}
}

async function lasting(clock: ManualClock, days: number): Promise<Issued> {
  const nowMs = clock.wallMs()
  const authority = await createAuthority(clusterId, nowMs)
  const subject = { clusterId, replica: 1, hosts: [] }
  return issue(authority, subject, { nowMs, lifetimeMs: days * dayMs })
}

function watch(
  t: TestContext,
  clock: ManualClock,
  credentials: Credentials,
): { readonly expiry: Expiry; readonly warnings: string[] } {
  const warnings: string[] = []
  const warn = (_: object, message: string): void => void warnings.push(message)
  const logger = { debug() {}, info() {}, warn, error: warn }
  const shown = { credentials, name: 'the certificate in a.pem', harm: 'it harms', remedy: 'replace it' }
  const expiry = watchExpiry([shown], { clock, logger })
  t.after(() => expiry.close())
  return { expiry, warnings }
}

test('a certificate is a problem from 14 days before its end on and when it is over, once a day in the log, until it is replaced', async (t) => {
  const clock = new ManualClock()
  const certificate = new Replaceable(await lasting(clock, 90))
  const { expiry, warnings } = watch(t, clock, certificate)
  clock.run(75.9 * dayMs)
  assert.equal(expiry.problem, '')
  assert.deepEqual(warnings, [])
  assert.ok(Math.abs((expiry.leftMs ?? 0) - 14.1 * dayMs) < 2000)
  clock.run(0.2 * dayMs)
  assert.match(
    expiry.problem,
    /^the certificate in a\.pem ends in 13 days, on 20\d\d-\d\d-\d\d \d\d:\d\d UTC; then it harms: replace it$/,
  )
  assert.match(warnings[0] ?? '', /ends in 14 days/)
  assert.deepEqual(warnings.slice(1), [expiry.problem])
  clock.run(13.1 * dayMs)
  assert.match(expiry.problem, /ends within a day/)
  assert.equal(warnings.length, 15)
  clock.run(2 * dayMs)
  assert.match(expiry.problem, /^the certificate in a\.pem ended on .* UTC, so it harms: replace it$/)
  assert.equal(warnings.at(-1), expiry.problem)
  assert.equal(warnings.length, 16)
  assert.ok((expiry.leftMs ?? 0) < -dayMs)
  certificate.replace(await lasting(clock, 90))
  assert.equal(expiry.problem, '')
  assert.ok((expiry.leftMs ?? 0) > 89 * dayMs)
})

test('one that is near its end or over when the replica starts is told of at once', async (t) => {
  const clock = new ManualClock()
  const certificate = new Replaceable(await lasting(clock, 90))
  clock.run(80 * dayMs)
  const { expiry, warnings } = watch(t, clock, certificate)
  clock.run()
  assert.match(expiry.problem, /ends in (9|10) days/)
  assert.deepEqual(warnings, [expiry.problem])
})

test('a certificate that lasts a few days only is a problem in its last third', async (t) => {
  const clock = new ManualClock()
  const { expiry } = watch(t, clock, new Replaceable(await lasting(clock, 6)))
  clock.run(3.9 * dayMs)
  assert.equal(expiry.problem, '')
  clock.run(0.2 * dayMs)
  assert.match(expiry.problem, /ends in 1 day,/)
})

test('without certificates there is no problem and no end', (t) => {
  const clock = new ManualClock()
  const expiry = watchExpiry([], { clock, logger: { debug() {}, info() {}, warn() {}, error() {} } })
  t.after(() => expiry.close())
  assert.equal(expiry.problem, '')
  assert.equal(expiry.leftMs, null)
})
