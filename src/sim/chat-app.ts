import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  closeSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Clock } from '../base/clock.ts'
import type { Random } from '../base/random.ts'
import { openChat } from '../chat/machine.ts'
import { digest } from '../chat/digest.ts'
import type { ChatMachine } from '../chat/types.ts'
import { Outcome } from '../gen/parley/v1/command.ts'
import type { Engine } from '../log/engine.ts'
import type { LogConsumer, ReplicatedLog } from '../log/port.ts'
import type { OpenChat } from '../replica/applier.ts'
import { createReplica, type RunningReplica } from '../replica/replica.ts'
import { openStateStore } from '../storage/state-store.ts'
import { createInlineStateWorker } from '../storage/state-worker.ts'
import type { StateJob, StateJobResult, StateStore, StateWorker } from '../storage/types.ts'
import type { App, AppContext, AppHooks, AppStore } from './cluster.ts'
import type { Invariants } from './invariants.ts'
import { hashBytes } from './trace.ts'

/*
 * The real replica over the real state store. SQLite writes real files in a folder of its own for each run of a process; when the process dies they are copied to the folder
 * of the next run, without what a power cut takes.
 */

/** A message that holds this makes the state machine throw: a poisonous command. */
export const poison = 'POISON'

export const clusterId = new Uint8Array(16).fill(7)

/** The files of one machine's state. */
export class ChatStore implements AppStore {
  isFull = false
  /** What runs over it now. */
  store: StateStore | null = null
  /** Ends the jobs that are under way. */
  endJobs: () => void = () => {}
  private readonly root: string
  private readonly random: Random
  private runs = 0
  /** SQLite's write-ahead logs as they were when they were flushed last. */
  private flushed = new Map<string, { readonly bytes: number; readonly salt: string }>()

  constructor(root: string, random: Random) {
    this.root = root
    this.random = random
    mkdirSync(this.folder, { recursive: true })
  }

  get folder(): string {
    return join(this.root, `run-${this.runs}`)
  }

  checkpointed(path: string): void {
    const wal = `${path}-wal`
    if (existsSync(wal)) this.flushed.set(path, { bytes: statSync(wal).size, salt: saltOf(wal) })
  }

  died(power: boolean): void {
    const from = this.folder
    this.runs += 1
    const to = this.folder
    mkdirSync(join(to, 'snapshots'), { recursive: true })
    for (const name of [
      ...readdirSync(from),
      ...(existsSync(join(from, 'snapshots')) ? readdirSync(join(from, 'snapshots')) : []).map(
        (part) => `snapshots/${part}`,
      ),
    ])
      if (/\.(db|db-wal|part)$/.test(name)) copyFileSync(join(from, name), join(to, name))
    if (power) this.forget(from, to)
    this.flushed = new Map([...this.flushed].map(([path, known]) => [path.replace(from, to), known]))
    const { store } = this
    this.store = null
    this.endJobs()
    // Closing writes back what the old folder holds, which nobody reads any more.
    void store?.close().then(() => rmSync(from, { recursive: true, force: true }))
    if (store === null) rmSync(from, { recursive: true, force: true })
  }

  wipe(): void {
    rmSync(this.folder, { recursive: true, force: true })
    mkdirSync(this.folder, { recursive: true })
    this.flushed.clear()
  }

  full(full: boolean): void {
    this.isFull = full
  }

  /** Of SQLite's write-ahead log what was flushed is left, and of the rest some sectors; of a copy on its way in any part. */
  private forget(from: string, to: string): void {
    for (const name of readdirSync(to)) {
      if (!name.endsWith('.db-wal')) continue
      const path = join(to, name)
      const known = this.flushed.get(join(from, name.slice(0, -'-wal'.length)))
      const { size } = statSync(path)
      const kept = known !== undefined && known.salt === saltOf(path) ? Math.min(known.bytes, size) : 0
      if (size <= kept) continue
      truncateSync(path, kept + this.random.below(size - kept + 1))
      this.lose(path, kept)
    }
    for (const name of readdirSync(join(to, 'snapshots')))
      if (this.random.below(2) === 0) this.lose(join(to, 'snapshots', name), 0)
  }

