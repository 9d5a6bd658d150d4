import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../base/random.ts'
import type { Disk } from '../storage/disk.ts'
import { createSimDisk, type SimDisk } from './disk.ts'
import { createScheduler, outsidePromises, type Owner, type Scheduler } from './scheduler.ts'

test('what was flushed survives every power cut; what was not may survive in part', async () => {
  const seen = new Set<string>()
  for (let seed = 1; seed <= 60; seed += 1)
    await withDisk(seed, ({ disk, mounted, run }) => {
      const file = mounted.open('log', true)
      mounted.flushFolder('', ignore)
      run()
      file.write(0, [filled(1024, 1)], ignore)
      run()
      file.flush(ignore)
      run()
      file.write(512, [filled(1024, 2)], ignore)
      run()
      disk.processDied()
      disk.powerCut()
      const left = disk.contents().get('log') ?? new Uint8Array(0)
      assert.deepEqual(left.subarray(0, 512), filled(512, 1))
      seen.add(`${left[512]} ${left.length} ${left[1024]}`)
    })
  assert.deepEqual(
    [...seen].sort(),
    ['1 1024 undefined', '1 1536 0', '1 1536 2', '2 1024 undefined', '2 1536 0', '2 1536 2'].sort(),
  )
})

test('a killed process leaves what it wrote, and a write that was under way in part', async () => {
  const lengths = new Set<number>()
  for (let seed = 1; seed <= 30; seed += 1)
    await withDisk(seed, ({ disk, mounted, process, run }) => {
      const file = mounted.open('log', true)
      file.write(0, [filled(4, 1)], ignore)
      run()
      file.write(4, [filled(4, 2)], ignore)
      process.alive = false
      disk.processDied()
      lengths.add((disk.contents().get('log') ?? new Uint8Array(0)).length)
    })
  assert.deepEqual([...lengths].sort(), [4, 5, 6, 7, 8])
})

test('a name that was not flushed may be gone after a power cut', async () => {
  const outcomes = new Set<string>()
  for (let seed = 1; seed <= 40; seed += 1)
    await withDisk(seed, ({ disk, mounted, run }) => {
      mounted.open('a', true)
      mounted.flushFolderNow('')
      mounted.open('b', true)
      mounted.rename('a', 'c', ignore)
      disk.processDied()
      disk.powerCut()
      run()
      outcomes.add([...disk.contents().keys()].sort().join(' '))
    })
  assert.deepEqual([...outcomes].sort(), ['a', 'a b', 'b c'])
})

test('a flush that fails leaves the writes before it unflushed for good', async () => {
  const seen = new Set<number>()
  for (let seed = 1; seed <= 40; seed += 1)
    await withDisk(seed, ({ disk, mounted, run }) => {
      const file = mounted.open('log', true)
      mounted.flushFolderNow('')
      const errors: (Error | null)[] = []
      file.write(0, [filled(512, 7)], ignore)
      run()
      disk.condition.failFlushes = true
      file.flush((error) => errors.push(error))
      run()
      disk.condition.failFlushes = false
      file.flush((error) => errors.push(error))
      run()
      assert.deepEqual(
        errors.map((error) => (error === null ? null : 'code' in error && error.code)),
        ['EIO', null],
      )
      disk.processDied()
      disk.powerCut()
      seen.add((disk.contents().get('log') ?? new Uint8Array(0))[0] ?? -1)
    })
  assert.deepEqual([...seen], [0])
})

test('a full disk takes what it has room for and refuses the rest', async () => {
  await withDisk(1, ({ disk, mounted, run }) => {
    disk.condition.capacityBytes = 1000
    const file = mounted.open('log', true)
    const codes: unknown[] = []
    file.write(0, [filled(900, 1)], (error) => codes.push(error))
    run()
    file.write(900, [filled(200, 2)], (error) =>
      codes.push(error !== null && 'code' in error ? error.code : null),
    )
    run()
    assert.deepEqual(codes, [null, 'ENOSPC'])
    assert.equal(file.sizeBytes(), 1000)
    assert.equal(mounted.freeBytes(), 0)
  })
})

test('a dead process changes nothing any more', async () => {
  await withDisk(1, ({ disk, mounted, process, run }) => {
    const file = mounted.open('log', true)
    process.alive = false
    disk.processDied()
    file.write(0, [filled(10, 1)], () => assert.fail('called back'))
    file.writeNow(0, filled(10, 1))
    file.truncate(5)
    run()
    assert.equal((disk.contents().get('log') ?? filled(1, 1)).length, 0)
  })
})

function ignore(): void {}

function filled(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value)
}

function withDisk(
  seed: number,
  body: (context: {
    readonly disk: SimDisk
    readonly mounted: Disk
    readonly process: Owner
    readonly scheduler: Scheduler
    readonly run: () => void
  }) => void,
): Promise<void> {
  return outsidePromises(() => {
    const scheduler = createScheduler(() => {})
    const process: Owner = { name: 'r1', alive: true, stalledUntilMs: 0 }
    const disk = createSimDisk({
      scheduler,
      random: seededRandom(seed),
      condition: {
        capacityBytes: 1_000_000,
        writeMs: 0.1,
        flushMs: 0.5,
        hanging: false,
        failWrites: false,
        failFlushes: false,
      },
      onOperation: ignore,
    })
    const run = (): void => {
      while (scheduler.step(scheduler.nowMs + 1000));
    }
    body({ disk, mounted: disk.mount(process), process, scheduler, run })
  })
}
