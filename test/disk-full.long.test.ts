import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { DatabaseSync } from 'node:sqlite'
import { openChat } from '../src/chat/machine.ts'
import { SearchIndex } from '../src/replica/search-index.ts'
import { ChatScript } from '../src/replica/testing.ts'
import { systemClock } from '../src/server/clock.ts'
import { isOutOfSpace } from '../src/storage/errors.ts'
import { openStateStore } from '../src/storage/state-store.ts'
import { createStateWorker } from '../src/storage/state-worker.ts'
import { type Client, createClient, ParleyError } from '../src/client/index.ts'
import { startCluster } from './support/cluster.ts'
import { Ledger, until } from './support/ledger.ts'
import { checkSameState } from './support/state.ts'

test('without space on the disk writes are refused in words; with space again all goes on, and nothing is lost', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'parley-small-disk-'))
  if (!mountSmall(folder)) {
    rmdirSync(folder)
    t.skip('only root can make a small disk for this test')
    return
  }
  const before = process.env['TMPDIR']
  process.env['TMPDIR'] = folder
  try {
    await using cluster = await startCluster({ environment: { PARLEY_LOG_MIB: '2' } })
    using ledger = new Ledger(cluster.addresses)
    await ledger.open(4)
    ledger.start(8)
    await ledger.progress(500)

    const witness = createClient({ addresses: cluster.addresses, timeoutMs: 2000 })
    t.after(() => witness.close())
    await witness.logIn({ name: 'talker0', password: 'a password for tests' })
    const ballast = join(folder, 'ballast')
    // Each text is another one: what comes twice would be a repetition.
    let witnessed = 0
    fill(ballast)
    // What was preallocated is used up first; what the cluster frees meanwhile is filled again.
    await until(
      async () => {
        fill(ballast)
        const reason = await witness
          .call('sendMessage', {
            to: { target: { $case: 'room', value: 'ledger' } },
            text: `${(witnessed += 1)} ${'x'.repeat(16_000)}`,
          })
          .then(() => 'sent')
          .catch((error: unknown) =>
            error instanceof Error && 'reason' in error ? String(error.reason) : String(error),
          )
        return reason === 'REASON_NO_SPACE'
      },
      'a write is refused for want of space',
      60_000,
    )
    assert.equal(cluster.running.size, 5, `every replica lives on\\n${cluster.lines.join('\\n')}`)
    rmSync(ballast)
    await ledger.progress(500)
    await ledger.stop()
    await ledger.check(cluster.addresses)
    assert.ok((await checkSameState(cluster)) >= 3)
  } finally {
    if (before === undefined) delete process.env['TMPDIR']
    else process.env['TMPDIR'] = before
    spawnSync('umount', [folder])
    rmdirSync(folder)
  }
})

test('a replica without space sends its clients to the others, catches up when there is space again, and can be stopped meanwhile', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'parley-full-replica-'))
  const disk = join(folder, 'r2')
  mkdirSync(disk)
  if (!mountSmall(disk)) {
    rmSync(folder, { recursive: true })
    t.skip('only root can make a small disk for this test')
    return
  }
  try {
    await using cluster = await startCluster({ folder, replicas: 3, environment: { PARLEY_LOG_MIB: '2' } })
    using ledger = new Ledger(cluster.addresses)
    await ledger.open(3)
    const [, second = ''] = cluster.addresses
    const visitor = createClient({ addresses: [second], timeoutMs: 20_000 })
    t.after(() => visitor.close())
    await visitor.logIn({ name: 'talker0', password: 'a password for tests' })
    const problem = async (): Promise<string> => {
      const status = createClient({ addresses: [second], discover: false, timeoutMs: 5000 })
      try {
        const { replicas } = await status.call('getStatus', {})
        return replicas.find(({ id }) => id === 2)?.problem ?? ''
      } finally {
        status.close()
      }
    }
    ledger.start(8)
    const ballast = join(disk, 'ballast')
    // Each text is another one: what comes twice would be a repetition.
    let sent = 0
    const to = { target: { $case: 'room', value: 'ledger' } } as const
    const useUpSpace = (): Promise<void> =>
      until(
        async () => {
          fill(ballast)
          await visitor.call('sendMessage', { to, text: `${(sent += 1)} ${'x'.repeat(16_000)}` })
          return (await problem()) === 'the disk has no space left'
        },
        'the second replica has no space left',
        60_000,
      )
    await useUpSpace()
    await ledger.progress(2000)
    await visitor.call('sendMessage', { to, text: 'by way of another replica' })
    assert.ok(visitor.state.kind === 'connected' && visitor.state.replica !== 2, 'the visitor has moved')
    assert.equal(cluster.running.size, 3)
    rmSync(ballast)
    await until(async () => (await problem()) === '', 'there is space again', 60_000)
    await ledger.progress(200)
    await useUpSpace()
    await cluster.end(2, 'SIGTERM')
    rmSync(ballast)
    cluster.start(2)
    await cluster.untilServing(3)
    await ledger.progress(200)
    await ledger.stop()
    await ledger.check(cluster.addresses)
    assert.ok((await checkSameState(cluster)) >= 3)
  } finally {
    spawnSync('umount', [disk])
    rmSync(folder, { recursive: true })
  }
})

