import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, test } from 'node:test'
import type { DiskCallback } from './disk.ts'
import { createNodeDisk } from './node-disk.ts'
import { ManualClock } from './testing.ts'
import type { WriteAheadLog } from './types.ts'
import { openLog } from './wal.ts'
import { data, origin } from './wal-testing.ts'

const folders: string[] = []

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

test('what is written in several pieces is read in one', async () => {
  const disk = createNodeDisk(newFolder())
  disk.makeFolder('log')
  const file = disk.open('log/a', true)
  await ended((done) => file.write(3, [Buffer.from('one'), Buffer.alloc(0), Buffer.from('two')], done))
  await ended((done) => file.flush(done))
  assert.equal(file.sizeBytes(), 9)
  assert.equal(Buffer.from(file.read(3, 100)).toString(), 'onetwo')
  assert.equal(file.read(9, 5).length, 0)
  file.writeNow(0, Buffer.from('xyz'))
  file.flushNow()
  assert.equal(Buffer.from(disk.readFile('log/a')).toString(), 'xyzonetwo')
  file.truncate(4)
  assert.equal(file.sizeBytes(), 4)
  file.close()
  assert.throws(() => disk.open('log/a', true), { code: 'EEXIST' })
  assert.throws(() => disk.open('log/b', false), { code: 'ENOENT' })
})

test('names are listed in order, renamed and removed', async () => {
  const disk = createNodeDisk(newFolder())
  disk.makeFolder('log')
  for (const name of ['b', 'a', 'c']) disk.open(`log/${name}`, true).close()
  assert.deepEqual(disk.list('log'), ['a', 'b', 'c'])
  await ended((done) => disk.rename('log/a', 'log/c', done))
  await ended((done) => disk.remove('log/b', done))
  await ended((done) => disk.flushFolder('log', done))
  disk.flushFolderNow('log')
  assert.deepEqual(disk.list('log'), ['c'])
  await assert.rejects(
    ended((done) => disk.remove('log/b', done)),
    { code: 'ENOENT' },
  )
  assert.ok(disk.freeBytes() > 0)
})

test('a process that is killed while it appends loses nothing that it was told is on disk', async () => {
  const folder = newFolder()
  let last = 0
  for (let life = 0; life < 3; life += 1) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', appender(folder)])
    let text = ''
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
    while (text.split('\n').length < 400) await once(child.stdout, 'data')
    child.kill('SIGKILL')
    await once(child, 'close')
    const told = Number(text.split('\n').at(-2))
    assert.ok(told > last)
    const log = open(folder)
    assert.ok(log.lastIndex >= told, `${log.lastIndex} >= ${told}`)
    for (const entry of log.entries(1, log.lastIndex, 1e9))
      assert.deepEqual(entry, data(entry.index, 1, String(entry.index).repeat(50)))
    last = log.lastIndex
    await new Promise<void>((resolve) => log.close(resolve))
  }
})

test('a flipped bit in a file is named with file, place and way out', async () => {
  const folder = newFolder()
  const log = open(folder)
  for (let i = 1; i <= 3; i += 1)
    await new Promise<void>((resolve) =>
      log.append({ hardState: null, entries: [data(i, 1, 'x'.repeat(600))] }, resolve),
    )
  await new Promise<void>((resolve) => log.close(resolve))
  const path = join(folder, 'log/0000000000000001.wal')
  const bytes = readFileSync(path)
  bytes[1100] = (bytes[1100] ?? 0) ^ 4
  writeFileSync(path, bytes)
  assert.throws(() => open(folder), {
    name: 'DamagedError',
    message:
      /^log\/0000000000000001\.wal is damaged at byte 512: .* Delete or edit nothing in this folder by hand\.$/,
  })
})

function appender(folder: string): string {
  const from = (file: string): string => JSON.stringify(import.meta.resolve(file))
  return `
    import { writeSync } from 'node:fs'
    import { createNodeDisk } from ${from('./node-disk.ts')}
    import { openLog } from ${from('./wal.ts')}
    import { data, origin } from ${from('./wal-testing.ts')}
    const clock = { after: (ms, callback) => setTimeout(callback, ms), soon: setImmediate }
    const options = { segmentBytes: 65536, cacheBytes: 0, clock, onFailed: (error) => { throw error }, onFullChanged() {} }
    const { log } = openLog(createNodeDisk(${JSON.stringify(folder)}), options, origin)
    function next() {
      const index = log.lastIndex + 1
      const entries = [data(index, 1, String(index).repeat(50))]
      log.append({ hardState: null, entries }, () => { writeSync(1, index + '\\n'); next() })
    }
    for (let i = 0; i < 4; i += 1) next()`
}

function open(folder: string): WriteAheadLog {
  const clock = new ManualClock()
  return openLog(
    createNodeDisk(folder),
    {
      segmentBytes: 65_536,
      cacheBytes: 0,
      clock,
      onFailed: (error) => {
        throw error
      },
      onFullChanged: () => {},
    },
    origin,
  ).log
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'parley-disk-'))
  folders.push(folder)
  return folder
}

function ended(begin: (done: DiskCallback) => void): Promise<void> {
  return new Promise((resolve, reject) => begin((error) => (error === null ? resolve() : reject(error))))
}
