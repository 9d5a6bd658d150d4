import assert from 'node:assert/strict'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, test } from 'node:test'
import type { Clock } from '../base/clock.ts'
import { isDatabaseError, isOutOfSpace } from './errors.ts'
import { SnapshotRejectedError } from './snapshots.ts'
import { openStateStore } from './state-store.ts'
import { createInlineStateWorker, createStateWorker } from './state-worker.ts'
import { DamagedError, type SnapshotSink, type SnapshotSource, type StateStore } from './types.ts'

const folders: string[] = []
const stores = new Set<StateStore>()
/** What the thread has set timers of seconds for. Shorter ones end at once. */
const timers = new Set<() => void>()
const clock: Clock = {
  monotonicMs: () => 0,
  wallMs: () => 0,
  after(delayMs, callback) {
    if (delayMs < 1000) setImmediate(callback)
    else timers.add(callback)
    return () => timers.delete(callback)
  },
  soon: setImmediate,
}

afterEach(async () => {
  for (const store of stores) await store.close()
  stores.clear()
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

test('what was committed is there after a restart, together with its index and the engine state', async () => {
  const folder = newFolder()
  const first = open(folder)
  write(first, 1, 'one')
  write(first, 7, 'seven')
  await close(first)
  const second = open(folder)
  assert.equal(second.appliedIndex, 7)
  assert.deepEqual([...second.engineState], [7])
  assert.deepEqual(texts(second), ['one', 'seven'])
})

test('a rollback leaves state, index and engine state as they were', () => {
  const store = open(newFolder())
  write(store, 1, 'one')
  store.begin()
  store.db.exec("INSERT INTO notes VALUES (2, 'two')")
  store.rollback()
  store.rollback()
  assert.equal(store.appliedIndex, 1)
  assert.deepEqual(texts(store), ['one'])
  write(store, 2, 'two')
  assert.deepEqual(texts(store), ['one', 'two'])
})

test('what was applied takes no room on the disk before it is committed, however much it is', () => {
  const folder = newFolder()
  const store = open(folder)
  write(store, 1, 'one')
  const bytes = (): number => statSync(`${store.path}-wal`).size
  const before = bytes()
  store.begin()
  const insert = store.db.prepare('INSERT INTO notes VALUES (?, ?)')
  for (let id = 2; id < 500; id += 1) insert.run(id, 'x'.repeat(50_000))
  assert.equal(bytes(), before)
  store.commit(500, Uint8Array.of(1))
  assert.ok(bytes() > 20_000_000)
})

for (const kind of ['thread', 'inline'] as const)
  test(`a checkpoint tells the index that was applied when it began (${kind} worker)`, async () => {
    const store = open(newFolder(), kind)
    write(store, 1, 'one')
    const first = checkpoint(store)
    write(store, 2, 'two')
    const second = checkpoint(store)
    assert.ok((await first) >= 1)
    assert.equal(await second, 2)
  })

for (const kind of ['thread', 'inline'] as const)
  test(`a copy holds the state of one moment, and can be installed elsewhere (${kind} worker)`, async () => {
    const source = open(newFolder(), kind)
    for (let i = 1; i <= 100; i += 1) write(source, i, `note ${i}`)
    const copy = await source.takeSnapshot()
    write(source, 101, 'later')
    assert.equal(copy.index, 100)
    assert.deepEqual([...copy.engineState], [100])

    const target = open(newFolder(), kind)
    write(target, 3, 'old')
    const sink = await target.receiveSnapshot(offerOf(copy))
    await transfer(copy, sink)
    await sink.finish()
    assert.deepEqual(texts(target), ['old'], 'the present state serves until the copy is installed')
    sink.install()
    assert.equal(target.appliedIndex, 100)
    assert.deepEqual([...target.engineState], [100])
    assert.equal(texts(target).length, 100)
    write(target, 101, 'later')
    assert.deepEqual(texts(target), texts(source))
    await copy.close()
  })

test('a copy that is made in many steps holds one moment, and is made once, whatever is written meanwhile', async () => {
  const source = open(newFolder(), 'thread')
  const long = 'x'.repeat(10_000)
  for (let i = 1; i <= 1000; i += 1) write(source, i, `${i} ${long}`)
  const copying = { ended: false }
  const taking = source.takeSnapshot().finally(() => (copying.ended = true))
  for (let i = 1001; !copying.ended; i += 1) {
    write(source, i, `${i} ${long}`)
    await new Promise(setImmediate)
  }
  const copy = await taking
  assert.ok(source.appliedIndex > copy.index + 10, 'some was written meanwhile')
  const target = open(newFolder(), 'thread')
  const sink = await target.receiveSnapshot(offerOf(copy))
  await transfer(copy, sink)
  await sink.finish()
  sink.install()
  assert.equal(target.appliedIndex, copy.index)
  assert.deepEqual(texts(target), texts(source).slice(0, copy.index))
  await copy.close()
})

test('several followers share one copy, and it is removed when all have closed it', async () => {
  const folder = newFolder()
  const store = open(folder)
  write(store, 1, 'one')
  const [a, b] = await Promise.all([store.takeSnapshot(), store.takeSnapshot()])
  const c = await store.takeSnapshot()
  assert.equal(a.id, b.id)
  assert.equal(readdirSync(join(folder, 'snapshots')).length, 1)
  await a.close()
  await a.close()
  await b.close()
  assert.ok((await c.read(0, 10)).length === 10)
  await c.close()
  assert.deepEqual(readdirSync(join(folder, 'snapshots')), [])
})

test('a copy from before a reported checkpoint is not given to another follower', async () => {
  const store = open(newFolder())
  write(store, 1, 'one')
  const old = await store.takeSnapshot()
  write(store, 2, 'two')
  await checkpoint(store)
  const fresh = await store.takeSnapshot()
  assert.equal(old.index, 1)
  assert.equal(fresh.index, 2)
  await old.close()
  await fresh.close()
})

test('a copy that must hold what was just committed is made anew when one from before is there, or under way', async () => {
  const store = open(newFolder())
  write(store, 1, 'one')
  const underWay = store.takeSnapshot()
  write(store, 2, 'two')
  const wanted = store.takeSnapshot(2)
  const [old, fresh] = await Promise.all([underWay, wanted])
  assert.ok(old.index >= 1)
  assert.equal(fresh.index, 2)
  write(store, 3, 'three')
  const newest = await store.takeSnapshot(3)
  assert.equal(newest.index, 3)
  for (const copy of [old, fresh, newest]) await copy.close()
  assert.ok(store.freeBytes >= 0)
})

test('a transfer that broke off goes on where it was, after a restart too', async () => {
  const source = open(newFolder())
  for (let i = 1; i <= 100; i += 1) write(source, i, `note ${i}`)
  const copy = await source.takeSnapshot()
  const folder = newFolder()
  const before = open(folder)
  const sink = await before.receiveSnapshot(offerOf(copy))
  await sink.write(0, await copy.read(0, 5000))
  assert.equal(sink.offset, 5000)
  await close(before)

  const after = open(folder)
  const again = await after.receiveSnapshot(offerOf(copy))
  assert.equal(again.offset, 5000)
  await again.write(4000, await copy.read(4000, 3000))
  assert.equal(again.offset, 7000, 'bytes that are here are passed over')
  await transfer(copy, again)
  await again.finish()
  again.install()
  assert.equal(after.appliedIndex, 100)
})

test('another offer throws away what came of the one before', async () => {
  const source = open(newFolder())
  write(source, 1, 'one')
  const first = await source.takeSnapshot()
  const folder = newFolder()
  const target = open(folder)
  const old = await target.receiveSnapshot(offerOf(first))
  await old.write(0, await first.read(0, 5000))
  await first.close()
  write(source, 2, 'two')
  const second = await source.takeSnapshot()
  const sink = await target.receiveSnapshot(offerOf(second))
  assert.equal(sink.offset, 0)
  await assert.rejects(old.write(5000, new Uint8Array(1)))
  await transfer(second, sink)
  await sink.finish()
  sink.install()
  assert.deepEqual(texts(target), ['one', 'two'])
})

test('a copy that is not what was offered is rejected and thrown away', async () => {
  const source = open(newFolder())
  write(source, 1, 'one')
  const copy = await source.takeSnapshot()
  const folder = newFolder()
  const target = open(folder)
  const sink = await target.receiveSnapshot(offerOf(copy))
  const bytes = await readAll(copy)
  bytes[4100] = (bytes[4100] ?? 0) ^ 1
  await sink.write(0, bytes)
  await assert.rejects(sink.finish(), SnapshotRejectedError)
  assert.throws(() => sink.install())
  assert.deepEqual(readdirSync(join(folder, 'snapshots')), [])
  assert.equal((await target.receiveSnapshot(offerOf(copy))).offset, 0)
})

test('the id of an offer cannot name another file', async () => {
  const store = open(newFolder())
  await assert.rejects(
    store.receiveSnapshot({ id: '../../x', index: 1, sizeBytes: 10 }),
    /the id of a copy is an index and a digest/,
  )
})

test('what earlier runs left is removed', async () => {
  const folder = newFolder()
  const first = open(folder)
  write(first, 1, 'one')
  await close(first)
  writeFileSync(join(folder, 'snapshots/outgoing-3.db'), 'x')
  writeFileSync(join(folder, 'state-0.db-wal'), 'x')
  const second = open(folder)
  assert.deepEqual(readdirSync(join(folder, 'snapshots')), [])
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('state-0')),
    [],
  )
  assert.deepEqual(texts(second), ['one'])
})

