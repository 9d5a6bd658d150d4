import assert from 'node:assert/strict'
import { chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { silentLogger } from '../base/logger.ts'
import { ManualClock } from '../replica/manual-clock.ts'
import { orderRecovery, readWaiting, watchOutage } from './outage.ts'

const isRoot = process.getuid?.() === 0
const waiting = { version: 1, replica: 'r1', waitingFor: ['r2', 'r3'], term: 1, lastIndex: 1 } as const

/** A replica that waits for others, and the operator beside it, in one time. */
class Outage {
  readonly folder = mkdtempSync(join(tmpdir(), 'parley-outage-'))
  readonly clock = new ManualClock()
  waitingFor: readonly number[] = [2, 3]
  readonly givenUp: number[][] = []
  private stop: () => void = () => {}

  constructor(t: TestContext) {
    t.after(() => {
      this.stop()
      rmSync(this.folder, { recursive: true })
    })
  }

  start(): void {
    const { folder, clock } = this
    this.stop = watchOutage({
      folder,
      clock,
      logger: silentLogger,
      status: () => ({
        self: 1,
        term: 1,
        lastIndex: 1,
        waitingFor: this.waitingFor,
        available: this.waitingFor.length === 0,
      }),
      giveUp: (replicas) => void this.givenUp.push([...replicas]),
    })
  }

  /** The answer to an order; null when it was not taken. */
  async order(): Promise<readonly string[] | null> {
    const answers: (readonly string[] | null)[] = []
    const given = orderRecovery(this.folder, waiting, this.clock)
    void given.then((names) => answers.push(names))
    while (answers.length === 0) {
      this.clock.run(50)
      await new Promise((resolve) => setImmediate(resolve))
    }
    return given
  }

  get files(): readonly string[] {
    return readdirSync(this.folder)
  }
}

test('the order to recover is answered when the replica has taken it, with whom it gave up', async (t) => {
  const outage = new Outage(t)
  outage.start()
  assert.deepEqual(readWaiting(outage.folder)?.waitingFor, ['r2', 'r3'])
  assert.deepEqual(await outage.order(), ['r2', 'r3'])
  assert.deepEqual(outage.givenUp, [[2, 3]])
  assert.deepEqual(outage.files, ['waiting.json'])
})

test('who is back before the order is taken is not given up', async (t) => {
  const outage = new Outage(t)
  outage.start()
  outage.waitingFor = [3]
  assert.deepEqual(await outage.order(), ['r3'])
  assert.deepEqual(outage.givenUp, [[3]])
  outage.waitingFor = []
  assert.deepEqual(await outage.order(), [])
  assert.deepEqual(outage.givenUp, [[3]])
  assert.deepEqual(outage.files, [])
})

test('a folder in which nothing can be written ends nothing, and is tried again', (t) => {
  const outage = new Outage(t)
  outage.waitingFor = []
  outage.start()
  const path = join(outage.folder, 'waiting.json')
  mkdirSync(path)
  outage.waitingFor = [3]
  outage.clock.run(5000)
  assert.equal(readWaiting(outage.folder), null)
  rmSync(path, { recursive: true })
  outage.clock.run(1000)
  assert.deepEqual(readWaiting(outage.folder)?.waitingFor, ['r3'])
})

test('an order that no replica takes is taken back, so that no later outage is met with it', async (t) => {
  const outage = new Outage(t)
  assert.equal(await outage.order(), null)
  assert.deepEqual(outage.files, [])
})

test('a replica that starts does not follow an order that was given before', async (t) => {
  const outage = new Outage(t)
  // The operator's process is killed before it can take the order back.
  void orderRecovery(outage.folder, waiting, outage.clock)
  assert.deepEqual(outage.files, ['recover.json'])
  outage.start()
  outage.clock.run(5000)
  assert.deepEqual(outage.givenUp, [])
  assert.deepEqual(outage.files, ['waiting.json'])
})

test(
  'the order to recover that root gives can be read by a replica that runs as another user',
  { skip: isRoot ? false : 'only root gives files to others' },
  (t) => {
    const { folder, clock } = new Outage(t)
    chownSync(folder, 65_534, 65_534)
    void orderRecovery(folder, waiting, clock)
    assert.deepEqual(readdirSync(folder), ['recover.json'])
    const { uid, mode } = statSync(join(folder, 'recover.json'))
    assert.deepEqual([uid, mode & 0o777], [65_534, 0o600])
  },
)
