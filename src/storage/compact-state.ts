import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { isOutOfSpace } from './errors.ts'
import { flushFile } from './state-jobs.ts'

/** A copy on its way; what a crash has left of one is removed. */
const fileName = 'compacting.db'

/**
 * The path of a copy of the state without the room that removed rows have left, flushed; null when that is not worth it: the state has no more than `aboveBytes`, less than half of
 * it is free, or the disk has no room for the copy.
 *
 * @throws what SQLite throws when the state cannot be read.
 */
export function compactedCopy(db: DatabaseSync, folder: string, aboveBytes: number): string | null {
  const copy = join(folder, fileName)
  for (const suffix of ['', '-journal']) rmSync(`${copy}${suffix}`, { force: true })
  const read = (name: string): number => Number(db.prepare(`PRAGMA ${name}`).get()?.[name])
  const pages = read('page_count')
  if (pages * read('page_size') <= aboveBytes || read('freelist_count') * 2 < pages) return null
  try {
    db.prepare('VACUUM INTO ?').run(copy)
    flushFile(copy)
    return copy
  } catch (error) {
    rmSync(copy, { force: true })
    if (isOutOfSpace(error)) return null
    throw error
  }
}
