/*
 * Measures the replicated log alone: real processes, disks and links, and a state that only counts. Each message is durable on a majority and applied by the replica that
 * took it in before it counts. As in a replica, all messages of one turn of the event loop make one entry.
 *
 *   node bench/log.ts [--replicas 5] [--bytes 256] [--seconds 3] [--outstanding 1,16,128,512] [--at follower|leader|all]
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { silentLogger } from '../src/base/logger.ts'
import { seededRandom } from '../src/base/random.ts'
import { createEngine } from '../src/log/engine.ts'
import type { CommittedEntry, LogConsumer } from '../src/log/port.ts'
import { createPeerLinks } from '../src/peer/links.ts'
import { systemClock } from '../src/server/clock.ts'
import { createNodeDisk } from '../src/storage/node_disk.ts'

interface Run {
  readonly outstanding: number
  readonly bytes: number
  readonly seconds: number
}

interface Result {
  readonly messages: number
  readonly entries: number
  readonly latenciesUs: readonly number[]
}

interface Usage {
  readonly cpuUs: number
  readonly applied: number
}

type Order =
  | { readonly kind: 'status' }
  | { readonly kind: 'usage' }
  | { readonly kind: 'run'; readonly run: Run }
  | { readonly kind: 'stop' }

interface ReplicaOptions {
  readonly self: number
  readonly ports: readonly number[]
  readonly folder: string
}

async function measure(): Promise<void> {
  const { values } = parseArgs({
    options: {
      replicas: { type: 'string', default: '5' },
      bytes: { type: 'string', default: '256' },
      seconds: { type: 'string', default: '3' },
      outstanding: { type: 'string', default: '1,16,128,512' },
      at: { type: 'string', default: 'follower' },
    },
  })
  const folder = mkdtempSync(join(tmpdir(), 'parley-bench-'))
  const ports = await freePorts(Number(values.replicas))
  const replicas = ports.map((_, i) => {
    const options: ReplicaOptions = { self: i + 1, ports, folder: join(folder, `r${i + 1}`) }
    return fork(import.meta.filename, ['--replica', JSON.stringify(options)])
  })
  try {
    await Promise.all(replicas.map((child) => once(child, 'message')))
    let leader = 0
    while (leader === 0) leader = await ask<number>(replicas[0], { kind: 'status' })
    const taking = replicas.filter((_, i) => {
      if (values.at === 'all') return true
      return values.at === 'leader' ? i + 1 === leader : i + 1 === (leader % replicas.length) + 1
    })
    const idleMs = 2000
    const idleBefore = await usage(replicas)
    await new Promise((resolve) => setTimeout(resolve, idleMs))
    const idlePercent = ((await usage(replicas)) - idleBefore) / replicas.length / idleMs / 10
    process.stdout.write(
      `idle: ${idlePercent.toFixed(1)} % of a core for each replica\n` +
        `${replicas.length} replicas, ${values.bytes}-byte messages, taken in at ${values.at}; CPU of all replicas together\n` +
        'outstanding  messages/s  entries/s  p50 ms  p99 ms  max ms  CPU us/message  cores\n',
    )
    for (const outstanding of values.outstanding.split(',').map(Number)) {
      const run: Run = {
        outstanding: Math.ceil(outstanding / taking.length),
        bytes: Number(values.bytes),
        seconds: Number(values.seconds),
      }
      await Promise.all(
        taking.map((child) => ask<Result>(child, { kind: 'run', run: { ...run, seconds: 0.5 } })),
      )
      const before = await usage(replicas)
      const results = await Promise.all(taking.map((child) => ask<Result>(child, { kind: 'run', run })))
      const after = await usage(replicas)
      const messages = sum(results.map((result) => result.messages))
      const entries = sum(results.map((result) => result.entries))
      const latencies = results.flatMap((result) => result.latenciesUs).sort((a, b) => a - b)
      const ms = (part: number): string =>
        (
          (latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * part))] ?? 0) / 1000
        ).toFixed(2)
      const cells = [
        String(outstanding).padStart(11),
        (messages / run.seconds).toFixed(0).padStart(10),
        (entries / run.seconds).toFixed(0).padStart(9),
        ms(0.5).padStart(6),
        ms(0.99).padStart(6),
        ms(1).padStart(6),
        ((after - before) / messages).toFixed(1).padStart(14),
        ((after - before) / run.seconds / 1e6).toFixed(2).padStart(5),
      ]
      process.stdout.write(`${cells.join('  ')}\n`)
    }
  } finally {
    for (const child of replicas) if (child.connected) child.send({ kind: 'stop' } satisfies Order)
    const patience = setTimeout(() => {
      for (const child of replicas) child.kill('SIGKILL')
    }, 5000)
    await Promise.all(replicas.map((child) => child.exitCode ?? once(child, 'exit')))
    clearTimeout(patience)
    rmSync(folder, { recursive: true, force: true })
  }
}

async function usage(replicas: readonly ChildProcess[]): Promise<number> {
  const usages = await Promise.all(replicas.map((child) => ask<Usage>(child, { kind: 'usage' })))
  return sum(usages.map(({ cpuUs }) => cpuUs))
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}

async function ask<Answer>(child: ChildProcess | undefined, order: Order): Promise<Answer> {
  if (child === undefined) throw new Error('no such replica')
  child.send(order)
  const [answer] = (await once(child, 'message')) as [Answer]
  return answer
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

async function replica({ self, ports, folder }: ReplicaOptions): Promise<void> {
  const members = ports.map((port, i) => ({ id: i + 1, voter: true, address: `127.0.0.1:${port}` }))
  const disk = createNodeDisk(folder)
  disk.makeFolder('.')
  const transport = createPeerLinks({
    self,
    clusterId: new Uint8Array(16),
    incarnation: 1,
    listen: { host: '127.0.0.1', port: ports[self - 1] ?? 0 },
    random: seededRandom(self),
    logger: silentLogger,
    onRefused: (refusal) => process.stderr.write(`${refusal.reason}\n`),
    admit: () => null,
  })
  const engine = createEngine({
    self,
    configuration: { faultModel: 'majority', members },
    disk,
    clock: systemClock,
    random: seededRandom(process.pid),
    transport,
    logger: silentLogger,
    onFatal: (error) => {
      process.stderr.write(`r${self}: ${String(error.stack)}\n`)
      process.exit(1)
    },
  })
  const load = new Load(self, (entry) => engine.propose(entry))
  await engine.start(load)
  process.on('message', (order: Order) => {
    switch (order.kind) {
      case 'status':
        process.send?.(engine.status().available ? engine.status().leader : 0)
        return
      case 'usage': {
        const { user, system } = process.cpuUsage()
        process.send?.({ cpuUs: user + system, applied: load.appliedIndex } satisfies Usage)
        return
      }
      case 'run':
        load.run(order.run, (result) => process.send?.(result))
        return
      case 'stop':
        void engine.stop().then(() => process.exit(0))
    }
  })
  process.send?.('ready')
}

/** Proposes messages, a number of them outstanding at any time, and counts what comes back. */
class Load implements LogConsumer {
  appliedIndex = 0
  engineState: Uint8Array = new Uint8Array(0)
  private readonly self: number
  private readonly propose: (entry: Uint8Array) => void
  private state: {
    readonly run: Run
    readonly endMs: number
    readonly done: (result: Result) => void
    messages: number
    entries: number
    readonly latenciesUs: number[]
  } | null = null
  /** When each entry that is under way left, and how many messages are in it. */
  private underWay: { readonly sentMs: number; readonly messages: number }[] = []
  private waiting = 0
  private scheduled = false

