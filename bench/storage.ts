// Measures the write-ahead log and the state store alone, on the disk of the folder given (default: a temporary folder):
//   node bench/storage.ts [FOLDER]
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Entry, SnapshotPoint } from '../src/raft/types.ts'
import { systemClock } from '../src/server/clock.ts'
import { createNodeDisk } from '../src/storage/node-disk.ts'
import { openStateStore } from '../src/storage/state-store.ts'
import { createStateWorker } from '../src/storage/state-worker.ts'
import type { Recovered, StateStore } from '../src/storage/types.ts'
import { openLog } from '../src/storage/wal.ts'

const folder = mkdtempSync(join(process.argv[2] ?? tmpdir(), 'parley-bench-storage-'))
const origin: SnapshotPoint = {
  index: 0,
  term: 0,
  configuration: { faultModel: 'majority', members: [{ id: 1, voter: true, address: 'bench' }] },
}

try {
  measureFlush()
  for (const outstanding of [1, 16, 128]) await measureAppends(outstanding, 300)
  await measureAppends(16, 64 * 1024)
  await measureRecovery('1 GB of 64 KiB entries', 16_384, 64 * 1024)
  await measureRecovery('a million entries of 300 bytes', 1_000_000, 300)
  await measureState()
} finally {
  rmSync(folder, { recursive: true, force: true })
}

function report(what: string, figures: Readonly<Record<string, number>>): void {
  const text = Object.entries(figures).map(([name, value]) => `${name} ${value.toPrecision(4)}`)
  console.log(`${what}: ${text.join(', ')}`)
}

/** What the disk itself takes for 512 bytes that overwrite others. */
function measureFlush(): void {
  const descriptor = openSync(join(folder, 'flush'), 'w')
  writeSync(descriptor, Buffer.alloc(4 * 1024 * 1024))
  fdatasyncSync(descriptor)
  const times: number[] = []
  for (let i = 0; i < 2000; i += 1) {
    const began = performance.now()
    writeSync(descriptor, Buffer.alloc(512, i), 0, 512, i * 512)
    fdatasyncSync(descriptor)
    times.push((performance.now() - began) * 1000)
  }
  closeSync(descriptor)
  times.sort((a, b) => a - b)
  report('write and fdatasync of 512 bytes', { medianUs: times[1000] ?? 0, p99Us: times[1980] ?? 0 })
}

async function measureAppends(outstanding: number, bytes: number): Promise<void> {
  const { log } = open('appends')
  const data = Buffer.alloc(bytes, 'x')
  const times: number[] = []
  const endAt = performance.now() + 4000
  const cpu = process.cpuUsage()
  const began = performance.now()
  let index = 0
  await Promise.all(
    Array.from({ length: outstanding }, async () => {
      while (performance.now() < endAt) {
        const from = performance.now()
        index += 1
        const entries: readonly Entry[] = [{ kind: 'data', term: 1, index, data }]
        await new Promise<void>((resolve) => log.append({ hardState: null, entries }, resolve))
        times.push(performance.now() - from)
      }
    }),
  )
  const seconds = (performance.now() - began) / 1000
  const { user, system } = process.cpuUsage(cpu)
  times.sort((a, b) => a - b)
  report(`appends of ${bytes} bytes, ${outstanding} outstanding`, {
    perSecond: index / seconds,
    medianMs: times[Math.floor(times.length / 2)] ?? 0,
    p99Ms: times[Math.floor(times.length * 0.99)] ?? 0,
    cpuUsEach: (user + system) / index,
  })
  await new Promise<void>((resolve) => log.close(resolve))
  rmSync(join(folder, 'appends'), { recursive: true })
}

async function measureRecovery(what: string, count: number, bytes: number): Promise<void> {
  const { log } = open('recovery')
  const data = Buffer.alloc(bytes, 'x')
  for (let index = 0; index < count;) {
    const entries: Entry[] = []
    for (let i = 0; i < 64 && index < count; i += 1)
      entries.push({ kind: 'data', term: 1, index: (index += 1), data })
    await new Promise<void>((resolve) => log.append({ hardState: null, entries }, resolve))
  }
  const size = log.sizeBytes
  await new Promise<void>((resolve) => log.close(resolve))
  const heapBefore = process.memoryUsage().rss
  const began = performance.now()
  const recovered = open('recovery')
  report(`recovery of ${what}`, {
    ms: performance.now() - began,
    fileMB: size / 1e6,
    entries: recovered.log.lastIndex,
    residentMB: (process.memoryUsage().rss - heapBefore) / 1e6,
  })
  const from = performance.now()
  let read = 0
  for (let index = 1; index <= recovered.log.lastIndex;) {
    const entries = recovered.log.entries(index, recovered.log.lastIndex, 1024 * 1024)
    index += entries.length
    read += entries.reduce((sum, entry) => sum + (entry.kind === 'data' ? entry.data.length : 0), 0)
  }
  report('reading all of it for a replica that lags', {
    MBPerSecond: read / 1e3 / (performance.now() - from),
  })
  await new Promise<void>((resolve) => recovered.log.close(resolve))
  rmSync(join(folder, 'recovery'), { recursive: true })
}

