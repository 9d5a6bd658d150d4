import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { ManualClock } from '../replica/manual-clock.ts'
import { Ending } from './ending.ts'

async function isHurried(end: Ending): Promise<boolean> {
  return Promise.race([end.hurried.then(() => true), setImmediate(false)])
}

test('who asks once ends the replica gracefully, and who asks again does not wait for that', async () => {
  const clock = new ManualClock()
  const end = new Ending(clock)
  end.asked()
  assert.deepEqual(await end.reached, { code: 0, isGraceful: true })
  clock.run(1500)
  assert.equal(await isHurried(end), false)
  end.asked()
  assert.equal(await isHurried(end), true)
})

test('a signal that comes twice at once asks once, and so does a supervisor that ends too', async () => {
  const clock = new ManualClock()
  const end = new Ending(clock)
  end.asked()
  clock.run(25)
  end.asked()
  clock.run(1500)
  end.gracefully()
  assert.equal(await isHurried(end), false)
})

test('what comes first decides', async () => {
  const end = new Ending(new ManualClock())
  end.now(1)
  end.asked()
  assert.deepEqual(await end.reached, { code: 1, isGraceful: false })
})
