import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crc32 } from 'node:zlib'
import { seededRandom } from '../base/random.ts'
import { sectorBytes } from './sectors.ts'
import { MemoryDisk } from './testing.ts'
import { DamagedError } from './types.ts'
import { openLog } from './wal.ts'
import { configurationOf, configured, crashRun, data, noop, origin, Run, texts } from './wal-testing.ts'

test('what was appended can be read at once, and after a restart', () => {
  const run = new Run(seededRandom(1))
  run.append({ term: 3, vote: 2 }, [data(1, 3, 'a'), noop(2, 3), configured(3, 3, 1)])
  assert.deepEqual(texts(run.log), ['a', 'noop', 'configuration'])
  assert.equal(run.log.termAt(2), 3)
  assert.equal(run.log.termAt(4), null)
  run.settle()
  run.restart()
  assert.deepEqual(texts(run.log), ['a', 'noop', 'configuration'])
  assert.deepEqual(run.log.hardState, { term: 3, vote: 2 })
  assert.deepEqual(run.log.entries(3, 3, 0), [configured(3, 3, 1)])
})

test('everything that is appended while a flush is under way shares one write and one flush', () => {
  const run = new Run(seededRandom(1))
  run.append({ term: 1, vote: 1 }, [])
  run.settle()
  const done: number[] = []
  const before = run.disk.operations
  run.log.append({ hardState: null, entries: [data(1, 1, 'a')] }, () => done.push(1))
  for (let i = 2; i <= 50; i += 1)
    run.log.append({ hardState: null, entries: [data(i, 1, 'b')] }, () => done.push(i))
  run.settle()
  assert.equal(run.disk.operations - before, 4)
  assert.deepEqual(
    done,
    Array.from({ length: 50 }, (_, i) => i + 1),
  )
})

test('an entry that is appended again supersedes it and all that follow', () => {
  const run = new Run(seededRandom(1))
  run.append({ term: 1, vote: 1 }, [data(1, 1, 'a'), data(2, 1, 'b'), data(3, 1, 'c')])
  run.append({ term: 2, vote: 2 }, [data(2, 2, 'B')])
  assert.deepEqual(texts(run.log), ['a', 'B'])
  run.settle()
  run.restart()
  assert.deepEqual(texts(run.log), ['a', 'B'])
  assert.deepEqual(run.log.hardState, { term: 2, vote: 2 })
})

test('entries that are no longer cached are read from the files', () => {
  const run = new Run(seededRandom(1), { cacheBytes: 0 })
  for (let i = 1; i <= 40; i += 1) run.append(null, [data(i, 1, String(i).repeat(i * 7))])
  run.settle()
  assert.deepEqual(
    run.log.entries(1, 40, 1e9).map((entry) => entry.index),
    Array.from({ length: 40 }, (_, i) => i + 1),
  )
  assert.equal(run.log.entries(1, 40, 0).length, 1)
  assert.equal(run.log.entries(10, 40, 500).length, 3)
  assert.deepEqual(run.log.entries(33, 33, 0), [data(33, 1, '33'.repeat(33 * 7))])
})

test('a record larger than a segment gets a segment of its own size', () => {
  const run = new Run(seededRandom(1))
  const large = 'x'.repeat(100_000)
  run.append(null, [data(1, 1, 'a'), data(2, 1, large), data(3, 1, 'c')])
  run.settle()
  run.restart()
  assert.deepEqual(texts(run.log), ['a', large, 'c'])
})