test('a crash between the two names of an installed copy leaves the new state', async () => {
  const source = open(newFolder())
  for (let i = 1; i <= 10; i += 1) write(source, i, `note ${i}`)
  const copy = await source.takeSnapshot()
  const folder = newFolder()
  const target = open(folder)
  write(target, 3, 'old')
  const sink = await target.receiveSnapshot(offerOf(copy))
  await transfer(copy, sink)
  await sink.finish()
  const before = saved(folder)
  sink.install()
  // Nothing of the old state has been removed, and nothing of the new one has been opened yet.
  const middle = saved(before)
  cpSync(join(middle, `snapshots/incoming-${copy.id}.part`), join(middle, 'state-2.db'))

  assert.deepEqual(texts(open(before)), ['old'])
  const recovered = open(middle)
  assert.equal(recovered.appliedIndex, 10)
  assert.equal(texts(recovered).length, 10)
  assert.deepEqual(
    readdirSync(middle).filter((name) => name.startsWith('state-1')),
    [],
  )
})

test('a state that was cut short is refused with the way out', async () => {
  const folder = newFolder()
  const store = open(folder)
  for (let i = 1; i <= 200; i += 1) write(store, i, 'x'.repeat(500))
  await close(store)
  truncateSync(join(folder, 'state-1.db'), 8192)
  assert.throws(
    () => open(folder),
    (error: Error) => {
      assert.ok(error instanceof DamagedError)
      assert.match(error.message, /state-1\.db is damaged/)
      assert.match(error.message, /add a new one with an empty folder/)
      return true
    },
  )
})