  /** Zeros in the place of one sector that was not flushed. */
  private lose(path: string, from: number): void {
    const { size } = statSync(path)
    if (size <= from || this.random.below(2) === 0) return
    const at = from + this.random.below(size - from)
    const file = openSync(path, 'r+')
    writeSync(file, new Uint8Array(Math.min(512, size - at)), 0, undefined, at)
    closeSync(file)
  }
}

/** Where the files of a simulated cluster go: memory where there is such a file system. */
export function makeChatRoot(): string {
  return mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'parley-sim-'))
}

export interface ChatApp extends App {
  /** The replica has joined the others. */
  readonly isUp: boolean
  readonly replica: RunningReplica
  readonly clock: Clock
}

/** Starts a replica over what its machine has kept. */
export function openChatApp(files: ChatStore, context: AppContext, invariants: Invariants): ChatApp {
  const { clock, random, logger, hooks } = context
  const store = openStateStore({
    folder: files.folder,
    worker: simulatedWorker(files, clock, random),
    onFailed: (error) => context.onFatal(error),
  })
  files.store = store
  hooks.restored(store.appliedIndex)
  let replica: RunningReplica | null = null
  let up = false
  let consumer: LogConsumer | null = null
  const started = (): RunningReplica => {
    if (replica === null) throw new Error('the replica was not started')
    return replica
  }
  return {
    clock,
    get isUp() {
      return up
    },
    get replica() {
      return started()
    },
    get appliedIndex() {
      return consumer?.appliedIndex ?? store.appliedIndex
    },
    digest: () => String(hashBytes(new TextEncoder().encode(digest(store.db)))),
    async start(engine: Engine) {
      const log = watchedLog(engine, hooks, (begun) => {
        consumer = begun
      })
      replica = createReplica({
        self: context.self,
        incarnation: context.incarnation,
        clusterId,
        clock,
        logger,
        log,
        store: {
          get db() {
            return store.db
          },
          get appliedIndex() {
            return store.appliedIndex
          },
          get engineState() {
            return store.engineState
          },
          get sizeBytes() {
            return store.sizeBytes
          },
          get freeBytes() {
            return store.freeBytes
          },
          // As behind a quota, of which the disk knows nothing: it is tried again each time.
          hasRoom: true,
          begin: () => store.begin(),
          commit(index, engineState) {
            if (files.isFull) throw Object.assign(new Error('database or disk is full'), { errcode: 13 })
            store.commit(index, engineState)
          },
          rollback: () => store.rollback(),
          checkpoint: (done) => store.checkpoint(done),
          takeSnapshot: (atLeast) => store.takeSnapshot(atLeast),
          receiveSnapshot: (offer) => store.receiveSnapshot(offer),
        },
        openChat: (db) => {
          const chat = openChat(db, {
            newestVersion: context.newestVersion,
            beforeCommand({ op }) {
              if (op?.$case === 'sendMessage' && op.value.text.includes(poison))
                throw new Error('a poisonous command')
            },
          })
          return watchedChat(chat, context, invariants)
        },
        search: null,
        vitals: () => ({ pid: 1, version: 'sim', residentBytes: 0, cpuUs: 0, searchBytes: 0, problem: '' }),
        onFatal: (error) => context.onFatal(error instanceof Error ? error : new Error(String(error))),
      })
      await replica.start()
      up = true
    },
  }
}

/** Jobs take a while. Those of a process that died end with an error that nobody hears, so that its files can be closed. */
function simulatedWorker(files: ChatStore, clock: Clock, random: Random): StateWorker {
  const underWay = new Set<() => void>()
  files.endJobs = () => {
    for (const end of underWay) end()
  }
  const inline = createInlineStateWorker((callback) => callback())
  const finish = (job: StateJob, done: (result: StateJobResult) => void): void =>
    inline.run(job, (result) => {
      if (job.kind === 'checkpoint') files.checkpointed(job.path)
      done(result)
    })
  const run = (job: StateJob, done: (result: StateJobResult) => void): void => {
    const end = (): void => done({ kind: 'failed', error: new Error('the process has ended') })
    underWay.add(end)
    clock.after(0.2 + random.below(100) / 10, () => {
      underWay.delete(end)
      finish(job, done)
    })
  }
  return {
    run,
    runAndWait(job, waitMs, done) {
      if (waitMs > 0) finish(job, done)
      else run(job, done)
    },
    read: (path, offset, length) => inline.read(path, offset, length),
    write: (path, offset, bytes) => inline.write(path, offset, bytes),
    remove: (path) => inline.remove(path),
    close: () => inline.close(),
  }
}

