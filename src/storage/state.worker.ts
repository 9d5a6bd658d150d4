import { flushCompileCache } from 'node:module'
import { backup, DatabaseSync } from 'node:sqlite'
import { parentPort } from 'node:worker_threads'
import { describeCopy, failed, runStateJob } from './state_jobs.ts'
import type { StateJob, StateJobResult } from './types.ts'

// A thread of a process that is killed would leave nothing for the next start.
flushCompileCache()

/** More pages than any database has: then the copy is made in one step, under one read transaction, and no writer can make it begin again. */
const allPages = 2 ** 31 - 1

parentPort?.on('message', ({ number, job }: { readonly number: number; readonly job: StateJob }) => {
  void runJob(job).then((result) => {
    // Structured cloning drops what makes an error recognisable.
    const details =
      result.kind === 'failed' ? { message: result.error.message, fields: { ...result.error } } : null
    parentPort?.postMessage({ number, result: details === null ? result : null, details }, [])
  })
})

async function runJob(job: StateJob): Promise<StateJobResult> {
  if (job.kind !== 'copy') return runStateJob(job)
  try {
    const db = new DatabaseSync(job.path)
    try {
      db.exec('PRAGMA wal_autocheckpoint = 0')
      // Unlike VACUUM INTO this keeps the pages as they are, row numbers included, and it is quicker.
      await backup(db, job.to, { rate: allPages })
    } finally {
      db.close()
    }
    return describeCopy(job.to)
  } catch (error) {
    return failed(error)
  }
}
