import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crc32 } from 'node:zlib'
import { seededRandom, type Random } from '../base/random.ts'
import type { Configuration, Entry, HardState, SnapshotPoint } from '../raft/types.ts'
import { ManualClock, MemoryDisk, type Fault } from './testing.ts'
import { DamagedError, type WalOptions, type WriteAheadLog } from './types.ts'
import { openLog } from './wal.ts'

const configurations: readonly Configuration[] = [1, 2, 3].map((count) => ({
  faultModel: 'majority',
  members: Array.from({ length: count }, (_, i) => ({ id: i + 1, voter: true, address: `host${i + 1}` })),
}))
const origin: SnapshotPoint = { index: 0, term: 0, configuration: configurationOf(0) }

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

test('a disk that gets full while a segment is made gives back what was taken', () => {
  const run = new Run(seededRandom(1))
  run.append({ term: 1, vote: 1 }, [])
  run.settle()
  run.disk.fault = failing('ENOSPC', (_, name) => name === 'write', 3)
  for (let i = 1; i <= 40; i += 1) run.append(null, [data(i, 1, 'x'.repeat(300))])
  run.settle()
  assert.ok(run.failures.length <= 1)
})

test('closing waits for what was appended', () => {
  const run = new Run(seededRandom(1))
  const order: string[] = []
  run.log.append({ hardState: null, entries: [data(1, 1, 'a')] }, () => order.push('written'))
  run.log.close(() => order.push('closed'))
  run.settle()
  assert.deepEqual(order, ['written', 'closed'])
})

test('after a power cut at any operation all that was acknowledged is there, and nothing that was never appended', () => {
  for (let seed = 1; seed <= 400; seed += 1) crashRun(seed, 'crashed')
})

test('after the process was killed at any operation all that was acknowledged is there', () => {
  for (let seed = 1001; seed <= 1200; seed += 1) crashRun(seed, 'killed')
})