test('followers without space under a leader that has some: who writes is told, reads go on, and all goes on when there is space again', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'parley-full-followers-'))
  const disks = [1, 2, 3].map((id) => join(folder, `r${id}`))
  for (const disk of disks) {
    mkdirSync(disk)
    if (mountSmall(disk)) continue
    for (const other of disks) spawnSync('umount', [other])
    rmSync(folder, { recursive: true })
    t.skip('only root can make a small disk for this test')
    return
  }
  try {
    await using cluster = await startCluster({ folder, replicas: 3, environment: { PARLEY_LOG_MIB: '2' } })
    using ledger = new Ledger(cluster.addresses)
    await ledger.open(3)
    const leader = await cluster.untilServing()
    const clients = cluster.addresses.map((address) =>
      createClient({ addresses: [address], discover: false, timeoutMs: 3000 }),
    )
    t.after(() => {
      for (const client of clients) client.close()
    })
    for (const client of clients) await client.logIn({ name: 'talker0', password: 'a password for tests' })
    ledger.start(8)
    await ledger.progress(200)
    const full = disks.filter((_, i) => i + 1 !== leader)
    const to = { target: { $case: 'room', value: 'ledger' } } as const
    let sent = 0
    const send = (client: Client): Promise<string> =>
      client
        .call('sendMessage', { to, text: `${(sent += 1)} ${'x'.repeat(16_000)}` })
        .then(() => 'sent')
        .catch((error: unknown) => (error instanceof ParleyError ? error.reason : String(error)))
    // Whoever has no space itself says so; the leader has some, and sees only that nothing is written. Without a leader none can be elected, since a vote takes space too.
    const filling = setInterval(() => {
      // What the log gives back is taken at once.
      for (const disk of full) fill(join(disk, 'ballast'))
    }, 20)
    t.after(() => clearInterval(filling))
    const clear = new Set(['REASON_NO_SPACE', 'REASON_OVERLOADED', 'REASON_NO_QUORUM'])
    // A log that was given its segments before takes some more megabytes. With large messages that does not last longer the slower the machine is.
    const serving = clients[leader - 1]
    assert.ok(serving !== undefined)
    await until(
      async () => {
        const reasons = await Promise.all(Array.from({ length: 16 }, () => send(serving)))
        return !reasons.includes('sent')
      },
      'the logs of the followers take no more',
      60_000,
    )
    // A little that the log gave back may still be written meanwhile, or not.
    let clearInARow = 0
    await until(
      async () => {
        const reasons = await Promise.all(clients.map(send))
        clearInARow = reasons.every((reason) => clear.has(reason)) ? clearInARow + 1 : 0
        return clearInARow === 4
      },
      'who writes is told why not, by each replica, again and again',
      60_000,
    )
    for (const client of clients) {
      const page = await client.call('listMessages', { conversation: to, pageSize: 5 }, { read: 'best' })
      assert.equal(page.messages.length, 5, 'what is stored can be read')
    }
    assert.equal(cluster.running.size, 3, `every replica lives on\n${cluster.lines.join('\n')}`)
    clearInterval(filling)
    for (const disk of full) rmSync(join(disk, 'ballast'))
    await ledger.progress(200)
    for (const client of clients)
      await until(async () => (await send(client)) === 'sent', 'each takes writes', 30_000)
    await ledger.stop()
    await ledger.check(cluster.addresses)
    assert.ok((await checkSameState(cluster)) >= 3)
  } finally {
    for (const disk of disks) spawnSync('umount', [disk])
    rmSync(folder, { recursive: true })
  }
})

