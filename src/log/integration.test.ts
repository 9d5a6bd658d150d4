import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { silentLogger } from '../base/logger.ts'
import { seededRandom } from '../base/random.ts'
import { createPeerLinks } from '../peer/links.ts'
import type { Member } from '../raft/types.ts'
import { systemClock } from '../server/clock.ts'
import { createNodeDisk } from '../storage/node-disk.ts'
import { createEngine, type Engine } from './engine.ts'
import { ListConsumer } from './testing.ts'

interface Running {
  readonly engine: Engine
  readonly consumer: ListConsumer
}

test('five engines with real files and TCP agree, lose their leader, and bring a replica back with a copy of the state', async (t) => {
  const cluster = await LocalCluster.start(t, 5)
  for (let i = 0; i < 200; i += 1)
    for (const { engine } of cluster.running) engine.propose(Buffer.from(`${i}-${'x'.repeat(500)}`))
  await cluster.untilAllHave(1000)

  const leader = cluster.leader
  assert.ok(leader !== null)
  await cluster.stop(leader)
  await until(() => cluster.leader !== null)
  const origin = cluster.running[0]
  assert.ok(origin !== undefined)
  // Enough for the log to be shortened everywhere, so that the one that is away needs a copy.
  let count = 1000
  while (cluster.running.some(({ engine }) => engine.status().firstIndex === 1)) {
    for (let i = 0; i < 50; i += 1) origin.engine.propose(Buffer.from('y'.repeat(2000)))
    count += 50
    await cluster.untilAllHave(count)
    for (const { consumer } of cluster.running) consumer.copyBytes = 3_000_000
  }
  await cluster.startReplica(leader)
  await cluster.untilAllHave(count)
  assert.equal(cluster.replica(leader).consumer.installs, 1)
  const [first, ...others] = cluster.running
  for (const { consumer } of others) assert.deepEqual(consumer.items, first?.consumer.items)
  assert.deepEqual(cluster.fatal, [])
})

class LocalCluster {
  readonly fatal: Error[] = []
  private readonly members: readonly Member[]
  private readonly folder: string
  private readonly consumers = new Map<number, ListConsumer>()
  private readonly engines = new Map<number, Running>()

  private constructor(members: readonly Member[], folder: string) {
    this.members = members
    this.folder = folder
  }

  static async start(t: TestContext, size: number): Promise<LocalCluster> {
    const folder = mkdtempSync(join(tmpdir(), 'parley-log-'))
    const ports = await freePorts(size)
    const members = ports.map((port, i) => ({ id: i + 1, voter: true, address: `127.0.0.1:${port}` }))
    const cluster = new LocalCluster(members, folder)
    t.after(async () => {
      await Promise.all([...cluster.engines.keys()].map((id) => cluster.stop(id)))
      rmSync(folder, { recursive: true, force: true })
    })
    await Promise.all(members.map(({ id }) => cluster.startReplica(id)))
    await until(() => cluster.running.every(({ engine }) => engine.status().available))
    return cluster
  }

  get running(): readonly Running[] {
    return [...this.engines.values()]
  }

  get leader(): number | null {
    const found = this.running.find(
      ({ engine }) => engine.status().role === 'leader' && engine.status().available,
    )
    return found?.engine.status().self ?? null
  }

  replica(id: number): Running {
    const running = this.engines.get(id)
    assert.ok(running !== undefined)
    return running
  }

  async startReplica(id: number): Promise<void> {
    const disk = createNodeDisk(join(this.folder, `r${id}`))
    disk.makeFolder('.')
    const consumer = this.consumers.get(id) ?? new ListConsumer()
    this.consumers.set(id, consumer)
    const transport = createPeerLinks({
      self: id,
      clusterId: new Uint8Array(16),
      incarnation: 1,
      listen: { host: '127.0.0.1', port: Number(this.members[id - 1]?.address.split(':')[1]) },
      random: seededRandom(id),
      logger: silentLogger,
      onRefused: (refusal) => this.fatal.push(new Error(refusal.reason)),
      admit: () => null,
    })
    const engine = createEngine({
      self: id,
      configuration: { faultModel: 'majority', members: this.members },
      disk,
      clock: systemClock,
      random: seededRandom(id),
      transport,
      logger: silentLogger,
      onFatal: (error) => this.fatal.push(error),
      tuning: {
        wal: { segmentBytes: 256 * 1024, cacheBytes: 256 * 1024 },
        compaction: { afterBytes: 1024 * 1024, keepBytes: 128 * 1024 },
      },
    })
    await engine.start(consumer)
    this.engines.set(id, { engine, consumer })
  }

  async stop(id: number): Promise<void> {
    const { engine } = this.replica(id)
    this.engines.delete(id)
    await engine.stop()
  }

  async untilAllHave(count: number): Promise<void> {
    await until(
      () => this.running.every(({ consumer }) => consumer.items.length >= count) || this.fatal.length > 0,
    )
    assert.deepEqual(this.fatal, [])
  }
}

/** The test runner's time limit ends a wait that is in vain. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2))
}

async function freePorts(count: number): Promise<readonly number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      return server
    }),
  )
  const ports = servers.map((server) => {
    const address = server.address()
    return address !== null && typeof address === 'object' ? address.port : 0
  })
  for (const server of servers) server.close()
  return ports
}
