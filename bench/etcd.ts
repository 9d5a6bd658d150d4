import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, mkdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { credentials, makeClientConstructor, type ServiceClientConstructor } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { drive, wait, type LoadResult } from '../src/cli/load.ts'

export interface EtcdPlan {
  readonly members: number
  readonly folder: string
  readonly outstanding: readonly number[]
  readonly warmUpMs: number
  readonly measureMs: number
  readonly valueBytes: number
  readonly say: (text: string) => void
}

/** The version of etcd that is installed; null when none is. */
export function etcdVersion(): string | null {
  const { status, stdout } = spawnSync('etcd', ['--version'], { encoding: 'utf8' })
  return status === 0 ? (/etcd Version: (\S+)/.exec(stdout)?.[1] ?? 'unknown') : null
}

/** Runs the same load as Parley's: puts of values of the same size under fresh keys, each flushed to a majority of the members. */
export async function benchEtcd(plan: EtcdPlan): Promise<readonly LoadResult[]> {
  const { members, folder, outstanding, warmUpMs, measureMs, valueBytes, say } = plan
  mkdirSync(folder, { recursive: true })
  const ports = await freePorts(members * 2)
  const names = Array.from({ length: members }, (_, i) => `m${i + 1}`)
  const peerUrl = (i: number) => `http://127.0.0.1:${ports[members + i]}`
  const clientUrl = (i: number) => `http://127.0.0.1:${ports[i]}`
  const processes: ChildProcess[] = []
  const results: LoadResult[] = []
  try {
    for (const [i, name] of names.entries()) {
      const child = spawn(
        'etcd',
        [
          '--name',
          name,
          '--data-dir',
          join(folder, name),
          '--listen-peer-urls',
          peerUrl(i),
          '--initial-advertise-peer-urls',
          peerUrl(i),
          '--listen-client-urls',
          clientUrl(i),
          '--advertise-client-urls',
          clientUrl(i),
          '--initial-cluster',
          names.map((other, j) => `${other}=${peerUrl(j)}`).join(','),
          '--initial-cluster-state',
          'new',
          '--initial-cluster-token',
          'parley-bench',
        ],
        { stdio: ['ignore', 'ignore', 'pipe'] },
      )
      child.stderr?.pipe(createWriteStream(join(folder, `${name}.log`)))
      processes.push(child)
    }
    const clients = names.map((_, i) => new KvClient(`127.0.0.1:${ports[i]}`, credentials.createInsecure()))
    const value = Buffer.alloc(valueBytes, 'x')
    let keys = 0
    const put = (slot: number, done: (good: boolean) => void): void => {
      keys += 1
      const client = clients[slot % clients.length]
      client?.['Put']?.({ key: Buffer.from(`key-${keys}`), value }, (error: unknown) => done(error === null))
    }
    await untilGood((done) => put(0, done))
    for (const count of outstanding) {
      say(`etcd, ${count} outstanding`)
      results.push(await drive({ outstanding: count, warmUpMs, measureMs, send: put }))
    }
    for (const client of clients) client.close()
  } finally {
    for (const child of processes) child.kill('SIGKILL')
    await Promise.all(processes.map((child) => (child.exitCode === null ? once(child, 'exit') : null)))
  }
  return results
}

const KvClient = kvClient()

function kvClient(): ServiceClientConstructor {
  const definition = loadSync(join(import.meta.dirname, 'etcd.proto'))['etcdserverpb.KV']
  if (definition === undefined || 'format' in definition) throw new Error('etcd.proto has lost its service')
  return makeClientConstructor(definition, 'KV')
}

async function untilGood(attempt: (done: (good: boolean) => void) => void): Promise<void> {
  const endMs = performance.now() + 30_000
  while (!(await new Promise<boolean>((resolve) => attempt(resolve)))) {
    if (performance.now() > endMs) throw new Error('etcd did not begin to serve within 30 s')
    await wait(200)
  }
}

/** Ports that were free a moment ago. */
async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => {
    const address = server.address()
    return address !== null && typeof address === 'object' ? address.port : 0
  })
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return ports
}
