import assert from 'node:assert/strict'
import { once } from 'node:events'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { replicaFolder } from './cluster-file.ts'
import { createCluster, lostReplicas, planCluster } from './create-cluster.ts'
import { claimFolder } from './folders.ts'
import type { ServerIo } from './io.ts'
import { readOptions, serveOptions, upOptions } from './options.ts'
import { runServe } from './serve.ts'
import { moreMayFail, runUp, serverFlag } from './up.ts'

const plan = { replicas: 3, host: '127.0.0.1', httpPort: 20_001, grpcPort: 20_011, peerPort: 20_021 }

function setUp(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'parley-up-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const errors: string[] = []
  const io: ServerIo = {
    out: () => undefined,
    err: (line) => errors.push(line),
    environment: {},
    onStop: () => () => undefined,
    supervisor: null,
  }
  const up = (flags: Readonly<Record<string, unknown>> = {}) =>
    runUp(readOptions(upOptions, { flags: { data: folder, ...flags }, environment: {}, file: {} }), io)
  const serve = (data: string) =>
    runServe(readOptions(serveOptions, { flags: { data }, environment: {}, file: {} }), io)
  return { folder, errors, up, serve }
}

test('a port in use is named, with the option that changes it, before anything is made', async (t) => {
  const { errors, up } = setUp(t)
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  const { port } = other.address() as AddressInfo
  assert.equal(await up({ grpcPort: port, httpPort: 20_101, peerPort: 20_201 }), 1)
  other.close()
  assert.deepEqual(errors, [
    `Port ${port} on 127.0.0.1 is in use by another program: stop it, or choose other ports with --grpc-port.`,
  ])
})

test('a folder that cannot be made or written to is told with the reason', async (t) => {
  const { folder, errors, up, serve } = setUp(t)
  const file = join(folder, 'file')
  writeFileSync(file, '')
  const tries = [
    [file, `${file} is a file, not a folder.`],
    [join(file, 'data'), `The folder ${join(file, 'data')} cannot be made: a part of its path is a file.`],
    ['/proc/parley/data', 'The folder /proc/parley/data cannot be made: no folders can be made there.'],
    [
      join(folder, 'x'.repeat(300)),
      `The folder ${join(folder, 'x'.repeat(300))} cannot be made: its name is too long.`,
    ],
  ] as const
  for (const [data, words] of tries) {
    assert.equal(await up({ data }), 1)
    assert.equal(errors.at(-1), `${words} Choose another one with --data.`)
  }
  createCluster(folder, planCluster(plan))
  const first = replicaFolder(folder, 1)
  assert.equal(await up({ data: first }), 1)
  assert.equal(
    errors.at(-1),
    `${first} is the data folder of r1 alone. Run it with: parley serve --data ${first}`,
  )
  // Root may write everywhere.
  if (process.getuid?.() === 0) return
  chmodSync(first, 0o500)
  assert.equal(await serve(first), 1)
  chmodSync(first, 0o700)
  assert.equal(errors.at(-1), `Nothing can be written to the folder ${first}: this user may not.`)
})

test('a command that is told names the folder as one word, and all replicas where they are not at the usual ports', async (t) => {
  const { folder, errors, up } = setUp(t)
  const data = join(folder, 'two words')
  mkdirSync(data)
  createCluster(data, planCluster(plan))
  const first = replicaFolder(data, 1)
  assert.equal(await up({ data: first }), 1)
  assert.ok(errors[0]?.endsWith(`parley serve --data '${first}'`), String(errors))
  const { replicas } = planCluster(plan)
  assert.equal(serverFlag(replicas), ' -s 127.0.0.1:20001,127.0.0.1:20002,127.0.0.1:20003')
  assert.equal(serverFlag(planCluster({ ...plan, httpPort: 7400 }).replicas), '')
})

test('a second "parley up" over the same folder is told of the first', async (t) => {
  const { folder, errors, up } = setUp(t)
  const claim = claimFolder(folder, () => '')
  assert.equal(await up(), 1)
  claim.release()
  assert.equal(errors.length, 1)
  assert.match(errors[0] ?? '', new RegExp(`another "parley up" already \\(process ${process.pid}\\)`))
})

test('a replica whose folder was emptied does not come back as if nothing had been promised', async (t) => {
  const { folder, serve, errors } = setUp(t)
  const cluster = createCluster(folder, planCluster(plan))
  const second = replicaFolder(folder, 2)
  rmSync(second, { recursive: true })
  assert.deepEqual(lostReplicas(folder, cluster), [2])
  mkdirSync(second)
  assert.deepEqual(lostReplicas(folder, cluster), [2])
  assert.equal(await serve(second), 1)
  assert.match(errors[0] ?? '', /r2 is not the data folder of a replica.*parley replica replace.*parley join/)
  assert.equal(await serve(folder), 1)
  assert.match(errors[1] ?? '', new RegExp(`: parley up --data ${folder}$`))
})

test('a cluster of which no folder is left is not made anew', async (t) => {
  const { folder, errors, up } = setUp(t)
  const cluster = createCluster(folder, planCluster(plan))
  for (const { id } of cluster.replicas) rmSync(replicaFolder(folder, id), { recursive: true })
  assert.equal(await up(), 1)
  assert.match(errors[0] ?? '', /r1, .*r2, .*r3 are empty, .* Put a folder back/)
})

test('a folder of another cluster is recognised', async (t) => {
  const { folder, errors, up } = setUp(t)
  const cluster = createCluster(folder, planCluster(plan))
  const other = { ...cluster, clusterId: 'f'.repeat(32) }
  writeFileSync(join(folder, 'cluster.json'), JSON.stringify(other))
  assert.equal(await up(), 1)
  assert.match(errors[0] ?? '', new RegExp(`belongs to replica 1 of cluster ${cluster.clusterId}`))
})

test('a folder that is in use is named with the process that uses it', async (t) => {
  const { folder, errors, serve } = setUp(t)
  createCluster(folder, planCluster(plan))
  const first = replicaFolder(folder, 1)
  const claim = claimFolder(first, () => '')
  assert.equal(await serve(first), 1)
  claim.release()
  assert.match(errors[0] ?? '', new RegExp(`is in use by process ${process.pid}`))
})

test('damaged files of a folder are named', async (t) => {
  const { folder, errors, up, serve } = setUp(t)
  createCluster(folder, planCluster(plan))
  const first = replicaFolder(folder, 1)
  writeFileSync(join(first, 'replica.json'), '{"version":1')
  assert.equal(await serve(first), 1)
  writeFileSync(join(folder, 'cluster.json'), 'x')
  assert.equal(await up(), 1)
  assert.match(errors[0] ?? '', /r1\/replica\.json is damaged/)
  assert.match(errors[1] ?? '', /cluster\.json is damaged/)
})

test('making a cluster goes on where it was interrupted', (t) => {
  const { folder } = setUp(t)
  const cluster = planCluster(plan)
  createCluster(folder, { ...cluster, replicas: cluster.replicas.slice(0, 1) })
  const made = createCluster(folder, cluster)
  assert.deepEqual(made, { ...cluster, complete: true })
})

test('never fewer than no replicas may fail, also when the others were started by hand', () => {
  assert.deepEqual(
    [5, 4, 3, 2].map((running) => moreMayFail(running, 5)),
    [2, 1, 0, 0],
  )
})
