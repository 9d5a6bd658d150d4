// Backup, restore and export of real clusters, by the command line.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  closeSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test, type TestContext } from 'node:test'
import { digest } from '../src/chat/digest.ts'
import { runInteractive } from '../src/cli/interactive/run.ts'
import { processIo } from '../src/cli/process-io.ts'
import { runCli } from '../src/cli/program.ts'
import { FakeProcess } from '../src/cli/testing.ts'
import { createClient, type Client } from '../src/client/index.ts'
import { BackupWriter, openBackup } from '../src/server/backup-file.ts'
import { backUpStopped } from '../src/server/backup-stopped.ts'
import { replicaFolder } from '../src/server/cluster-file.ts'
import { createSupervisor } from '../src/server/supervisor.ts'
import { startCluster, type TestCluster } from './support/cluster.ts'
import { unpackFolder } from './support/fixture.ts'
import { until } from './support/ledger.ts'
import { freePorts } from './support/ports.ts'
import { newestState, untilSettled } from './support/state.ts'

const program = resolve(import.meta.dirname, '../bin/parley.js')
const password = 'a password for tests'

interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

function parley(environment: Readonly<Record<string, string>>, ...words: readonly string[]): Promise<Ran> {
  const child = spawn(process.execPath, [program, ...words], { env: { ...process.env, ...environment } })
  const text = { out: '', err: '' }
  child.stdout.on('data', (bytes: Buffer) => (text.out += bytes.toString()))
  child.stderr.on('data', (bytes: Buffer) => (text.err += bytes.toString()))
  return new Promise((done) => child.on('close', (code) => done({ code, ...text })))
}

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'parley-backup-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Tables that are about the replicas themselves are left out: a new cluster has its own. */
function digestOf(folder: string): readonly string[] {
  const db = new DatabaseSync(newestState(folder))
  try {
    return digest(db)
      .split('\n')
      .filter((line) => !/^(origin|presence|join_token|account) /.test(line))
  } finally {
    db.close()
  }
}

function accountsOf(folder: string): unknown {
  const db = new DatabaseSync(newestState(folder))
  try {
    return db
      .prepare('SELECT id, name, password_hash, password_version, admin FROM account ORDER BY id')
      .all()
  } finally {
    db.close()
  }
}

/** Some of everything, by anna, the administrator, and bob; returns anna's client and token. */
async function fill(cluster: TestCluster): Promise<{ readonly anna: Client; readonly token: Uint8Array }> {
  const anna = createClient({ addresses: cluster.addresses, timeoutMs: 30_000 })
  const { token } = await anna.register({ name: 'anna', password })
  const bob = createClient({ addresses: cluster.addresses, timeoutMs: 30_000 })
  await bob.register({ name: 'bob', password })
  await anna.call('createRoom', { name: 'garden' })
  await bob.call('joinRoom', { name: 'garden' })
  const room = { target: { $case: 'room', value: 'garden' } } as const
  for (let i = 1; i <= 300; i += 1)
    await anna.call('sendMessage', { to: room, text: `message ${i} `.repeat(50) })
  await bob.call('sendMessage', {
    to: { target: { $case: 'account', value: 'anna' } },
    text: 'only for anna',
  })
  await bob.call('saveDraft', { draftId: bob.newId(), text: 'a draft of bob', recipients: [room] })
  bob.close()
  return { anna, token }
}

