import assert from 'node:assert/strict'
import { test } from 'node:test'

import { createPasswords, PasswordsOverloadedError } from './passwords.ts'

const cheap = { memoryKib: 64, passes: 1 }
const id = Uint8Array.from({ length: 16 }, (_, i) => i + 1)

test('a password verifies against its own hash and no other does', async () => {
  const passwords = createPasswords(cheap)
  const phc = await passwords.hash('correct horse', id)
  assert.match(phc, /^\$argon2id\$v=19\$m=64,t=1,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/)
  assert.equal(await passwords.verify('correct horse', phc), true)
  assert.equal(await passwords.verify('correct house', phc), false)
})

test('the same password has one hash for each id, and another one with every other id', async () => {
  const passwords = createPasswords(cheap)
  const hashes = await Promise.all([
    passwords.hash('caf\u00e9', id),
    passwords.hash('cafe\u0301', id),
    passwords.hash('caf\u00e9', Uint8Array.of(...id.subarray(0, 15), 0)),
    passwords.hash('tea', id),
  ])
  const [first, again, ofOtherId, ofOtherPassword] = hashes
  assert.equal(again, first)
  const saltOf = (phc: string | undefined) => phc?.split('$')[4]
  assert.notEqual(saltOf(ofOtherId), saltOf(first))
  assert.notEqual(ofOtherPassword, first)
})

test('a hash made with other parameters still verifies', async () => {
  const phc = await createPasswords({ memoryKib: 128, passes: 3 }).hash('secret', id)
  assert.equal(await createPasswords(cheap).verify('secret', phc), true)
})

test('the two Unicode forms of one password are the same password', async () => {
  const passwords = createPasswords(cheap)
  assert.equal(await passwords.verify('cafe\u0301', await passwords.hash('caf\u00e9', id)), true)
})

test('an account that does not exist, or a damaged hash, verifies nothing', async () => {
  const passwords = createPasswords(cheap)
  assert.equal(await passwords.verify('x', null), false)
  assert.equal(await passwords.verify('x', 'plain text'), false)
})

test('the default parameters are those that OWASP asks for', async () => {
  assert.match(await createPasswords().hash('x', id), /^\$argon2id\$v=19\$m=19456,t=2,p=1\$/)
})

test('more passwords than may wait are refused, and the others are still answered', async () => {
  const passwords = createPasswords({ ...cheap, maxWaiting: 3 })
  const results = await Promise.allSettled(Array.from({ length: 5 }, () => passwords.hash('x', id)))
  assert.deepEqual(
    results.map((result) => result.status),
    ['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'rejected'],
  )
  assert.ok(results[4]?.status === 'rejected' && results[4].reason instanceof PasswordsOverloadedError)
  assert.equal((await passwords.hash('x', id)).length > 0, true)
})

test('a hasher that was closed refuses', async () => {
  const passwords = createPasswords(cheap)
  const waiting = passwords.hash('x', id)
  passwords.close()
  await assert.rejects(waiting, PasswordsOverloadedError)
  await assert.rejects(passwords.verify('x', null), PasswordsOverloadedError)
})