test('compacting twice and restarting keeps the configuration, the vote and what comes after', () => {
  const run = new Run(seededRandom(1))
  run.append({ term: 4, vote: 3 }, [configured(1, 4, 2)])
  for (let i = 2; i <= 200; i += 1) run.append(null, [data(i, 4, 'x'.repeat(200))])
  run.settle()
  const files = run.disk.list('log').length
  run.compact({ index: 90, term: 4, configuration: configurationOf(2) })
  run.settle()
  run.compact({ index: 150, term: 4, configuration: configurationOf(2) })
  run.settle()
  assert.ok(run.disk.list('log').length < files)
  const { start } = run.log
  assert.ok(start.index > 90 && start.index <= 150)
  run.restart()
  assert.deepEqual(run.log.start, { index: start.index, term: 4, configuration: configurationOf(2) })
  assert.deepEqual(run.log.hardState, { term: 4, vote: 3 })
  assert.equal(run.log.lastIndex, 200)
  assert.equal(run.log.entries(151, 200, 1e9).length, 50)
})

test('a log that ends before the state starts anew after it, and keeps the vote', () => {
  const run = new Run(seededRandom(1))
  run.append({ term: 4, vote: 3 }, [data(1, 4, 'a')])
  run.settle()
  run.state = { index: 10, term: 5, configuration: configurationOf(1) }
  for (let i = 0; i < 2; i += 1) {
    run.restart()
    assert.deepEqual(run.log.start, run.state)
    assert.equal(run.log.lastIndex, 10)
    assert.deepEqual(run.log.hardState, { term: 4, vote: 3 })
  }
  run.settle()
  run.append(null, [data(11, 5, 'b')])
  run.settle()
  run.restart()
  assert.deepEqual(texts(run.log), ['b'])
  assert.deepEqual(run.log.start, run.state)
})

test('a log that conflicts with the state starts anew after it', () => {
  const run = new Run(seededRandom(1))
  run.append({ term: 4, vote: 3 }, [data(1, 4, 'a'), data(2, 4, 'b'), data(3, 4, 'c')])
  run.settle()
  run.state = { index: 2, term: 5, configuration: configurationOf(0) }
  run.restart()
  assert.equal(run.log.lastIndex, 2)
  assert.equal(run.log.termAt(2), 5)
})

test('a log that starts after the state is refused: the state is an old copy', () => {
  const run = new Run(seededRandom(1))
  run.reset({ index: 100, term: 5, configuration: configurationOf(0) })
  run.settle()
  run.state = { index: 99, term: 5, configuration: configurationOf(0) }
  assert.throws(() => run.restart(), damage(/state\.db\) is older than the log/))
})

test('a state without a log is refused: the vote is gone', () => {
  const run = new Run(seededRandom(1))
  run.state = { index: 99, term: 5, configuration: configurationOf(0) }
  run.disk = new MemoryDisk()
  assert.throws(() => run.open(), damage(/holds no log/))
})

test('a segment that is missing in the middle is refused', () => {
  const run = new Run(seededRandom(1))
  for (let i = 1; i <= 100; i += 1) run.append(null, [data(i, 1, 'x'.repeat(300))])
  run.settle()
  const files = new Map(run.disk.contents())
  files.delete('log/0000000000000003.wal')
  run.disk = new MemoryDisk(files)
  assert.throws(() => run.open(), damage(/segments before it are missing/))
})

test('old segments that a power cut brought back are passed over', () => {
  const run = new Run(seededRandom(1))
  for (let i = 1; i <= 100; i += 1) run.append(null, [data(i, 1, 'x'.repeat(300))])
  run.settle()
  run.compact({ index: 80, term: 1, configuration: configurationOf(0) })
  const before = new Map(run.disk.contents())
  run.settle()
  const files = new Map(run.disk.contents())
  const gone = [...before.keys()].filter((path) => !files.has(path))
  assert.ok(gone.length >= 3)
  const first = gone[0] ?? ''
  files.set(first, before.get(first) ?? new Uint8Array(0))
  run.disk = new MemoryDisk(files)
  run.open()
  run.settle()
  assert.ok(!run.disk.contents().has(first))
  assert.equal(run.log.entries(81, 100, 1e9).length, 20)
})

