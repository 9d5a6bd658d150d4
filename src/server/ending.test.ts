import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { Ending } from './ending.ts'

async function isHurried(end: Ending): Promise<boolean> {
  return Promise.race([end.hurried.then(() => true), setImmediate(false)])
}

test('who asks once ends the replica gracefully, and who asks again does not wait for that', async () => {
  const end = new Ending()
  end.asked()
  assert.deepEqual(await end.reached, { code: 0, isGraceful: true })
  assert.equal(await isHurried(end), false)
  end.asked()
  assert.equal(await isHurried(end), true)
})

test('a supervisor that ends too does not ask again', async () => {
  const end = new Ending()
  end.asked()
  end.gracefully()
  assert.equal(await isHurried(end), false)
})

test('what comes first decides', async () => {
  const end = new Ending()
  end.now(1)
  end.asked()
  assert.deepEqual(await end.reached, { code: 1, isGraceful: false })
})
