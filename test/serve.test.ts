import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { replicaFolder } from '../src/server/cluster-file.ts'
import { createCluster, planCluster } from '../src/server/create-cluster.ts'
import type { Identity } from '../src/server/folders.ts'
import type { ServerIo } from '../src/server/io.ts'
import { OptionError, readOptions, serveOptions } from '../src/server/options.ts'
import { runServe } from '../src/server/serve.ts'
import { freePorts } from './support/ports.ts'

/** The stopped replica of a local cluster of one. */
async function setUp(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'parley-serve-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const port = await freePorts(4)
  const plan = { replicas: 1, host: '127.0.0.1', httpPort: port, grpcPort: port + 1, peerPort: port + 2 }
  createCluster(folder, planCluster(plan))
  const data = replicaFolder(folder, 1)
  const path = join(data, 'replica.json')
  const errors: string[] = []
  let stop = (): void => undefined
  const io: ServerIo = {
    out: () => undefined,
    err: (line) => errors.push(line),
    environment: {},
    onStop(listener) {
      stop = () => listener('SIGTERM')
      return () => undefined
    },
    supervisor: null,
  }
  /** It is stopped as soon as it listens. */
  const serve = (flags: Readonly<Record<string, unknown>> = {}): Promise<number> => {
    const given = { data, log: 'file', passwordMemoryKib: 64, ...flags }
    return runServe(readOptions(serveOptions, { flags: given, environment: {}, file: {} }), io, () =>
      setImmediate(() => stop()),
    )
  }
  const kept = (): Identity => JSON.parse(readFileSync(path, 'utf8')) as Identity
  const keep = (identity: Identity): void => writeFileSync(path, JSON.stringify(identity))
  return { data, port, errors, serve, kept, keep }
}

test('an address that is none is refused with its flag before anything is opened', async (t) => {
  const { serve, kept } = await setUp(t)
  const before = kept()
  for (const [flag, address] of [
    ['http', '8641'],
    ['grpc', 'example:99999'],
    ['peer', '127.0.0.1:'],
  ] as const)
    assert.throws(
      () => serve({ [flag]: address }),
      (error) =>
        error instanceof OptionError &&
        error.message === `--${flag} must be host:port, such as 127.0.0.1:7400, not "${address}"`,
    )
  assert.deepEqual(kept(), before)
})

test('a start that is refused leaves the replica where it was, and names the flag that is wrong', async (t) => {
  const { serve, kept, errors, port } = await setUp(t)
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  t.after(() => other.close())
  const taken = `127.0.0.1:${(other.address() as AddressInfo).port}`
  const free = port + 3
  for (const [flags, words] of [
    [{ peer: taken }, `--peer ${taken}: another program uses that port. Stop it, or choose another port.`],
    [
      { http: 'no.such.invalid:7400' },
      /^--http no\.such\.invalid:7400: the name leads to no address \(.*\)\.$/,
    ],
    [{ grpc: `192.0.2.7:${free}` }, /^--grpc 192\.0\.2\.7:.* is not an address of this machine.*--listen/],
    [
      { http: `127.0.0.1:${port + 1}` },
      `--http 127.0.0.1:${port + 1}: that is where its --grpc is too. Choose another port.`,
    ],
    [{ listen: '192.0.2.7' }, /^--listen 192\.0\.2\.7: nothing can listen there \(EADDRNOTAVAIL\)/],
    [{ listen: '127.0.0.1:7400' }, /^--listen 127\.0\.0\.1:7400: .* without a port/],
    [{ http: `0.0.0.0:${free}` }, /^r1 would speak plain text at 0\.0\.0\.0:/],
  ] as const) {
    assert.equal(await serve(flags), 1)
    if (typeof words === 'string') assert.equal(errors.at(-1), words)
    else assert.match(errors.at(-1) ?? '', words)
    assert.equal(kept().own, undefined)
  }
  assert.equal(await serve(), 0, errors.join('\n'))
})

test('a new address is kept only when the replica listens at all three', async (t) => {
  const { serve, kept, errors, port } = await setUp(t)
  const other = createServer().listen(port + 2, '127.0.0.1')
  await once(other, 'listening')
  assert.equal(await serve({ http: `127.0.0.1:${port + 3}` }), 1)
  assert.match(errors.at(-1) ?? '', new RegExp(`Port ${port + 2} is in use`))
  assert.equal(kept().own, undefined)
  other.close()
  await once(other, 'close')
  assert.equal(await serve(), 0, errors.join('\n'))
})

test('a replica that starts at another address is found there from then on', async (t) => {
  const { serve, kept, port } = await setUp(t)
  const http = `127.0.0.1:${port + 3}`
  assert.equal(await serve({ http }), 0)
  assert.equal(kept().own?.http, http)
  assert.equal(await serve(), 0)
  assert.equal(kept().own?.http, http)
})

test('an address that makes no sense in its folder is told as such, with the flag that puts it right', async (t) => {
  const { serve, kept, keep, errors, data, port } = await setUp(t)
  const [before] = kept().replicas
  assert.ok(before !== undefined)
  keep({ ...kept(), own: { ...before, http: '8641' } })
  assert.equal(await serve(), 1)
  assert.equal(
    errors.at(-1),
    `${join(data, 'replica.json')} says that r1 is found at "8641", which is not host:port: say where with --http.`,
  )
  assert.equal(await serve({ http: `127.0.0.1:${port}` }), 0)
})