test('a database without room is told from other failures, and goes on when there is room', () => {
  const store = open(newFolder())
  write(store, 1, 'one')
  store.db.exec('PRAGMA max_page_count = 1')
  assert.throws(
    () => write(store, 2, 'x'.repeat(100_000)),
    (error) => isOutOfSpace(error) && isDatabaseError(error),
  )
  store.rollback()
  assert.equal(store.appliedIndex, 1)
  store.db.exec('PRAGMA max_page_count = 100000')
  write(store, 2, 'two')
  assert.deepEqual(texts(store), ['one', 'two'])
  assert.ok(!isOutOfSpace(new Error('other')))
  assert.ok(!isDatabaseError(new Error('other')))
})

for (const code of ['ENOSPC', 'EMFILE', 'ERR_WORKER_INIT_FAILED'])
  test(`a checkpoint for which there is no room or no file is tried again with the next one: ${code}`, async () => {
    const worker = createInlineStateWorker(setImmediate)
    let room = false
    const failures: Error[] = []
    const store = openStateStore({
      folder: newFolder(),
      worker: {
        ...worker,
        run: (job, done) => (room ? worker.run(job, done) : setImmediate(() => done(failed(code)))),
      },
      onFailed: (error) => failures.push(error),
    })
    stores.add(store)
    const first = checkpoint(store)
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
    assert.deepEqual(failures, [])
    room = true
    assert.deepEqual(await Promise.all([first, checkpoint(store)]), [0, 0])
    assert.deepEqual(failures, [])
  })

