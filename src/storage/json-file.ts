import { closeSync, fsyncSync, openSync, renameSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { flushFolder } from './state-jobs.ts'

/** Replaces the file at `path` in one step; durable when it returns. */
export function writeJson(path: string, value: unknown): void {
  const descriptor = openSync(`${path}.new`, 'w', 0o600)
  try {
    writeSync(descriptor, `${JSON.stringify(value, null, 2)}\n`)
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
  renameSync(`${path}.new`, path)
  flushFolder(dirname(path))
}