test('a backup of a running cluster is restored as a new cluster of another size, table by table the same', async (t) => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'parley.backup')
  const environment = {
    XDG_CONFIG_HOME: join(folder, 'config'),
    XDG_STATE_HOME: join(folder, 'state'),
    PARLEY_PASSWORD_MEMORY_KIB: '64',
  }
  await using cluster = await startCluster({ replicas: 3 })
  const { anna, token } = await fill(cluster)
  const server = ['-s', cluster.addresses.join(',')]
  const refused = await parley(environment, 'backup', file, ...server)
  assert.deepEqual([refused.code, existsSync(file)], [4, false])

  await untilSettled(cluster)
  const data = cluster.dataOf(cluster.leader())
  const made = await parley(environment, 'backup', file, '--data', data, '--json')
  assert.equal(made.code, 0, made.err)
  assert.equal(typeof JSON.parse(made.out).index, 'number')
  const again = await parley(environment, 'backup', file, '--data', data)
  assert.equal(again.code, 1)
  assert.match(again.err, /exists already/)
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('parley.backup')),
    ['parley.backup'],
  )

  // Everything for an administrator, one's own data for everybody.
  const all = await exported(anna, true)
  assert.deepEqual([all[0]?.['type'], all.at(-1)?.['type']], ['export', 'end'])
  assert.equal(all.filter(({ type }) => type === 'message').length, 301)
  assert.ok(all.some(({ type, text }) => type === 'draft' && text === 'a draft of bob'))
  assert.ok(!/argon2|hash|token/i.test(JSON.stringify(all)))
  const bob = createClient({ addresses: cluster.addresses, timeoutMs: 30_000 })
  await bob.logIn({ name: 'bob', password })
  const own = await exported(bob, false)
  assert.deepEqual(
    own.filter(({ type }) => type === 'account').map(({ name }) => name),
    ['bob'],
  )
  assert.equal(own.filter(({ type }) => type === 'message').length, 301)
  await assert.rejects(exported(bob, true), /administrator/)
  bob.close()
  anna.close()

  const before = await stateAtBackup(folder, file)
  for (const [model, replicas] of [
    ['majority', 1],
    ['fail-stop', 2],
  ] as const) {
    const target = join(folder, `restored-${model}`)
    const port = await freePorts(3 * replicas)
    const options = ['--replicas', String(replicas), '--fault-model', model]
    const ports = ['--http-port', port, '--grpc-port', port + replicas, '--peer-port', port + 2 * replicas]
    const restored = await parley(
      environment,
      'restore',
      file,
      '--data',
      target,
      '--json',
      ...options,
      ...ports.map(String),
    )
    assert.equal(restored.code, 0, restored.err)
    const { clusterId, messages } = JSON.parse(restored.out)
    assert.notEqual(clusterId, JSON.parse(readFileSync(join(data, 'replica.json'), 'utf8')).clusterId)
    assert.equal(messages, 301)
    for (let id = 1; id <= replicas; id += 1) {
      assert.deepEqual(digestOf(replicaFolder(target, id)), before.digest)
      assert.deepEqual(accountsOf(replicaFolder(target, id)), before.accounts)
    }
    const full = await parley(environment, 'restore', file, '--data', target)
    assert.equal(full.code, 1)
    assert.match(full.err, /not empty/)
    await serves(target, replicas, port, token)
  }
})

test('a replica that does not run is backed up from its folder; a backup that is damaged is refused and leaves nothing', async (t) => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'parley.backup')
  let data = ''
  {
    await using cluster = await startCluster({ replicas: 1, folder: join(folder, 'cluster') })
    const { anna } = await fill(cluster)
    anna.close()
    data = cluster.dataOf(1)
    await cluster.end(1, 'SIGTERM')
  }
  const made = await parley({}, 'backup', file, '--data', data)
  assert.equal(made.code, 0, made.err)
  const bytes = readFileSync(file)
  const damaged: readonly (readonly [name: string, change: (path: string) => void, words: RegExp])[] = [
    ['cut short', (path) => truncateSync(path, bytes.length - 1), /damaged: it should have/],
    ['a flipped bit in the state', (path) => flip(path, bytes.length - 5000), /damaged: its checksum/],
    ['a flipped bit in the header', (path) => flip(path, 40), /damaged: its header/],
    ['something else', (path) => writeFileSync(path, 'PK not a backup at all, but long enough'), /no backup/],
    ['a newer format', (path) => flip(path, 11), /newer Parley/],
  ]
  for (const [name, change, words] of damaged) {
    const copy = join(folder, 'copy.backup')
    writeFileSync(copy, bytes)
    change(copy)
    const port = await freePorts(3)
    const ports = ['--http-port', port, '--grpc-port', port + 1, '--peer-port', port + 2].map(String)
    const target = join(folder, 'target')
    const refused = await parley({}, 'restore', copy, '--data', target, '--replicas', '1', ...ports)
    assert.equal(refused.code, 1, name)
    assert.match(refused.err, words, name)
    assert.deepEqual(
      readdirSync(folder).filter((entry) => entry.startsWith('target')),
      [],
      name,
    )
  }
})