test('without room a commit succeeds in what SQLite’s log has, once that was written back', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'parley-full-state-'))
  if (!mountSmall(folder, 24)) {
    rmSync(folder, { recursive: true })
    t.skip('only root can make a small disk for this test')
    return
  }
  const failures: Error[] = []
  const worker = createStateWorker(systemClock)
  const store = openStateStore({ folder, worker, onFailed: (error) => failures.push(error) })
  try {
    const write = (notes: number): void =>
      store.db.exec(`UPDATE note SET text = randomblob(6000) WHERE id <= ${notes}`)
    const commit = (index: number): void => store.commit(index, new Uint8Array(0))
    const checkpoint = (): Promise<number> => new Promise((resolve) => store.checkpoint(resolve))
    store.begin()
    store.db.exec('CREATE TABLE note (id INTEGER PRIMARY KEY, text BLOB)')
    for (let id = 1; id <= 1000; id += 1)
      store.db.prepare('INSERT INTO note VALUES (?, zeroblob(6000))').run(id)
    commit(1)
    await checkpoint()
    store.begin()
    write(900)
    commit(2)
    fill(join(folder, 'ballast'))
    const attempt = (): boolean => {
      try {
        commit(3)
        return true
      } catch (error) {
        assert.ok(isOutOfSpace(error))
        store.rollback()
        store.begin()
        write(240)
        return false
      }
    }
    store.begin()
    write(240)
    while (store.hasRoom) assert.equal(attempt(), false)
    await checkpoint()
    let attempts = 0
    while (store.hasRoom && !attempt()) attempts += 1
    assert.equal(store.appliedIndex, 3)
    assert.ok(attempts <= 1)
    assert.deepEqual(failures, [])
  } finally {
    await store.close()
    spawnSync('umount', [folder])
    rmSync(folder, { recursive: true })
  }
})

test('a search index is not thrown away because there is no room to open it', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'parley-full-index-'))
  const disk = join(folder, 'index')
  mkdirSync(disk)
  if (!mountSmall(disk, 8)) {
    rmSync(folder, { recursive: true })
    t.skip('only root can make a small disk for this test')
    return
  }
  const db = new DatabaseSync(join(folder, 'state.db'))
  try {
    db.exec('PRAGMA journal_mode = WAL')
    const { machine } = openChat(db)
    const script = new ChatScript(machine, db)
    const [alice] = script.accounts('alice', 'bob')
    script.send(alice, 'bob', 'red fish')
    const open = (): SearchIndex =>
      new SearchIndex(join(disk, 'search.db'), join(folder, 'state.db'), (state) => openChat(state).queries)
    const found = (index: SearchIndex): number =>
      index.search(alice.account, { query: 'fish', conversation: undefined, pageSize: 10, pageToken: '' })
        .messages.length
    const first = open()
    while (first.advance(10)) continue
    assert.equal(found(first), 1)
    first.close()
    fill(join(disk, 'ballast'))
    assert.throws(open, isOutOfSpace)
    rmSync(join(disk, 'ballast'))
    const second = open()
    assert.equal(found(second), 1)
    second.close()
  } finally {
    db.close()
    spawnSync('umount', [disk])
    rmSync(folder, { recursive: true })
  }
})

/** Makes a disk at `path`. Returns whether that is allowed. */
function mountSmall(path: string, sizeMib = 160): boolean {
  return spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMib}m`, 'parley-test', path]).status === 0
}

/** Writes until the disk takes no more. */
function fill(path: string): void {
  for (const bytes of [1024 * 1024, 4096]) {
    const block = Buffer.alloc(bytes)
    try {
      for (;;) appendFileSync(path, block)
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error
    }
  }
}