test('a checkpoint that fails stops the replica, and is told once', async () => {
  const worker = createInlineStateWorker(setImmediate)
  const failures: Error[] = []
  const store = openStateStore({
    folder: newFolder(),
    worker: { ...worker, run: (_job, done) => setImmediate(() => done(failed('EIO'))) },
    onFailed: (error) => failures.push(error),
  })
  stores.add(store)
  for (let i = 0; i < 3; i += 1) {
    store.checkpoint(() => assert.fail('nothing is durable'))
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
  }
  assert.equal(failures.length, 1)
  assert.match(failures[0]?.message ?? '', /Cannot write the state back .* EIO.* This replica stops/)
})

test('what came of a copy and is not what it was, as after a power cut, is thrown away, and the copy comes anew', async () => {
  const source = open(newFolder())
  for (let i = 1; i <= 100; i += 1) write(source, i, `note ${i}`)
  const copy = await source.takeSnapshot()
  const folder = newFolder()
  writeFile(join(folder, 'snapshots'), `incoming-${copy.id}.part`, new Uint8Array(8192))
  const target = open(folder)
  const sink = await target.receiveSnapshot(offerOf(copy))
  assert.equal(sink.offset, 8192)
  await transfer(copy, sink)
  await assert.rejects(sink.finish(), SnapshotRejectedError)
  const again = await target.receiveSnapshot(offerOf(copy))
  assert.equal(again.offset, 0)
  await transfer(copy, again)
  await again.finish()
  again.install()
  assert.equal(target.appliedIndex, 100)
})

test("SQLite's write-ahead log begins anew while the writer never rests", async () => {
  const store = open(newFolder())
  write(store, 1, 'one')
  const update = store.db.prepare('UPDATE notes SET text = ?')
  const texts = ['x'.repeat(100_000), 'y'.repeat(100_000)]
  let largest = 0
  let index = 1
  while (store.sizeBytes > largest / 2 || largest < 50_000_000) {
    largest = Math.max(largest, store.sizeBytes)
    assert.ok(index < 20_000, `it has ${store.sizeBytes} bytes after ${index} commits`)
    for (let i = 0; i < 10; i += 1) {
      index += 1
      store.begin()
      update.run(texts[index % 2] ?? '')
      store.commit(index, new Uint8Array(0))
    }
    await new Promise((resolve) => setImmediate(resolve))
  }
})

test('a thread that rests ends, and another one does what comes later', async () => {
  const store = open(newFolder())
  for (const index of [1, 2, 3]) {
    write(store, index, 'text')
    assert.equal(await checkpoint(store), index)
    assert.equal(timers.size, 1)
    for (const rested of timers) rested()
    timers.clear()
  }
})

/** A folder with a state of which little is left: written back, so that all of it is in one file. */
async function mostlyFree(): Promise<string> {
  const folder = newFolder()
  const store = open(folder)
  for (let i = 1; i <= 200; i += 1) write(store, i, `note ${i} ${'x'.repeat(4000)}`)
  store.begin()
  store.db.exec('DELETE FROM notes WHERE id % 10 <> 0')
  store.commit(201, Uint8Array.of(201))
  await checkpoint(store)
  await close(store)
  return folder
}

test('a large state of which most is free is made small when it is opened, and holds the same', async () => {
  const folder = await mostlyFree()
  const before = open(folder)
  const [sizeBytes, kept] = [before.sizeBytes, texts(before)]
  assert.ok(before.freeBytes * 2 > sizeBytes)
  // What is in SQLite's own log only belongs to it too.
  write(before, 202, 'last')
  const crashed = saved(folder)
  const small = open(crashed, 'inline', 0)
  assert.deepEqual(texts(small), [...kept, 'last'])
  assert.equal(small.appliedIndex, 202)
  assert.deepEqual([...small.engineState], [202])
  assert.ok(small.sizeBytes < sizeBytes / 3)
  assert.equal(small.freeBytes, 0)
  write(small, 203, 'after it')
  await close(small)
  const again = open(crashed, 'inline', 0)
  assert.equal(again.appliedIndex, 203)
  assert.deepEqual(
    readdirSync(crashed).filter((name) => name.endsWith('.db')),
    ['state-2.db'],
  )
})

