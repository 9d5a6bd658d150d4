import { closeSync, openSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { DatabaseSync } from 'node:sqlite'
import { Worker } from 'node:worker_threads'
import { pause, type Cancel, type Clock } from '../base/clock.ts'
import { removeFile } from './remove-file.ts'
import { describeCopy, failed, StateJobs } from './state-jobs.ts'
import type { StateJob, StateJobResult, StateWorker } from './types.ts'

interface Reply {
  readonly number: number
  readonly result: StateJobResult | null
  readonly details: { readonly message: string; readonly fields: object } | null
}

export interface StateThreadData {
  /** Holds the number of the newest job that has ended, for the thread that waits for it. */
  readonly ended: Int32Array
  readonly standsBack: boolean
}

/** A thread that had nothing to do for so long is ended: it holds some 15 MB. */
const idleMs = 10_000
/** Of what comes from another replica. A large file that is flushed in one go holds up all others on its disk. */
const flushBytes = 1024 * 1024

/** Threads for the jobs, started when there is one; reads and writes go to the thread pool. */
export function createStateWorker(clock: Clock): StateWorker {
  const checkpoints = createJobThread(clock, false)
  // A copy of a large state takes seconds of work, and must hold up neither checkpoints nor what people wait for.
  const copies = createJobThread(clock, true)
  let isClosed = false
  const threadFor = (job: StateJob): JobThread => (job.kind === 'checkpoint' ? checkpoints : copies)
  return {
    run: (job, done) => threadFor(job).run(job, done),
    runAndWait: (job, forMs, done) => threadFor(job).runAndWait(job, forMs, done),
    async read(path, offset, length) {
      const handle = await open(path, 'r')
      try {
        const bytes = Buffer.allocUnsafeSlow(length)
        const { bytesRead } = await handle.read(bytes, 0, length, offset)
        return bytes.subarray(0, bytesRead)
      } finally {
        await handle.close()
      }
    },
    async write(path, offset, bytes) {
      const handle = await open(path, offset === 0 ? 'w' : 'r+')
      try {
        let written = 0
        while (written < bytes.length)
          written += (await handle.write(bytes, written, undefined, offset + written)).bytesWritten
        const end = offset + bytes.length
        if (Math.floor(end / flushBytes) === Math.floor(offset / flushBytes)) return
        const beganMs = clock.monotonicMs()
        await handle.datasync()
        // The disk is for what people wait for: at least every other moment.
        await pause(clock, clock.monotonicMs() - beganMs)
      } finally {
        await handle.close()
      }
    },
    remove: (path) => removeFile(path, clock, () => isClosed),
    async close() {
      isClosed = true
      await Promise.all([checkpoints.close(), copies.close()])
    },
  }
}

interface JobThread {
  run(job: StateJob, done: (result: StateJobResult) => void): void
  runAndWait(job: StateJob, forMs: number, done: (result: StateJobResult) => void): void
  close(): Promise<void>
}

/** @param standsBack whether it runs only on what is left of the processors. */
function createJobThread(clock: Clock, standsBack: boolean): JobThread {
  const ended = new Int32Array(new SharedArrayBuffer(4))
  const waiting = new Map<number, (result: StateJobResult) => void>()
  let thread: Worker | null = null
  let lastNumber = 0
  let cancelEnd: Cancel | null = null

  function start(): Worker {
    const file = import.meta.url.endsWith('.ts') ? './state.worker.ts' : './state.worker.js'
    const data: StateThreadData = { ended, standsBack }
    const started = new Worker(new URL(file, import.meta.url), {
      workerData: data,
      // It handles next to nothing in JavaScript.
      resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 32 },
    })
    started.on('message', ({ number, result, details }: Reply) => {
      const done = waiting.get(number)
      waiting.delete(number)
      if (waiting.size === 0) rest(started)
      done?.(result ?? failed(Object.assign(new Error(details?.message), details?.fields)))
    })
    started.on('error', (error: Error) => {
      if (thread !== started) return
      thread = null
      failAll(error)
    })
    return started
  }

  /** It keeps the process alive only while something is to be done. */
  function rest(resting: Worker): void {
    resting.unref()
    cancelEnd?.()
    cancelEnd = clock.after(idleMs, () => {
      cancelEnd = null
      thread = null
      void resting.terminate()
    })
  }

  function failAll(error: Error): void {
    const all = [...waiting.values()]
    waiting.clear()
    for (const done of all) done(failed(error))
  }

  function run(job: StateJob, done: (result: StateJobResult) => void): void {
    cancelEnd?.()
    cancelEnd = null
    // It goes through 32 bits.
    lastNumber = (lastNumber + 1) | 0
    waiting.set(lastNumber, done)
    thread ??= start()
    thread.ref()
    thread.postMessage({ number: lastNumber, job }, [])
  }

  return {
    run,
    runAndWait(job, forMs, done) {
      const before = Atomics.load(ended, 0)
      run(job, done)
      Atomics.wait(ended, 0, before, forMs)
    },
    async close() {
      cancelEnd?.()
      await thread?.terminate()
      thread = null
      failAll(new Error('the state was closed'))
    },
  }
}

/** Does everything in this thread, in an order that depends on nothing else: for the simulator. `soon` calls its argument later, before anything else happens. */
export function createInlineStateWorker(soon: (callback: () => void) => void): StateWorker {
  const jobs = new StateJobs()
  const runInline = (job: StateJob): StateJobResult => (job.kind === 'copy' ? copyInline(job) : jobs.run(job))
  return {
    run(job, done) {
      soon(() => done(runInline(job)))
    },
    runAndWait(job, _forMs, done) {
      const result = runInline(job)
      soon(() => done(result))
    },
    async read(path, offset, length) {
      const descriptor = openSync(path, 'r')
      try {
        const bytes = Buffer.allocUnsafeSlow(length)
        return bytes.subarray(0, readSync(descriptor, bytes, 0, length, offset))
      } finally {
        closeSync(descriptor)
      }
    },
    async write(path, offset, bytes) {
      const descriptor = openSync(path, offset === 0 ? 'w' : 'r+')
      try {
        writeSync(descriptor, bytes, 0, bytes.length, offset)
      } finally {
        closeSync(descriptor)
      }
    },
    async remove(path) {
      rmSync(path, { force: true })
    },
    close() {
      jobs.close()
      return Promise.resolve()
    },
  }
}

function copyInline(job: StateJob & { readonly kind: 'copy' }): StateJobResult {
  try {
    const db = new DatabaseSync(job.path)
    try {
      writeFileSync(job.to, db.serialize())
    } finally {
      db.close()
    }
    return describeCopy(job.to)
  } catch (error) {
    return failed(error)
  }
}