test('a backup that no quorum allows to begin is given up at Ctrl-C, or when the time that was given is over', async (t) => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'parley.backup')
  await using cluster = await startCluster({ replicas: 3 })
  const data = cluster.dataOf(1)
  await Promise.all([cluster.end(2, 'SIGKILL'), cluster.end(3, 'SIGKILL')])
  const waiting = new FakeProcess(null)
  const running = runCli(
    ['backup', file, '--data', data],
    { ...waiting.io, files: processIo().files },
    runInteractive,
  )
  await until(() => existsSync(`${file}.part-${process.pid}`), 'the backup begins', 30_000)
  waiting.stop()
  assert.deepEqual([await running, waiting.errLines.at(-1)], [1, 'parley: stopped; nothing was written'])
  const beganMs = performance.now()
  const { code } = await parley({}, 'backup', file, '--data', data, '--timeout', '0.5')
  assert.equal(code, 5)
  assert.ok(performance.now() - beganMs < 40_000, 'not the minute that it takes by itself')
  assert.deepEqual(readdirSync(folder), [])
})

test('Ctrl-C while a replica that does not run is backed up leaves nothing', async (t) => {
  const folder = temporaryFolder(t)
  const data = join(folder, 'replica')
  unpackFolder('0.1.0/r1', data)
  const file = join(folder, 'parley.backup')
  // Whatever it is doing then. At once it has not even begun.
  for (const afterMs of [0, 20, 40, 60, 80]) {
    const stop = new AbortController()
    const isDone = backUpStopped(data, file, stop.signal).then(
      () => true,
      (error: unknown) => error !== stop.signal.reason,
    )
    if (afterMs > 0) await new Promise((resolve) => setTimeout(resolve, afterMs))
    stop.abort(new Error('stopped'))
    if (afterMs === 0) assert.equal(await isDone, false)
    const left = (await isDone) ? ['parley.backup', 'replica'] : ['replica']
    assert.deepEqual(readdirSync(folder).sort(), left)
    rmSync(file, { force: true })
  }
})

test('Ctrl-C while a backup is restored leaves nothing, in a folder that is there already too', async (t) => {
  const folder = temporaryFolder(t)
  const data = join(folder, 'replica')
  const file = join(folder, 'parley.backup')
  unpackFolder('0.1.0/r1', data)
  assert.equal((await parley({}, 'backup', file, '--data', data)).code, 0)
  const port = await freePorts(3)
  const restoreTo = async (target: string, isStopped: (line: string) => boolean): Promise<string> => {
    const fake = new FakeProcess(null)
    fake.canAsk = true
    const ports = ['--http-port', port, '--grpc-port', port + 1, '--peer-port', port + 2].map(String)
    const err = (line: string): void => {
      fake.errLines.push(line)
      if (isStopped(line)) fake.stop()
    }
    const argv = ['restore', file, '--data', target, '--replicas', '1', ...ports]
    assert.equal(await runCli(argv, { ...fake.io, err }, runInteractive), 1)
    return fake.errLines.at(-1) ?? ''
  }
  const present = join(folder, 'present')
  mkdirSync(present)
  for (const target of [join(folder, 'new'), present])
    for (const part of [/%/, / 70 %/])
      assert.match(await restoreTo(target, (line) => part.test(line)), /stopped; nothing was made/)
  assert.deepEqual(readdirSync(folder).sort(), ['parley.backup', 'present', 'replica'])
  assert.deepEqual(readdirSync(present), [])
  writeFileSync(join(present, '.left'), '')
  const full = await restoreTo(present, () => false)
  assert.match(full, /is not empty \(\.left\)/)
})