test('a log of a newer format is refused without a word about damage', () => {
  const run = new Run(seededRandom(1))
  run.append(null, [data(1, 1, 'a')])
  run.settle()
  const path = 'log/0000000000000001.wal'
  const bytes = run.disk.contents().get(path)?.slice() ?? new Uint8Array(0)
  const head = Buffer.from(bytes.buffer, 7, 24)
  head.write('PLW9', 0)
  head.writeUInt32LE(crc32(head.subarray(8), crc32(head.subarray(0, 4))), 4)
  run.disk = new MemoryDisk(new Map([[path, bytes]]))
  assert.throws(() => run.open(), damage(/another version of Parley/))
})

test('a failed write or flush is told once, and nothing is promised any more', () => {
  for (const name of ['write', 'flush']) {
    const run = new Run(seededRandom(1))
    run.append({ term: 1, vote: 1 }, [])
    run.settle()
    run.disk.fault = (_, operation) => (operation === name ? 'EIO' : null)
    const acknowledged: number[] = []
    for (let i = 1; i <= 3; i += 1)
      run.log.append({ hardState: null, entries: [data(i, 1, 'a')] }, () => acknowledged.push(i))
    run.settle()
    run.disk.fault = () => null
    run.log.append({ hardState: null, entries: [data(4, 1, 'a')] }, () => acknowledged.push(4))
    run.settle()
    assert.deepEqual(acknowledged, [])
    assert.equal(run.failures.length, 1)
    assert.match(run.failures[0]?.message ?? '', /EIO.*this replica stops/s)
  }
})

test('a full disk is told, loses nothing, and appends go on by themselves when there is room', () => {
  const run = new Run(seededRandom(1))
  run.append({ term: 1, vote: 1 }, [])
  run.settle()
  run.disk.free = 0
  let acknowledged = 0
  for (let i = 1; i <= 100; i += 1)
    run.log.append({ hardState: null, entries: [data(i, 1, 'x'.repeat(300))] }, () => {
      acknowledged = i
    })
  run.settle()
  assert.equal(run.log.full, true)
  assert.ok(acknowledged > 10 && acknowledged < 100, 'the segment that was ready has been filled')
  assert.deepEqual(run.failures, [])
  run.disk.free = 1e9
  run.settle()
  assert.equal(acknowledged, 100)
  assert.equal(run.log.full, false)
  assert.deepEqual(run.fullChanges, [true, false])
  run.restart()
  assert.equal(run.log.lastIndex, 100)
})

test('a disk that gets full while a segment is made gives back what was taken, and goes on later', () => {
  const run = new Run(seededRandom(1))
  run.append({ term: 1, vote: 1 }, [])
  run.settle()
  let refused = 0
  const third = 'log/0000000000000003.wal'
  run.disk.fault = (_, name, path) => {
    if (path !== third || name === 'remove' || refused === 3) return null
    refused += 1
    return 'ENOSPC'
  }
  let acknowledged = 0
  for (let i = 1; i <= 60; i += 1)
    run.log.append({ hardState: null, entries: [data(i, 1, 'x'.repeat(300))] }, () => {
      acknowledged = i
    })
  for (let steps = 0; steps < 10_000 && !run.log.full; steps += 1) run.disk.step()
  assert.equal(run.log.full, true)
  while (!run.disk.idle) run.disk.step()
  assert.ok(!run.disk.contents().has(third))
  run.settle()
  assert.deepEqual(run.failures, [])
  assert.equal(acknowledged, 60)
  assert.equal(run.log.full, false)
})

test('a segment that cannot be made for another reason stops the log', () => {
  for (const operation of ['write', 'flush', 'flushFolder']) {
    const run = new Run(seededRandom(1))
    run.disk.fault = (_, name, path) => (name === operation && !path.includes('01.wal') ? 'EIO' : null)
    run.settle()
    assert.equal(run.failures.length, 1)
    assert.match(run.failures[0]?.message ?? '', /^Cannot make a segment of the log: EIO/)
  }
})