/** Tells of what the log hands to the replica. */
function watchedLog(
  engine: Engine,
  hooks: AppHooks,
  onStart: (consumer: LogConsumer) => void,
): ReplicatedLog {
  return {
    start(consumer) {
      onStart(consumer)
      const watched: LogConsumer = {
        get appliedIndex() {
          return consumer.appliedIndex
        },
        get engineState() {
          return consumer.engineState
        },
        apply(entries, engineState) {
          const previous = consumer.appliedIndex
          const result = consumer.apply(entries, engineState)
          if (result === 'applied') hooks.applied(entries, previous)
          return result
        },
        interrupted: () => consumer.interrupted(),
        statusChanged: () => consumer.statusChanged(),
        checkpoint: (done) => consumer.checkpoint(done),
        takeSnapshot: () => consumer.takeSnapshot(),
        async receiveSnapshot(offer) {
          const sink = await consumer.receiveSnapshot(offer)
          return {
            get offset() {
              return sink.offset
            },
            write: (offset, bytes) => sink.write(offset, bytes),
            finish: () => sink.finish(),
            install() {
              sink.install()
              hooks.restored(consumer.appliedIndex)
            },
            abandon: () => sink.abandon(),
          }
        },
      }
      return engine.start(watched)
    },
    propose: (data) => engine.propose(data),
    readBarrier: (timeoutMs, done) => engine.readBarrier(timeoutMs, done),
    otherClocksMs: () => engine.otherClocksMs(),
    change: (change, timeoutMs) => engine.change(change, timeoutMs),
    isRemoved: (replica) => engine.isRemoved(replica),
    status: () => engine.status(),
    stop: () => engine.stop(),
  }
}

/** Every replica comes to the same outcome and the same events with every batch. */
function watchedChat(
  chat: OpenChat,
  { process: { name: process }, newestVersion }: AppContext,
  invariants: Invariants,
): OpenChat {
  const { machine, queries } = chat
  const watched: ChatMachine = {
    get position() {
      return machine.position
    },
    get version() {
      return machine.version
    },
    get nowMs() {
      return machine.nowMs
    },
    applyBatch(batch, careful) {
      const applied = machine.applyBatch(batch, careful)
      if (applied === null) return null
      if (machine.version > newestVersion)
        invariants.fail(
          'stops rather than drift',
          `${process} knows version ${newestVersion}, and goes on in a cluster that uses version ${machine.version}`,
        )
      const text = applied
        .map(({ position, outcome, events }) => {
          const hashes = events.map(({ bytes }) => hashBytes(bytes).toString(36)).join(' ')
          const outcomeHash = hashBytes(Outcome.encode(outcome).finish()).toString(36)
          return `${outcomeName(outcome)} at ${position}: ${outcomeHash}, events ${hashes}`
        })
        .join('; ')
      const name = `batch ${batch.number} of r${batch.origin} (run ${batch.incarnation})`
      invariants.same('same outcomes', name, text, process)
      return applied
    },
    flush: () => machine.flush(),
    reload: () => machine.reload(),
  }
  return { machine: watched, queries }
}

function outcomeName({ outcome }: Outcome): string {
  return outcome?.$case === 'rejected' ? outcome.value.reason : (outcome?.$case ?? 'nothing')
}

/** Two numbers in the head of SQLite's write-ahead log that change when it begins anew. */
function saltOf(path: string): string {
  const head = Buffer.alloc(32)
  const file = openSync(path, 'r')
  readSync(file, head, 0, 32, 0)
  closeSync(file)
  return head.toString('hex', 16, 24)
}