test('a backup is restored into an empty folder that is there already, though it cannot be replaced: a disk of its own, or one made for the user', async (t) => {
  const folder = temporaryFolder(t)
  const data = join(folder, 'replica')
  const file = join(folder, 'parley.backup')
  unpackFolder('0.1.0/r1', data)
  assert.equal((await parley({}, 'backup', file, '--data', data)).code, 0)
  const parent = join(folder, 'parent')
  const target = join(parent, 'target')
  mkdirSync(target, { recursive: true })
  const isRoot = process.getuid?.() === 0
  // Nothing is forbidden to root, but where a disk is mounted stays where it is.
  if (!isRoot) chmodSync(parent, 0o500)
  else if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'parley-test', target]).status !== 0) {
    t.skip('no disk can be mounted for this test')
    return
  }
  try {
    const port = await freePorts(3)
    const ports = ['--http-port', port, '--grpc-port', port + 1, '--peer-port', port + 2].map(String)
    const restore = (from: string, to: string): Promise<Ran> =>
      parley({}, 'restore', from, '--data', to, '--replicas', '1', ...ports)
    const damaged = join(folder, 'damaged.backup')
    const bytes = readFileSync(file)
    writeFileSync(damaged, bytes)
    flip(damaged, bytes.length - 5000)
    assert.match((await restore(damaged, target)).err, /its checksum is wrong/)
    assert.deepEqual(readdirSync(target), [])
    const restored = await restore(file, target)
    assert.equal(restored.code, 0, restored.err)
    assert.deepEqual(readdirSync(target).sort(), ['cluster.json', 'r1'])
    const other = join(folder, 'other')
    assert.equal((await restore(file, other)).code, 0)
    assert.deepEqual(digestOf(replicaFolder(target, 1)), digestOf(replicaFolder(other, 1)))
  } finally {
    if (isRoot) spawnSync('umount', [target])
    else chmodSync(parent, 0o700)
  }
})

test('without room for the backup nothing is left of it, in the words of a full disk', async (t) => {
  const folder = temporaryFolder(t)
  const small = join(folder, 'small')
  mkdirSync(small)
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'parley-test', small])
  if (mounted.status !== 0) {
    t.skip('only root can make a small disk for this test')
    return
  }
  try {
    const data = join(folder, 'replica')
    unpackFolder('0.1.0/r1', data)
    const file = join(small, 'parley.backup')
    const made = await parley({}, 'backup', file, '--data', data)
    assert.equal(made.code, 1)
    assert.match(made.err, /no space left/)
    assert.deepEqual(readdirSync(small), [])
    const writer = new BackupWriter(file)
    try {
      writer.begin({ ...anyHeader, sizeBytes: 1024 * 1024 })
      assert.throws(() => writer.write(new Uint8Array(1024 * 1024)), /ENOSPC/)
    } finally {
      writer.abandon()
    }
    assert.deepEqual(readdirSync(small), [])
  } finally {
    spawnSync('umount', [small])
  }
})

const anyHeader = {
  clusterId: '0'.repeat(32),
  faultModel: 'majority',
  index: 1,
  at: new Date(0).toISOString(),
  version: '0',
  sizeBytes: 4,
  sha256: '0'.repeat(64),
} as const

test('a backup that cannot be opened is not said to be missing', async (t) => {
  const folder = temporaryFolder(t)
  const circle = join(folder, 'circle')
  symlinkSync(circle, circle)
  assert.throws(() => openBackup(circle), /ELOOP/)
  assert.throws(() => new BackupWriter(join(circle, 'parley.backup')), /ELOOP/)
  assert.throws(() => openBackup(join(folder, 'missing')), /There is no file .*missing/)
  assert.throws(
    () => new BackupWriter(join(folder, 'missing', 'parley.backup')),
    /There is no folder .*missing/,
  )
})

