import { randomBytes } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import { WebSocket } from 'ws'
import type { Clock } from '../base/clock.ts'
import { makeUuidV7 } from '../base/ids.ts'
import { newestVersion } from '../base/version.ts'
import { silentLogger } from '../base/logger.ts'
import { openChat } from '../chat/machine.ts'
import { ClientFrame, ServerFrame, type Request, type ServerState } from '../gen/parley/v1/frames.ts'
import type { Error as ApiError } from '../gen/parley/v1/model.ts'
import type { Event } from '../gen/parley/v1/service.ts'
import type { Passwords } from '../replica/passwords.ts'
import { createReplica, type ReplicaOptions, type RunningReplica } from '../replica/replica.ts'
import type { Op, Result } from './calls.ts'
import type { JoinDesk } from './service.ts'
import { startApi, type Api, type ApiOptions } from './start.ts'

export const host = '127.0.0.1'

export interface TestApi {
  readonly api: Api
  readonly replica: RunningReplica
  readonly clock: TestClock
  /** Takes the quorum away, or gives it back. */
  setQuorum(available: boolean): void
  /** Resolves when the replica has noticed that the quorum is back. */
  ready(): Promise<void>
  /** While held, nothing is committed. */
  hold(isHeld: boolean): void
  /** What was logged as an error. */
  readonly errors: readonly string[]
  close(): Promise<void>
}

/** The ways in, over a replica whose log is a list in memory: everything is real but the consensus and the disk. */
export async function startTestApi(
  options: Partial<ApiOptions> = {},
  join: (replica: RunningReplica) => JoinDesk | null = () => null,
): Promise<TestApi> {
  const clock = new TestClock()
  const errors: string[] = []
  const db = new DatabaseSync(':memory:')
  const log = new ListLog()
  let appliedIndex = 0
  const replica = createReplica({
    self: 1,
    incarnation: 1,
    clusterId: new Uint8Array(16).fill(7),
    clock,
    logger: silentLogger,
    log,
    store: {
      db,
      get appliedIndex() {
        return appliedIndex
      },
      engineState: new Uint8Array(0),
      sizeBytes: 0,
      freeBytes: 0,
      hasRoom: true,
      begin: () => db.exec('BEGIN'),
      commit(index) {
        db.exec('COMMIT')
        appliedIndex = index
      },
      rollback: () => db.exec('ROLLBACK'),
      checkpoint: (done) => done(appliedIndex),
      takeSnapshot: () => Promise.reject(new Error('no snapshots here')),
      receiveSnapshot: () => Promise.reject(new Error('no snapshots here')),
    },
    openChat,
    search: null,
    vitals: () => ({ pid: 1, version: 'test', residentBytes: 0, cpuUs: 0, searchBytes: 0, problem: '' }),
    onFatal: (error) => errors.push(String(error)),
    graceMs: 0,
  })
  await replica.start()
  const ready = (): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (replica.state.hindered) return
        stop()
        resolve()
      }
      const stop = replica.onStateChange(look)
      look()
    })
  await ready()
  const api = await startApi(replica, {
    http: { host, port: 0 },
    grpc: { host, port: 0 },
    passwords: plainPasswords,
    clock,
    logger: { ...silentLogger, error: (fields) => errors.push(JSON.stringify(fields)) },
    version: 'test',
    webRoot: '/nonexistent',
    join: join(replica),
    ...options,
  })
  return {
    api,
    replica,
    clock,
    errors,
    setQuorum: (available) => log.setAvailable(available),
    ready,
    hold: (isHeld) => log.hold(isHeld),
    async close() {
      await api.close(0)
      replica.close()
      db.close()
    },
  }
}

/** Passwords that are quick to check; counts how often that was done. */
export const plainPasswords: Passwords & { verified: number } = {
  verified: 0,
  hash: (password) => Promise.resolve(`plain:${password}`),
  verify(password, phc) {
    plainPasswords.verified += 1
    return Promise.resolve(phc === `plain:${password}`)
  },
  close: () => undefined,
}

/** The machine's clock, which can be turned forward. */
export class TestClock implements Clock {
  private aheadMs = 0
  private readonly timers = new Set<{ readonly atMs: number; readonly callback: () => void }>()

  monotonicMs(): number {
    return performance.now() + this.aheadMs
  }

  wallMs(): number {
    return Date.now() + this.aheadMs
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { atMs: this.monotonicMs() + delayMs, callback }
    this.timers.add(timer)
    const handle = setTimeout(() => this.fire(timer), delayMs).unref()
    return () => {
      clearTimeout(handle)
      this.timers.delete(timer)
    }
  }

  soon(callback: () => void): void {
    setImmediate(callback)
  }

  /** Timers that are due by then fire now, in order. */
  advance(ms: number): void {
    this.aheadMs += ms
    const nowMs = this.monotonicMs()
    const due = [...this.timers].filter((timer) => timer.atMs <= nowMs)
    for (const timer of due.sort((a, b) => a.atMs - b.atMs)) this.fire(timer)
  }

  private fire(timer: { readonly atMs: number; readonly callback: () => void }): void {
    if (this.timers.delete(timer)) timer.callback()
  }
}

type Log = ReplicaOptions['log']

class ListLog implements Log {
  private consumer: Parameters<Log['start']>[0] | null = null
  private index = 0
  private available = true
  private isHeld = false
  private queue: Uint8Array[] = []

  async start(consumer: Parameters<Log['start']>[0]): Promise<void> {
    this.consumer = consumer
  }

