import { flushCompileCache } from 'node:module'
import { backup, DatabaseSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import { standBack } from './background.ts'
import { describeCopy, failed, flushFile, StateJobs } from './state-jobs.ts'
import type { StateThreadData } from './state-worker.ts'
import type { StateJob, StateJobResult } from './types.ts'

/** So much is copied at a time, and flushed: what the disk has yet to write of a copy would hold up the log's flushes for a second and more. */
const stepBytes = 1024 * 1024
/** So long nothing is copied after each step, which takes about 10 ms: the disk is for what people wait for. A gigabyte takes most of a minute. */
const restMs = 40

// Threads do not get as far as writing it by themselves when the process is killed. Without it the next start strips this file of its types again, which takes 20 MB.
flushCompileCache()

const { ended, standsBack } = workerData as StateThreadData
if (standsBack) standBack()
const jobs = new StateJobs()
/** Nobody notifies it. */
const rest = new Int32Array(new SharedArrayBuffer(4))

parentPort?.on('message', ({ number, job }: { readonly number: number; readonly job: StateJob }) => {
  void runJob(job).then((result) => {
    Atomics.store(ended, 0, number)
    Atomics.notify(ended, 0)
    // Structured cloning drops what makes an error recognisable.
    const details =
      result.kind === 'failed' ? { message: result.error.message, fields: { ...result.error } } : null
    parentPort?.postMessage({ number, result: details === null ? result : null, details }, [])
  })
})

async function runJob(job: StateJob): Promise<StateJobResult> {
  if (job.kind !== 'copy') return jobs.run(job)
  try {
    await copy(job.path, job.to)
    return describeCopy(job.to)
  } catch (error) {
    return failed(error)
  }
}

async function copy(path: string, to: string): Promise<void> {
  const db = new DatabaseSync(path)
  try {
    // A read transaction over the whole copy: what is written meanwhile is not in it, and cannot make it begin again.
    db.exec('PRAGMA wal_autocheckpoint = 0; BEGIN')
    db.prepare('SELECT count(*) FROM sqlite_schema').get()
    const progress = (): void => {
      flushFile(to)
      Atomics.wait(rest, 0, 0, restMs)
    }
    // Unlike VACUUM INTO this keeps the pages as they are, row numbers included, and it is quicker.
    const pageBytes = Number(db.prepare('PRAGMA page_size').get()?.['page_size'])
    await backup(db, to, { rate: stepBytes / pageBytes, progress })
  } finally {
    db.close()
  }
}
