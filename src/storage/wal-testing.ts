import assert from 'node:assert/strict'
import type { Random } from '../base/random.ts'
import { seededRandom } from '../base/random.ts'
import type { Configuration, Entry, HardState, SnapshotPoint } from '../raft/types.ts'
import { ManualClock, MemoryDisk } from './testing.ts'
import type { WalOptions, WriteAheadLog } from './types.ts'
import { openLog } from './wal.ts'

const configurations: readonly Configuration[] = [1, 2, 3].map((count) => ({
  faultModel: 'majority',
  members: Array.from({ length: count }, (_, i) => ({ id: i + 1, voter: true, address: `host${i + 1}` })),
}))
export const origin: SnapshotPoint = { index: 0, term: 0, configuration: configurationOf(0) }

/** One life after another: random appends, crashes at a random operation, recovery, check. */
export function crashRun(seed: number, how: 'crashed' | 'killed' | 'failed'): void {
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

export class Run {
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
    this.log.compact(point.index)
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

export function configurationOf(number: number): Configuration {
  const configuration = configurations[number]
  assert.ok(configuration !== undefined)
  return configuration
}

export function data(index: number, term: number, text: string): Entry {
  return { kind: 'data', index, term, data: Buffer.from(text) }
}

export function noop(index: number, term: number): Entry {
  return { kind: 'noop', index, term }
}

export function configured(index: number, term: number, number: number): Entry {
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

export function texts(log: WriteAheadLog): string[] {
  if (log.lastIndex === log.start.index) return []
  return log
    .entries(log.start.index + 1, log.lastIndex, 1e9)
    .map((entry) => (entry.kind === 'data' ? Buffer.from(entry.data).toString() : entry.kind))
}