  constructor(self: number, propose: (entry: Uint8Array) => void) {
    this.self = self
    this.propose = propose
  }

  run(run: Run, done: (result: Result) => void): void {
    const endMs = performance.now() + run.seconds * 1000
    this.state = { run, endMs, done, messages: 0, entries: 0, latenciesUs: [] }
    this.send(run.outstanding)
  }

  apply(entries: readonly CommittedEntry[], engineState: Uint8Array): 'applied' {
    for (const { index, data } of entries) {
      this.appliedIndex = index
      if (data !== null && data[0] === this.self) this.returned()
    }
    this.engineState = engineState
    return 'applied'
  }

  interrupted(): void {
    process.stderr.write(`r${this.self} was interrupted: the figures are not to be trusted\n`)
  }

  statusChanged(): void {}

  checkpoint(done: (durableIndex: number) => void): void {
    done(this.appliedIndex)
  }

  takeSnapshot(): Promise<never> {
    return Promise.reject(new Error('there is no snapshot of a count'))
  }

  receiveSnapshot(): Promise<never> {
    return Promise.reject(new Error('there is no snapshot of a count'))
  }

  private send(messages: number): void {
    this.waiting += messages
    if (this.scheduled) return
    this.scheduled = true
    setImmediate(() => {
      this.scheduled = false
      const { state } = this
      if (state === null) return
      const entry = Buffer.allocUnsafe(1 + this.waiting * state.run.bytes)
      entry[0] = this.self
      this.underWay.push({ sentMs: performance.now(), messages: this.waiting })
      this.waiting = 0
      this.propose(entry)
    })
  }

  private returned(): void {
    const entry = this.underWay.shift()
    const { state } = this
    if (entry === undefined || state === null) return
    const nowMs = performance.now()
    state.messages += entry.messages
    state.entries += 1
    state.latenciesUs.push(Math.round((nowMs - entry.sentMs) * 1000))
    if (nowMs < state.endMs) {
      this.send(entry.messages)
      return
    }
    if (this.underWay.length > 0 || this.waiting > 0) return
    this.state = null
    const { done, messages, entries, latenciesUs } = state
    done({ messages, entries, latenciesUs })
  }
}

if (process.argv[2] === '--replica') await replica(JSON.parse(process.argv[3] ?? '') as ReplicaOptions)
else await measure()
