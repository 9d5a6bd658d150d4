import { flushCompileCache } from 'node:module'
import { backup, DatabaseSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import { standBack } from './background.ts'
import { describeCopy, failed, StateJobs } from './state-jobs.ts'
import type { StateThreadData } from './state-worker.ts'
import type { StateJob, StateJobResult } from './types.ts'

/** More pages than any database has: then the copy is made in one step, under one read transaction, and no writer can make it begin again. */
const allPages = 2 ** 31 - 1

// Threads do not get as far as writing it by themselves when the process is killed. Without it the next start strips this file of its types again, which takes 20 MB.
flushCompileCache()

const { ended, standsBack } = workerData as StateThreadData
if (standsBack) standBack()
const jobs = new StateJobs()

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
    db.exec('PRAGMA wal_autocheckpoint = 0')
    // Unlike VACUUM INTO this keeps the pages as they are, row numbers included, and it is quicker.
    await backup(db, to, { rate: allPages })
  } finally {
    db.close()
  }
}