test('a state is left as it is when it is not large, or half of it is in use', async () => {
  const folder = await mostlyFree()
  const store = open(folder, 'inline', 100_000_000)
  assert.ok(store.freeBytes > 0)
  await close(store)
  const used = newFolder()
  const other = open(used)
  for (let i = 1; i <= 200; i += 1) write(other, i, 'x'.repeat(4000))
  await close(other)
  await close(open(used, 'inline', 0))
  for (const one of [folder, used])
    assert.deepEqual(
      readdirSync(one).filter((name) => name.endsWith('.db')),
      ['state-1.db'],
    )
})

test('a power cut while a state is made small leaves the one before or the one after', async () => {
  const folder = await mostlyFree()
  const before = saved(folder)
  await close(open(folder, 'inline', 0))
  const after = readFileSync(join(folder, 'state-2.db'))
  const cuts: Record<string, (at: string) => void> = {
    'half of the copy is there': (at) => writeFile(at, 'compacting.db', after.subarray(0, after.length / 2)),
    'nothing of the copy has reached the disk': (at) =>
      writeFile(at, 'compacting.db', new Uint8Array(after.length)),
    'the copy is whole': (at) => writeFile(at, 'compacting.db', after),
    'the copy counts, and the old one is there still': (at) => writeFile(at, 'state-2.db', after),
  }
  for (const [what, cut] of Object.entries(cuts)) {
    const at = saved(before)
    cut(at)
    const store = open(at, 'inline', 0)
    assert.equal(store.appliedIndex, 201, what)
    assert.equal(texts(store).length, 20, what)
    await close(store)
    assert.deepEqual(
      readdirSync(at).filter((name) => name.endsWith('.db')),
      ['state-2.db'],
      what,
    )
  }
})

function failed(code: string): { readonly kind: 'failed'; readonly error: Error } {
  return { kind: 'failed', error: Object.assign(new Error(code), { code }) }
}

function writeFile(folder: string, name: string, bytes: Uint8Array): void {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, name), bytes)
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'parley-state-'))
  folders.push(folder)
  return folder
}

/** A copy of a folder, as a crash would leave it. */
function saved(folder: string): string {
  const copy = newFolder()
  cpSync(folder, copy, { recursive: true })
  return copy
}

function open(folder: string, kind: 'thread' | 'inline' = 'thread', compactAboveBytes?: number): StateStore {
  const worker = kind === 'thread' ? createStateWorker(clock) : createInlineStateWorker(setImmediate)
  const store = openStateStore({
    folder,
    worker,
    ...(compactAboveBytes === undefined ? {} : { compactAboveBytes }),
    onFailed: (error) => {
      throw error
    },
  })
  stores.add(store)
  store.db.exec('CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)')
  return store
}

async function close(store: StateStore): Promise<void> {
  stores.delete(store)
  await store.close()
}

function write(store: StateStore, index: number, text: string): void {
  store.begin()
  store.db.prepare('INSERT INTO notes VALUES (?, ?)').run(index, text)
  store.commit(index, Uint8Array.of(index & 0xff))
}

function texts(store: StateStore): unknown[] {
  return store.db
    .prepare('SELECT text FROM notes ORDER BY id')
    .all()
    .map(({ text }) => text)
}

function checkpoint(store: StateStore): Promise<number> {
  return new Promise((resolve) => store.checkpoint(resolve))
}

function offerOf({ id, index, sizeBytes }: SnapshotSource): {
  readonly id: string
  readonly index: number
  readonly sizeBytes: number
} {
  return { id, index, sizeBytes }
}

async function readAll(source: SnapshotSource): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  for (let offset = 0; offset < source.sizeBytes;) {
    const part = await source.read(offset, 4096)
    parts.push(part)
    offset += part.length
  }
  return Buffer.concat(parts)
}

async function transfer(source: SnapshotSource, sink: SnapshotSink): Promise<void> {
  while (sink.offset < source.sizeBytes) await sink.write(sink.offset, await source.read(sink.offset, 7000))
}