  propose(data: Uint8Array): void {
    this.queue.push(data)
    this.commitSoon()
  }

  readBarrier(_timeoutMs: number, done: (index: number | null) => void): void {
    setImmediate(() => done(this.available ? this.index : null))
  }

  status(): ReturnType<Log['status']> {
    return {
      available: this.available,
      full: false,
      leader: this.available ? 1 : 0,
      self: 1,
      faultModel: 'majority',
      role: 'leader',
      term: 1,
      commitIndex: this.index,
      firstIndex: 1,
      lastIndex: this.index,
      logBytes: 0,
      voters: 1,
      mayFail: 0,
      waitingFor: [],
      commonVersion: newestVersion,
      members: [],
    }
  }

  /** Every change succeeds, but of r9, which would cost the quorum. */
  change({ id }: Parameters<Log['change']>[0]): ReturnType<Log['change']> {
    return Promise.resolve(id === 9 ? { ok: false, refused: 'quorumAtRisk' } : { ok: true, id: id || 7 })
  }

  isRemoved(): boolean {
    return false
  }

  otherClocksMs(): readonly number[] {
    return []
  }

  async stop(): Promise<void> {
    this.available = false
  }

  setAvailable(available: boolean): void {
    this.available = available
    this.consumer?.statusChanged()
    this.commitSoon()
  }

  hold(isHeld: boolean): void {
    this.isHeld = isHeld
    this.commitSoon()
  }

  private commitSoon(): void {
    if (this.isHeld || !this.available || this.queue.length === 0) return
    setImmediate(() => {
      const entries = this.queue.map((data) => ({ index: (this.index += 1), data }))
      this.queue = []
      if (entries.length > 0) this.consumer?.apply(entries, new Uint8Array(0))
    })
  }
}

type Case = Op['$case']
type Requests = { readonly [R in Op as R['$case']]: R['value'] }
type Responses = { readonly [R in Result as R['$case']]: R['value'] }

/** A client that says exactly what it is told to. */
export class TestClient {
  readonly socket: WebSocket
  readonly events: Event[] = []
  /** How the connection ended. */
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>
  state: ServerState | null = null
  frames = 0
  private nextNumber = 1
  private readonly open = new Map<number, (result: Result) => void>()
  private watchers: (() => void)[] = []

  constructor(port: number, headers: Readonly<Record<string, string>> = {}) {
    this.socket = new WebSocket(`ws://${host}:${port}/ws`, { headers, perMessageDeflate: false })
    this.socket.on('error', () => undefined)
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }))
    })
    this.socket.on('message', (data: Buffer) => {
      this.frames += 1
      const frame = ServerFrame.decode(data)
      this.state = frame.state ?? this.state
      this.events.push(...frame.events)
      for (const { number, result } of frame.responses) {
        if (result !== undefined) this.open.get(number)?.(result)
        this.open.delete(number)
      }
      const watchers = this.watchers
      this.watchers = []
      for (const watcher of watchers) watcher()
    })
  }

  /** Resolves when the connection is open and the first frame is here. */
  async ready(): Promise<this> {
    await this.until(() => this.state !== null)
    return this
  }

  /** Resolves when `condition` holds after some frame. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.watchers.push(resolve))
  }

  send(requests: readonly Request[]): void {
    this.socket.send(ClientFrame.encode({ requests }).finish())
  }

  /** Makes a request and keeps its answer. */
  make(op: Request['op'], extra: Partial<Request> = {}): { request: Request; answer: Promise<Result> } {
    const number = this.nextNumber
    this.nextNumber += 1
    const request = { number, timeoutMs: 0, local: false, minPosition: 0, op, ...extra }
    return { request, answer: new Promise((resolve) => this.open.set(number, resolve)) }
  }

  ask(op: Request['op'], extra: Partial<Request> = {}): Promise<Result> {
    const { request, answer } = this.make(op, extra)
    this.send([request])
    return answer
  }

  /** Asks and returns the response; throws when it is another. */
  async get<C extends Case>(name: C, value: Requests[C]): Promise<Responses[C]> {
    const result = await this.ask({ $case: name, value } as Op)
    if (result.$case !== name) throw new Error(`${name} got ${JSON.stringify(result)}`)
    // The compiler does not follow that equal names make values of one type.
    const response: unknown = result.value
    return response as Responses[C]
  }

  /** Asks and returns the error; throws when there is none. */
  async fail(op: Request['op']): Promise<ApiError> {
    const result = await this.ask(op)
    if (result.$case !== 'error') throw new Error(`${op?.$case} did not fail: ${JSON.stringify(result)}`)
    return result.value
  }

  close(): void {
    this.socket.close()
  }
}

export function newId(atMs = Date.now()): Uint8Array {
  return makeUuidV7(atMs, randomBytes(10))
}

/** Registers an account on a new connection and signs in there. */
export async function signUp(
  port: number,
  name: string,
): Promise<TestClient & { readonly token: Uint8Array }> {
  const client = await new TestClient(port).ready()
  const token = randomBytes(32)
  await client.get('register', { id: newId(), name, password: `${name}'s password`, device: 'test', token })
  await client.get('authenticate', { token })
  return Object.assign(client, { token })
}

/** Watches how much `count` grows in each turn of the event loop. The result ends that, and tells the most. */
export function watchTurns(count: () => number): () => number {
  let most = 0
  let seen = count()
  let isOver = false
  const look = (): void => {
    most = Math.max(most, count() - seen)
    seen = count()
    if (!isOver) setImmediate(look)
  }
  setImmediate(look)
  return () => {
    isOver = true
    return most
  }
}
