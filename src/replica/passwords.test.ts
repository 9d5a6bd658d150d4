import assert from 'node:assert/strict'
import { test } from 'node:test'

import { createPasswords, PasswordsOverloadedError } from './passwords.ts'

const cheap = { memoryKib: 64, passes: 1 }

test('a password verifies against its own hash and no other does', async () => {
  const passwords = createPasswords(cheap)
  const phc = await passwords.hash('correct horse')
  assert.match(phc, /^\$argon2id\$v=19\$m=64,t=1,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/)
  assert.equal(await passwords.verify('correct horse', phc), true)
  assert.equal(await passwords.verify('correct house', phc), false)
  assert.notEqual(await passwords.hash('correct horse'), phc)
})

test('a hash made with other parameters still verifies', async () => {
  const phc = await createPasswords({ memoryKib: 128, passes: 3 }).hash('secret')
  assert.equal(await createPasswords(cheap).verify('secret', phc), true)
})

test('the two Unicode forms of one password are the same password', async () => {
  const passwords = createPasswords(cheap)
  assert.equal(await passwords.verify('cafe\u0301', await passwords.hash('caf\u00e9')), true)
})

test('an account that does not exist, or a damaged hash, verifies nothing', async () => {
  const passwords = createPasswords(cheap)
  assert.equal(await passwords.verify('x', null), false)
  assert.equal(await passwords.verify('x', 'plain text'), false)
})

test('the default parameters are those that OWASP asks for', async () => {
  assert.match(await createPasswords().hash('x'), /^\$argon2id\$v=19\$m=19456,t=2,p=1\$/)
})

test('more passwords than may wait are refused, and the others are still answered', async () => {
  const passwords = createPasswords({ ...cheap, maxWaiting: 3 })
  const results = await Promise.allSettled(Array.from({ length: 5 }, () => passwords.hash('x')))
  assert.deepEqual(
    results.map((result) => result.status),
    ['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'rejected'],
  )
  assert.ok(results[4]?.status === 'rejected' && results[4].reason instanceof PasswordsOverloadedError)
  assert.equal((await passwords.hash('x')).length > 0, true)
})

test('a hasher that was closed refuses', async () => {
  const passwords = createPasswords(cheap)
  const waiting = passwords.hash('x')
  passwords.close()
  await assert.rejects(waiting, PasswordsOverloadedError)
  await assert.rejects(passwords.verify('x', null), PasswordsOverloadedError)
})
