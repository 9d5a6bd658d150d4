import assert from 'node:assert/strict'
import { createHash, randomBytes, X509Certificate } from 'node:crypto'
import { after, before, test } from 'node:test'
import { newId, signUp, startTestApi, TestClient, type TestApi } from '../api/test-support.ts'
import { toHex } from '../base/bytes.ts'
import { silentLogger } from '../base/logger.ts'
import { Reason } from '../gen/parley/v1/model.ts'
import type { JoinClusterRequest } from '../gen/parley/v1/service.ts'
import { createAuthority, makeRequest, type Authority } from '../tls/authority.ts'
import { fingerprintOf, replicaOf } from '../tls/names.ts'
import { systemClock } from './clock.ts'
import { createJoinDesk } from './join-desk.ts'

const clusterId = '07'.repeat(16)
const operatorToken = randomBytes(32)
let authority: Authority
let pin = ''
let server: TestApi
let client: TestClient

before(async () => {
  authority = await createAuthority(clusterId, Date.now())
  pin = fingerprintOf(new X509Certificate(authority.certificate))
  const address = `parleys://192.0.2.1:7400#sha256=${pin}`
  server = await startTestApi({ operatorToken }, (replica) =>
    createJoinDesk({ replica, authority, address: () => address, clock: systemClock, logger: silentLogger }),
  )
  client = await new TestClient(server.api.httpPort).ready()
})
after(async () => {
  client.close()
  await server.close()
  assert.deepEqual(server.errors, [])
})

/** A token, made at the replica's own machine; returns its secret. */
async function makeToken(uses = 1): Promise<Uint8Array> {
  const secret = randomBytes(16)
  const operator = await new TestClient(server.api.httpPort).ready()
  await operator.ask({ $case: 'authenticate', value: { token: operatorToken } })
  const made = await operator.get('createJoinToken', {
    id: newId(),
    secretHash: createHash('sha256').update(secret).digest(),
    uses,
    lifetimeS: 60,
  })
  assert.equal(toHex(made.clusterId), clusterId)
  assert.equal(toHex(made.authority), pin)
  assert.deepEqual(made.addresses, [`parleys://192.0.2.1:7400#sha256=${pin}`])
  operator.close()
  return secret
}

async function joining(secret: Uint8Array): Promise<JoinClusterRequest> {
  const { request } = await makeRequest()
  const at = (port: number): string => `r7.example:${port}`
  return {
    id: newId(),
    secret,
    certificateRequest: request,
    httpAddress: at(7400),
    grpcAddress: at(7500),
    peerAddress: at(7600),
  }
}

test('who shows the secret of a token gets an id, a certificate for it, and the authority', async () => {
  const request = await joining(await makeToken())
  const answer = await client.get('joinCluster', request)
  assert.equal(toHex(answer.clusterId), clusterId)
  assert.equal(answer.replica, 7)
  assert.equal(answer.authorityKey, authority.key)
  const certificate = new X509Certificate(answer.certificate)
  assert.equal(replicaOf(certificate, clusterId), 7)
  assert.ok(certificate.verify(new X509Certificate(answer.authorityCertificate).publicKey))
  assert.match(certificate.subjectAltName ?? '', /DNS:r7\.example/)
  // The answer may get lost on its way.
  const again = await client.get('joinCluster', request)
  assert.equal(again.replica, 7)
})

test('a token that is wrong or used up lets nobody in, and the answer says which', async () => {
  const before = server.replica.position
  const wrong = await client.fail({ $case: 'joinCluster', value: await joining(randomBytes(16)) })
  assert.equal(wrong.reason, Reason.JOIN_TOKEN_UNKNOWN)
  assert.equal(server.replica.position, before, 'strangers cost no place in the log')
  const secret = await makeToken()
  await client.get('joinCluster', await joining(secret))
  const usedUp = await client.fail({ $case: 'joinCluster', value: await joining(secret) })
  assert.equal(usedUp.reason, Reason.JOIN_TOKEN_USED_UP)
})

test('a request that is wrong does not use up the token', async () => {
  const secret = await makeToken()
  const request = await joining(secret)
  for (const wrong of [
    { certificateRequest: randomBytes(200) },
    { certificateRequest: new Uint8Array(0) },
    { httpAddress: 'x, URI:parley://other:7400' },
    { peerAddress: 'nowhere' },
    { secret: new Uint8Array(3) },
  ]) {
    const error = await client.fail({ $case: 'joinCluster', value: { ...request, ...wrong } })
    assert.equal(error.reason, Reason.INVALID_ARGUMENT)
  }
  await client.get('joinCluster', request)
})

test('tokens are for administrators and for those at a replica’s own machine', async () => {
  const admin = await signUp(server.api.httpPort, 'admin')
  const bob = await signUp(server.api.httpPort, 'bob')
  const make = () => ({ id: newId(), secretHash: randomBytes(32), uses: 3, lifetimeS: 60 })
  const { token } = await admin.get('createJoinToken', make())
  const number = token?.number ?? 0
  assert.equal(token?.createdBy, 'admin')
  for (const [who, reason] of [
    [bob, Reason.NOT_PERMITTED],
    [client, Reason.NOT_SIGNED_IN],
  ] as const) {
    assert.equal((await who.fail({ $case: 'createJoinToken', value: make() })).reason, reason)
    assert.equal((await who.fail({ $case: 'listJoinTokens', value: {} })).reason, reason)
    const revoked = await who.fail({ $case: 'revokeJoinToken', value: { id: newId(), number } })
    assert.equal(revoked.reason, reason)
  }
  const listed = (await admin.get('listJoinTokens', {})).tokens.find((one) => one.number === number)
  assert.equal(listed?.usesLeft, 3)
  await admin.get('revokeJoinToken', { id: newId(), number })
})

test('a cluster without an authority lets nobody in, and says why', async () => {
  const plain = await startTestApi({ operatorToken })
  const operator = await new TestClient(plain.api.httpPort).ready()
  await operator.ask({ $case: 'authenticate', value: { token: operatorToken } })
  const make = { id: newId(), secretHash: randomBytes(32), uses: 3, lifetimeS: 60 }
  const refused = await operator.fail({ $case: 'createJoinToken', value: make })
  assert.match(refused.message, /parley up/)
  const join = await joining(randomBytes(16))
  assert.match(
    (await operator.fail({ $case: 'joinCluster', value: join })).message,
    /no certificate authority/,
  )
  operator.close()
  await plain.close()
})