test('closing waits for what was appended', () => {
  const run = new Run(seededRandom(1))
  const order: string[] = []
  run.log.append({ hardState: null, entries: [data(1, 1, 'a')] }, () => order.push('written'))
  run.log.close(() => order.push('closed'))
  run.settle()
  assert.deepEqual(order, ['written', 'closed'])
})

test('closing does not wait for room on the disk, whether the lack of it is known or noticed meanwhile', () => {
  for (const noticed of ['before', 'while a segment is asked for', 'while a segment is filled']) {
    const run = new Run(seededRandom(1))
    run.append({ term: 1, vote: 1 }, [])
    run.settle()
    if (noticed === 'while a segment is filled')
      run.disk.fault = (_, name, path) => (name === 'flush' && !/0[12]\.wal$/.test(path) ? 'ENOSPC' : null)
    else run.disk.free = 0
    for (let i = 1; i <= 100; i += 1)
      run.log.append({ hardState: null, entries: [data(i, 1, 'x'.repeat(300))] }, () => {})
    if (noticed === 'before') run.settle()
    let closed = false
    run.log.close(() => {
      closed = true
    })
    run.settle()
    assert.ok(closed, noticed)
    assert.deepEqual(run.failures, [])
  }
})

test('after a power cut at any operation all that was acknowledged is there, and nothing that was never appended', () => {
  for (let seed = 1; seed <= 150; seed += 1) crashRun(seed, 'crashed')
})

test('after the process was killed at any operation all that was acknowledged is there', () => {
  for (let seed = 1001; seed <= 1100; seed += 1) crashRun(seed, 'killed')
})

test('after an operation that failed all that was acknowledged is there', () => {
  for (let seed = 2001; seed <= 2100; seed += 1) crashRun(seed, 'failed')
})

test('a flipped bit anywhere in what was flushed is found, or changes nothing', () => {
  const random = seededRandom(5)
  const run = new Run(random, { segmentBytes: 2048 })
  for (let i = 1; i <= 12; i += 1) {
    run.append(i % 3 === 0 ? { term: i, vote: 1 } : null, [data(i, i, 'x'.repeat(random.below(900)))])
    run.settle()
  }
  const expected = JSON.stringify([texts(run.log), run.log.hardState])
  const found = { refused: 0, unchanged: 0 }
  for (const [path, bytes] of run.disk.contents())
    for (let bit = random.below(29); bit < bytes.length * 8; bit += 1 + random.below(29)) {
      const files = new Map(run.disk.contents())
      const damaged = bytes.slice()
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      files.set(path, damaged)
      try {
        const { log } = openLog(new MemoryDisk(files), run.options, origin)
        assert.equal(JSON.stringify([texts(log), log.hardState]), expected, `${path} bit ${bit}`)
        found.unchanged += 1
      } catch (error) {
        assert.ok(error instanceof DamagedError, String(error))
        found.refused += 1
      }
    }
  assert.ok(found.refused > 1000 && found.unchanged > 1000, JSON.stringify(found))
})

test('a flushed batch that reads as zeros, or ends in zeros, is missed when anything was flushed after it', () => {
  const run = new Run(seededRandom(5))
  for (let i = 1; i <= 12; i += 1) {
    run.append(null, [data(i, 1, 'x'.repeat(400))])
    run.settle()
  }
  const [[path, bytes] = ['', new Uint8Array(0)]] = run.disk.contents()
  let refused = 0
  for (let sector = 0; sector < 12; sector += 1)
    for (const from of [0, 300]) {
      const damaged = bytes.slice()
      damaged.fill(0, sector * sectorBytes + from, (sector + 1) * sectorBytes)
      const disk = new MemoryDisk(new Map(run.disk.contents()).set(path, damaged))
      assert.throws(() => openLog(disk, run.options, origin), damage(/cannot be read/))
      refused += 1
    }
  assert.equal(refused, 24)
})

function damage(pattern: RegExp): (error: Error) => true {
  return (error) => {
    assert.ok(error instanceof DamagedError, error.stack ?? error.message)
    assert.match(error.message, pattern)
    return true
  }
}
