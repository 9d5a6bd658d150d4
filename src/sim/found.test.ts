// Bugs that the simulator has found, each boiled down to what it took.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../base/random.ts'
import type { Entry, SnapshotPoint } from '../raft/types.ts'
import { openLog } from '../storage/wal.ts'
import type { WriteAheadLog } from '../storage/types.ts'
import { createSimClock } from './clock.ts'
import { createSimDisk } from './disk.ts'
import { createScheduler, outsidePromises, type Owner } from './scheduler.ts'

test('a segment that is being written is not made blank again after the disk was full (seed 84)', async () => {
  await outsidePromises(() => {
    const scheduler = createScheduler(() => {})
    const disk = createSimDisk({
      scheduler,
      random: seededRandom(1),
      condition: {
        capacityBytes: 3 * 4096,
        writeMs: 0.1,
        flushMs: 0.5,
        hanging: false,
        failWrites: false,
        failFlushes: false,
      },
      onOperation() {},
    })
    const start: SnapshotPoint = {
      index: 0,
      term: 0,
      configuration: { faultModel: 'majority', members: [{ id: 1, voter: true, address: '' }] },
    }
    const open = (): { readonly log: WriteAheadLog; readonly process: Owner } => {
      const process: Owner = { name: 'r1', alive: true, stalledUntilMs: 0 }
      const { log } = openLog(
        disk.mount(process),
        {
          segmentBytes: 4096,
          cacheBytes: 1024,
          clock: createSimClock(scheduler, process, { wallOffsetMs: 0, rate: 1 }),
          onFailed: (error) => assert.fail(error),
          onFullChanged() {},
        },
        start,
      )
      return { log, process }
    }
    const run = (ms: number): void => {
      const untilMs = scheduler.nowMs + ms
      while (scheduler.step(untilMs));
    }
    const first = open()
    run(10)
    first.log.append({ hardState: { term: 1, vote: 1 }, entries: [] }, () => {})
    let onDisk = 0
    for (let index = 1; index <= 200; index += 1) {
      const entry: Entry = { kind: 'data', term: 1, index, data: new Uint8Array(300) }
      first.log.append({ hardState: null, entries: [entry] }, () => (onDisk = index))
      run(20)
      // Room comes back while the next segment waits for it, and again and again later.
      if (first.log.full) disk.condition.capacityBytes += 2 * 4096
    }
    run(5000)
    assert.equal(onDisk, 200)
    first.process.alive = false
    disk.processDied()
    const second = open()
    assert.equal(second.log.lastIndex, 200)
  })
})
