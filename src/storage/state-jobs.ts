import { createHash } from 'node:crypto'
import { closeSync, fdatasyncSync, fsyncSync, openSync, readSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import { readMeta } from './state-meta.ts'
import type { SnapshotOffer, StateJob, StateJobResult } from './types.ts'

/*
 * Never open state.db or its -shm file but through SQLite: closing any descriptor of a file drops the locks that this process has on it (POSIX). The -wal file carries no
 * locks, and a copy is not open as a database when its bytes are read.
 */

/** Carries out jobs in this thread, over a connection that is kept until another database is written back. */
export class StateJobs {
  private connection: CheckpointConnection | null = null

  run(job: Exclude<StateJob, { readonly kind: 'copy' }>): StateJobResult {
    try {
      return job.kind === 'verify' ? verify(job.path, job.offer) : checkpoint(this.connect(job.path))
    } catch (error) {
      return failed(error)
    }
  }

  close(): void {
    this.connection?.db.close()
    this.connection = null
  }

  private connect(path: string): CheckpointConnection {
    if (this.connection?.path !== path) this.close()
    this.connection ??= connectForCheckpoints(path)
    return this.connection
  }
}

export function failed(error: unknown): StateJobResult {
  return { kind: 'failed', error: error instanceof Error ? error : new Error(String(error)) }
}

interface CheckpointConnection {
  readonly path: string
  readonly db: DatabaseSync
  readonly writeBack: StatementSync
}

function connectForCheckpoints(path: string): CheckpointConnection {
  const db = new DatabaseSync(path)
  db.exec('PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0')
  return { path, db, writeBack: db.prepare('PRAGMA wal_checkpoint(PASSIVE)') }
}

function checkpoint({ path, writeBack }: CheckpointConnection): StateJobResult {
  // A checkpoint flushes only when there is something to write back, so the -wal file is flushed here: that makes all commits so far durable.
  flushFile(`${path}-wal`)
  writeBack.get()
  return { kind: 'checkpointed' }
}

/** The result of a copy job whose file has been written. */
export function describeCopy(path: string): StateJobResult {
  const { appliedIndex, engineState } = readCopy(path)
  const id = `${appliedIndex}-${digest(path)}`
  return {
    kind: 'copied',
    offer: { id, index: appliedIndex, sizeBytes: statSync(path).size },
    engineState,
  }
}

function verify(path: string, offer: SnapshotOffer): StateJobResult {
  const size = statSync(path).size
  if (size !== offer.sizeBytes)
    return { kind: 'rejected', reason: `it has ${size} bytes instead of ${offer.sizeBytes}` }
  if (offer.id !== `${offer.index}-${digest(path)}`)
    return { kind: 'rejected', reason: 'its digest is wrong' }
  const { appliedIndex } = readCopy(path)
  if (appliedIndex !== offer.index)
    return { kind: 'rejected', reason: `it holds the state at ${appliedIndex} instead of ${offer.index}` }
  flushFile(path)
  flushFolder(dirname(path))
  return { kind: 'verified' }
}

function readCopy(path: string): ReturnType<typeof readMeta> {
  const location = pathToFileURL(path)
  // No locks, no -wal and no -shm file: nobody writes to a copy.
  location.searchParams.set('immutable', '1')
  const db = new DatabaseSync(location, { readOnly: true })
  try {
    return readMeta(db)
  } finally {
    db.close()
  }
}

/** SHA-256 in hexadecimal. */
function digest(path: string): string {
  const hash = createHash('sha256')
  const chunk = Buffer.allocUnsafeSlow(1024 * 1024)
  const descriptor = openSync(path, 'r')
  try {
    for (;;) {
      const count = readSync(descriptor, chunk)
      if (count === 0) return hash.digest('hex')
      hash.update(chunk.subarray(0, count))
    }
  } finally {
    closeSync(descriptor)
  }
}

/** Makes what is in a file survive a power cut. */
export function flushFile(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fdatasyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/** Makes the names in a folder survive a power cut. */
export function flushFolder(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
