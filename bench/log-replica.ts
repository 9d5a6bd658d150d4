/* One replica of the log's benchmark, in a process of its own; `log.ts` tells it what to do. */
import { silentLogger } from '../src/base/logger.ts'
import { seededRandom } from '../src/base/random.ts'
import { createEngine } from '../src/log/engine.ts'
import type { CommittedEntry, LogConsumer } from '../src/log/port.ts'
import { createPeerLinks } from '../src/peer/links.ts'
import { systemClock } from '../src/server/clock.ts'
import { createNodeDisk } from '../src/storage/node-disk.ts'

export interface Run {
  readonly outstanding: number
  readonly bytes: number
  readonly seconds: number
}

export interface Result {
  readonly messages: number
  readonly entries: number
  readonly latenciesUs: readonly number[]
  /** The longest time in which nothing came back. */
  readonly longestGapMs: number
}

export interface Usage {
  readonly cpuUs: number
  readonly applied: number
}

export type Order =
  | { readonly kind: 'status' }
  | { readonly kind: 'usage' }
  | { readonly kind: 'run'; readonly run: Run }
  | { readonly kind: 'stop' }

export interface ReplicaOptions {
  readonly self: number
  readonly ports: readonly number[]
  readonly folder: string
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

const headBytes = 9

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
    lastMs: number
    longestGapMs: number
  } | null = null
  /** Entries that have not come back, by number, in order. */
  private readonly underWay = new Map<
    number,
    { readonly sentMs: number; readonly messages: number; readonly entry: Uint8Array }
  >()
  private lastNumber = 0
  private waiting = 0
  private scheduled = false

  constructor(self: number, propose: (entry: Uint8Array) => void) {
    this.self = self
    this.propose = propose
  }

  run(run: Run, done: (result: Result) => void): void {
    const nowMs = performance.now()
    const endMs = nowMs + run.seconds * 1000
    this.state = {
      run,
      endMs,
      done,
      messages: 0,
      entries: 0,
      latenciesUs: [],
      lastMs: nowMs,
      longestGapMs: 0,
    }
    this.send(run.outstanding)
  }

  apply(entries: readonly CommittedEntry[], engineState: Uint8Array): 'applied' {
    for (const { index, data } of entries) {
      this.appliedIndex = index
      if (data !== null && data[0] === this.self) this.returned(data)
    }
    this.engineState = engineState
    return 'applied'
  }

  interrupted(): void {
    for (const { entry } of this.underWay.values()) this.propose(entry)
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
      const entry = Buffer.alloc(headBytes + this.waiting * state.run.bytes)
      this.lastNumber += 1
      entry[0] = this.self
      entry.writeDoubleBE(this.lastNumber, 1)
      this.underWay.set(this.lastNumber, { sentMs: performance.now(), messages: this.waiting, entry })
      this.waiting = 0
      this.propose(entry)
    })
  }

  private returned(data: Uint8Array): void {
    const number = new DataView(data.buffer, data.byteOffset).getFloat64(1)
    const entry = this.underWay.get(number)
    const { state } = this
    if (entry === undefined || state === null) return
    this.underWay.delete(number)
    const nowMs = performance.now()
    state.messages += entry.messages
    state.entries += 1
    state.latenciesUs.push(Math.round((nowMs - entry.sentMs) * 1000))
    state.longestGapMs = Math.max(state.longestGapMs, nowMs - state.lastMs)
    state.lastMs = nowMs
    if (nowMs < state.endMs) {
      this.send(entry.messages)
      return
    }
    if (this.underWay.size > 0 || this.waiting > 0) return
    this.state = null
    const { done, messages, entries, latenciesUs, longestGapMs } = state
    done({ messages, entries, latenciesUs, longestGapMs })
  }
}

await replica(JSON.parse(process.argv[2] ?? '') as ReplicaOptions)