test('after an operation that failed all that was acknowledged is there', () => {
  for (let seed = 2001; seed <= 2200; seed += 1) crashRun(seed, 'failed')
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

/** One life after another: random appends, crashes at a random operation, recovery, check. */
function crashRun(seed: number, how: 'crashed' | 'killed' | 'failed'): void {
  const random = seededRandom(seed)
  try {
    const run = new Run(random, {
      segmentBytes: 512 * (4 + random.below(30)),
      cacheBytes: random.below(2) * 5000,
    })
    for (let life = 0; life < 4; life += 1) {
      run.live(how === 'failed')
      run.disk = how === 'crashed' ? run.disk.crashed(random) : run.disk.killed(random)
      run.open()
      // What was recovered is on disk, whatever happened before: a power cut takes nothing of it.
      const recovered = run.digest()
      if (random.below(2) === 0) run.disk = run.disk.crashed(random)
      run.open()
      assert.equal(run.digest(), recovered, 'what was recovered survives a power cut')
      run.checkRecovered()
      const before = run.digest()
      // Recovery that is interrupted changes nothing.
      const steps = random.below(4)
      run.clock.advance(0)
      for (let i = 0; i < steps; i += 1) run.disk.step()
      run.disk = how === 'crashed' ? run.disk.crashed(random) : run.disk.killed(random)
      run.open()
      assert.equal(run.digest(), before, 'recovery again comes to the same')
    }
    run.settle()
    assert.deepEqual(run.failures, [])
  } catch (error) {
    throw new Error(`seed ${seed} (${how})`, { cause: error })
  }
}

/** The log as it should be after some number of records. */
interface Model {
  readonly start: number
  readonly hardState: HardState
  /** Keyed by index; those after the start. */
  readonly entries: readonly Entry[]
}

class Run {
  disk = new MemoryDisk()
  readonly clock = new ManualClock()
  readonly options: WalOptions
  readonly failures: Error[] = []
  readonly fullChanges: boolean[] = []
  /** What state.db has reached. */
  state = origin
  log: WriteAheadLog
  private readonly random: Random
  /** After each record that was handed to the log; the first `certain` of them are certain to be on disk. */
  private models: Model[] = [{ start: 0, hardState: { term: 0, vote: 0 }, entries: [] }]
  private certain = 0
  private committed = 0
  private life = 0

  constructor(random: Random, options: Partial<WalOptions> = {}) {
    this.random = random
    this.options = {
      segmentBytes: 8192,
      cacheBytes: 100_000,
      clock: this.clock,
      onFailed: (error) => this.failures.push(error),
      onFullChanged: (full) => this.fullChanges.push(full),
      ...options,
    }
    this.log = openLog(this.disk, this.options, this.state).log
  }

  open(): void {
    this.life += 1
    this.failures.length = 0
    this.log = openLog(this.disk, this.options, this.state).log
  }

  /** As after the end of the process. */
  restart(): void {
    this.disk = new MemoryDisk(this.disk.contents())
    this.open()
  }

  settle(): void {
    for (let i = 0; i < 10; i += 1) {
      this.clock.advance(i < 2 ? 0 : 1000)
      while (!this.disk.idle) this.disk.step()
    }
  }

  append(hardState: HardState | null, entries: readonly Entry[]): void {
    const { life } = this
    let model = this.lastModel()
    if (hardState !== null) this.models.push((model = { ...model, hardState }))
    for (const entry of entries) {
      const kept = model.entries.filter(({ index }) => index < entry.index)
      this.models.push((model = { ...model, entries: [...kept, entry] }))
    }
    const reached = this.models.length - 1
    this.log.append({ hardState, entries }, () => {
      assert.equal(life, this.life, 'a log of an earlier life is silent')
      this.certain = Math.max(this.certain, reached)
    })
  }

  compact(point: SnapshotPoint): void {
    this.state = point
    this.log.compact(point)
  }

  reset(point: SnapshotPoint): void {
    const { life } = this
    this.state = point
    this.committed = point.index
    this.models.push({ ...this.lastModel(), start: point.index, entries: [] })
    const reached = this.models.length - 1
    this.log.reset(point, () => {
      if (life === this.life) this.certain = Math.max(this.certain, reached)
    })
  }

  /** Does what a replica might do, up to some operation of the disk. */
  live(withFault: boolean): void {
    const { random } = this
    const end = this.disk.operations + random.below(60)
    if (withFault) {
      const code = random.below(2) === 0 ? 'ENOSPC' : 'EIO'
      const at = this.disk.operations + random.below(60)
      this.disk.fault = (number) => (number === at ? code : null)
    }
    for (let i = 0; i < 200 && this.disk.operations < end && this.failures.length === 0; i += 1) {
      this.actAtRandom()
      this.clock.advance(random.below(2) * 600)
      for (let steps = random.below(4); steps > 0 && this.disk.operations < end; steps -= 1) this.disk.step()
      this.checkReads()
    }
  }

  checkRecovered(): void {
    const found = this.digest()
    const possible = this.models.slice(this.certain)
    const fits = possible.findLastIndex((model) => this.digestOf(model) === found)
    assert.ok(
      fits >= 0,
      `recovered ${found}, certain ${this.certain} of ${this.models.length - 1}: ${this.digestOf(possible[0] ?? this.lastModel())}`,
    )
    const model = this.aligned(possible[fits] ?? this.lastModel())
    this.models = [model]
    this.certain = 0
    assert.ok(this.log.start.index <= this.state.index && this.state.index <= this.log.lastIndex)
  }

  digest(): string {
    const { log } = this
    const from = this.state.index
    const entries = from < log.lastIndex ? log.entries(from + 1, log.lastIndex, 1e9) : []
    return JSON.stringify([log.hardState, log.lastIndex, log.termAt(from), entries.map(summary)])
  }

  private digestOf(model: Model): string {
    const { hardState, entries } = this.aligned(model)
    const from = this.state.index
    return JSON.stringify([
      hardState,
      Math.max(from, entries.at(-1)?.index ?? 0),
      this.state.term,
      entries.filter(({ index }) => index > from).map(summary),
    ])
  }

  /** What opening makes of it, given the state. */
  private aligned(model: Model): Model {
    const { index, term } = this.state
    const there =
      index === model.start ||
      model.entries.find((entry) => entry.index === index)?.term === term ||
      (index === this.state.index && model.entries[0]?.index === index + 1)
    return there ? model : { ...model, start: index, entries: [] }
  }

  private lastModel(): Model {
    const last = this.models.at(-1)
    assert.ok(last !== undefined)
    return last
  }

  private actAtRandom(): void {
    const { random, log } = this
    const choice = random.below(20)
    const term = log.hardState.term
    const certain = this.models[this.certain]
    if (choice < 13) {
      const entries: Entry[] = []
      const overwrites = random.below(5) === 0
      const first = overwrites
        ? this.committed + 1 + random.below(log.lastIndex - this.committed + 1)
        : log.lastIndex + 1
      const newTerm = overwrites && first <= log.lastIndex ? term + 1 : Math.max(1, term)
      for (let i = random.below(5); i >= 0; i -= 1)
        entries.push(this.randomEntry(first + entries.length, newTerm))
      this.append(newTerm !== term ? { term: newTerm, vote: random.below(4) } : null, entries)
    } else if (choice < 15) this.append({ term: term + random.below(2), vote: random.below(4) }, [])
    else if (choice < 19) {
      // Committed is what is on disk for certain and will not be overwritten.
      const last = certain?.entries.at(-1)?.index ?? 0
      const stillThere = last <= log.lastIndex && log.termAt(last) === certain?.entries.at(-1)?.term
      if (stillThere) this.committed = Math.max(this.committed, last)
      const index = this.state.index + random.below(Math.max(1, this.committed - this.state.index + 1))
      const indexTerm = log.termAt(index)
      if (indexTerm !== null && index > this.state.index)
        this.compact({ index, term: indexTerm, configuration: this.configurationAt(index) })
    } else {
      const index = Math.max(this.committed, this.state.index) + 1 + random.below(20)
      this.reset({ index, term: term + 1, configuration: configurationOf(random.below(3)) })
      this.append({ term: term + 1, vote: 0 }, [])
    }
  }

  private randomEntry(index: number, term: number): Entry {
    const { random } = this
    const kind = random.below(10)
    if (kind === 0) return noop(index, term)
    if (kind === 1) return configured(index, term, random.below(3))
    const size = random.below(20) === 0 ? 20_000 : random.below(kind === 2 ? 3000 : 300)
    return data(index, term, String.fromCharCode(97 + random.below(26)).repeat(size))
  }

  private configurationAt(index: number): Configuration {
    const before = this.lastModel().entries.findLast(
      (entry) => entry.kind === 'configuration' && entry.index <= index,
    )
    return before?.kind === 'configuration' ? before.configuration : this.state.configuration
  }

  private checkReads(): void {
    const { log, random } = this
    const { entries } = this.lastModel()
    if (log.lastIndex <= this.state.index) return
    const from = this.state.index + 1 + random.below(log.lastIndex - this.state.index)
    const read = log.entries(from, log.lastIndex, random.below(3) * 2000)
    assert.ok(read.length > 0)
    assert.deepEqual(
      read.map(summary),
      entries.filter(({ index }) => index >= from && index < from + read.length).map(summary),
    )
  }
}

function configurationOf(number: number): Configuration {
  const configuration = configurations[number]
  assert.ok(configuration !== undefined)
  return configuration
}

function data(index: number, term: number, text: string): Entry {
  return { kind: 'data', index, term, data: Buffer.from(text) }
}

function noop(index: number, term: number): Entry {
  return { kind: 'noop', index, term }
}

function configured(index: number, term: number, number: number): Entry {
  return { kind: 'configuration', index, term, configuration: configurationOf(number) }
}

function summary(entry: Entry): unknown {
  const { index, term, kind } = entry
  const content =
    kind === 'data'
      ? [entry.data.length, entry.data[0]]
      : kind === 'configuration'
        ? entry.configuration.members.length
        : null
  return [index, term, kind, content]
}

function texts(log: WriteAheadLog): string[] {
  if (log.lastIndex === log.start.index) return []
  return log
    .entries(log.start.index + 1, log.lastIndex, 1e9)
    .map((entry) => (entry.kind === 'data' ? Buffer.from(entry.data).toString() : entry.kind))
}

function damage(pattern: RegExp): (error: Error) => true {
  return (error) => {
    assert.ok(error instanceof DamagedError, error.stack ?? error.message)
    assert.match(error.message, pattern)
    return true
  }
}

function failing(
  code: 'ENOSPC' | 'EIO',
  which: (number: number, name: string) => boolean,
  times: number,
): Fault {
  let left = times
  return (number, name) => {
    if (left === 0 || !which(number, name)) return null
    left -= 1
    return code
  }
}
