import { open, rm } from 'node:fs/promises'
import { pause, type Clock } from '../base/clock.ts'

/** So much of a file is given back at once, and then nothing for a while. */
const pieceBytes = 8 * 1024 * 1024
const restMs = 20

/**
 * Removes a file that nobody reads any more, or nothing when it is not there. A large one goes in pieces, from its end: in one go the file system would hold up all that others
 * flush until it has given back the whole, which took a quarter of a second for 380 MB on ext4 that discards what is free.
 *
 * @param hurried whether to remove the rest in one go, asked before each piece.
 */
export async function removeFile(path: string, clock: Clock, hurried: () => boolean): Promise<void> {
  try {
    const file = await open(path, 'r+')
    try {
      let { size } = await file.stat()
      while (size > pieceBytes && !hurried()) {
        size -= pieceBytes
        await file.truncate(size)
        await pause(clock, restMs)
      }
    } finally {
      await file.close()
    }
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return
    throw error
  }
  await rm(path, { force: true })
}