test('what came with another checksum than was announced gets no name', (t) => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'parley.backup')
  const writer = new BackupWriter(file)
  writer.begin(anyHeader)
  writer.write(Uint8Array.of(1, 2, 3, 4))
  assert.throws(() => writer.finish(), /checksum is wrong/)
  writer.abandon()
  assert.deepEqual(readdirSync(folder), [])
})

test('when the replica that makes a backup is killed another one makes it anew, and there is never half a file', async (t) => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'parley.backup')
  await using cluster = await startCluster({ replicas: 3 })
  const { anna } = await fill(cluster)
  // Read by hand, so that the kill comes in the middle for certain.
  const started = await anna.call('startBackup', {}, { read: 'linearizable' })
  const piece = { backupId: started.backupId, offset: 0, maxBytes: 4096 }
  assert.equal((await anna.call('readBackup', piece)).data.length, 4096)
  const { state } = anna
  assert.equal(state.kind, 'connected')
  await cluster.end(state.kind === 'connected' ? state.replica : 0, 'SIGKILL')
  await assert.rejects(anna.call('readBackup', piece, { timeoutMs: 30_000 }), /not open on the replica/)
  anna.close()
  const left = cluster.replicas.find(({ id }) => cluster.running.has(id))
  const made = await parley({}, 'backup', file, '--data', cluster.dataOf(left?.id ?? 0))
  assert.equal(made.code, 0, made.err)
  assert.equal((await stateAtBackup(folder, file)).accounts.length, 2)
})

/** What is in the file, by restoring it once. */
async function stateAtBackup(
  folder: string,
  file: string,
): Promise<{ readonly digest: readonly string[]; readonly accounts: readonly unknown[] }> {
  const bytes = readFileSync(file)
  const start = 16 + bytes.readUInt32BE(12) + 4
  const inside = mkdtempSync(join(folder, 'inside-'))
  writeFileSync(join(inside, 'state-1.db'), bytes.subarray(start))
  return { digest: digestOf(inside), accounts: accountsOf(inside) as readonly unknown[] }
}

async function exported(client: Client, all: boolean): Promise<readonly Record<string, unknown>[]> {
  const lines: string[] = []
  let pageToken = ''
  do {
    const page = await client.call('export', { all, pageToken })
    lines.push(
      ...new TextDecoder()
        .decode(page.lines)
        .split('\n')
        .filter((line) => line !== ''),
    )
    pageToken = page.nextPageToken
  } while (pageToken !== '')
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>)
}

/** The restored cluster takes the old token, shows what was there and goes on. */
async function serves(folder: string, replicas: number, port: number, token: Uint8Array): Promise<void> {
  const ids = Array.from({ length: replicas }, (_, i) => i + 1)
  const lines: string[] = []
  const supervisor = createSupervisor({
    replicas: ids.map((id) => ({ id, folder: replicaFolder(folder, id) })),
    restart: false,
    logLevel: 'info',
    onEvent(event) {
      if (event.kind === 'line') lines.push(event.line)
    },
  })
  const client = createClient({
    addresses: ids.map((id) => `127.0.0.1:${port + id - 1}`),
    token,
    timeoutMs: 30_000,
  })
  try {
    for (const id of ids) supervisor.start(id)
    const room = { target: { $case: 'room', value: 'garden' } } as const
    const sent = await client
      .call('sendMessage', { to: room, text: 'in the new cluster' })
      .catch((error: unknown) => assert.fail(`${String(error)}\n${lines.join('\n')}`))
    assert.equal(sent.seq, 301)
  } finally {
    client.close()
    supervisor.kill()
    await until(() => supervisor.running.size === 0, 'the replicas end', 30_000)
  }
}

function flip(path: string, offset: number): void {
  const bytes = readFileSync(path)
  const descriptor = openSync(path, 'r+')
  writeSync(descriptor, Buffer.of((bytes[offset] ?? 0) ^ 0x10), 0, 1, offset)
  closeSync(descriptor)
}