async function measureState(): Promise<void> {
  const store = openState()
  store.db.exec(
    'CREATE TABLE message (conversation INTEGER, seq INTEGER, body BLOB, PRIMARY KEY (conversation, seq)) WITHOUT ROWID',
  )
  const insert = store.db.prepare('INSERT INTO message VALUES (?, ?, ?)')
  const body = Buffer.alloc(256, 'x')
  let messages = 0
  const batch = (size: number): number => {
    const from = performance.now()
    store.begin()
    for (let i = 0; i < size; i += 1) {
      messages += 1
      insert.run(messages % 200, messages, body)
    }
    store.commit(messages, new Uint8Array(50))
    return performance.now() - from
  }
  const run = async (what: string, pauseMs: number, goesOn: (sinceMs: number) => boolean): Promise<void> => {
    const before = messages
    const times: number[] = []
    let largest = 0
    const began = performance.now()
    while (goesOn(performance.now() - began)) {
      times.push(batch(100))
      largest = Math.max(largest, statSync(`${store.path}-wal`).size)
      await new Promise((resolve) => (pauseMs === 0 ? setImmediate(resolve) : setTimeout(resolve, pauseMs)))
    }
    const ms = performance.now() - began
    times.sort((a, b) => a - b)
    report(what, {
      messagesPerSecond: (messages - before) / (ms / 1000),
      medianMs: times[Math.floor(times.length / 2)] ?? 0,
      p99Ms: times[Math.floor(times.length * 0.99)] ?? 0,
      worstMs: times.at(-1) ?? 0,
      largestWalMB: largest / 1e6,
    })
  }
  for (let i = 0; i < 1000; i += 1) {
    batch(1000)
    await new Promise((resolve) => setImmediate(resolve))
  }
  await new Promise<number>((resolve) => store.checkpoint(resolve))
  await run('state, batches of 100, writer at full speed', 0, (ms) => ms < 5000)
  await run('state, batches of 100, 4 ms apart', 4, (ms) => ms < 5000)
  const began = performance.now()
  let copied = 0
  const copy = store.takeSnapshot().then((source) => {
    copied = performance.now() - began
    return source
  })
  await run('the same while a copy is made', 4, () => copied === 0)
  const source = await copy
  report('a copy', { ms: copied, MB: source.sizeBytes / 1e6 })
  const target = openStateStore({
    folder: mkdtempSync(join(folder, 'target-')),
    worker: createStateWorker(systemClock),
    onFailed: fail,
  })
  const from = performance.now()
  const sink = await target.receiveSnapshot(source)
  while (sink.offset < source.sizeBytes)
    await sink.write(sink.offset, await source.read(sink.offset, 1024 * 1024))
  const transferred = performance.now()
  await sink.finish()
  const finished = performance.now()
  sink.install()
  report('taking it over', {
    transferMs: transferred - from,
    finishMs: finished - transferred,
    installMs: performance.now() - finished,
  })
  await source.close()
  await target.close()
  const closing = performance.now()
  await store.close()
  const opening = performance.now()
  const again = openState()
  report('a million messages', { closeMs: opening - closing, openMs: performance.now() - opening })
  await again.close()
}

function open(name: string): Recovered {
  return openLog(
    createNodeDisk(join(folder, name)),
    {
      segmentBytes: 16 * 1024 * 1024,
      cacheBytes: 16 * 1024 * 1024,
      clock: systemClock,
      onFailed: fail,
      onFullChanged: () => {},
    },
    origin,
  )
}

function openState(): StateStore {
  return openStateStore({ folder, worker: createStateWorker(systemClock), onFailed: fail })
}

function fail(error: Error): void {
  throw error
}
