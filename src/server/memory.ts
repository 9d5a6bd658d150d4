import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

import type { Clock } from '../base/clock.ts'

type Collect = (options: {
  readonly type: 'major'
  readonly execution: 'async'
  readonly flavor: 'last-resort'
}) => Promise<void>

const checkMs = 1000
/** Less is not worth the pause. */
const worthwhileBytes = 8 * 1024 * 1024

/**
 * Gives back what work left behind, once nothing has happened for a second or two: V8 by itself keeps it for as long as a process is idle, and several replicas often share a
 * small machine. Takes some 20 ms of a replica that has nothing to do.
 *
 * @param activity a number that changes whenever something was done.
 * @returns stops it.
 */
export function tidyMemoryWhenIdle(clock: Clock, activity: () => number): () => void {
  setFlagsFromString('--expose-gc')
  // The flag counts for contexts that are made after it was set.
  const collect = runInNewContext('gc') as Collect
  let seen = Number.NaN
  let isTidy = false
  let tidyBytes = 0
  let cancel = (): void => undefined
  const check = (): void => {
    const now = activity()
    if (now !== seen) {
      seen = now
      isTidy = false
    } else if (!isTidy && heldBytes() - tidyBytes > worthwhileBytes) {
      isTidy = true
      void collect({ type: 'major', execution: 'async', flavor: 'last-resort' }).then(() => {
        tidyBytes = heldBytes()
      })
    }
    cancel = clock.after(checkMs, check)
  }
  cancel = clock.after(checkMs, check)
  return () => cancel()
}

function heldBytes(): number {
  const { total_heap_size, external_memory } = getHeapStatistics()
  return total_heap_size + external_memory
}
