import { readlinkSync } from 'node:fs'
import { constants, setPriority } from 'node:os'
import { basename } from 'node:path'

/**
 * Lets the thread that calls it stand back behind all others of the machine, for good: for work that nobody waits for, so that it takes only what is left of the processors. Does
 * nothing but on Linux, since elsewhere threads have no priorities of their own (setpriority(2), "C library/kernel differences").
 */
export function standBack(): void {
  if (process.platform !== 'linux') return
  try {
    setPriority(Number(basename(readlinkSync('/proc/thread-self'))), constants.priority.PRIORITY_BELOW_NORMAL)
  } catch {
    // No /proc, or not allowed: then it competes with the others.
  }
}
