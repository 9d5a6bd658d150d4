import type { Clock } from '../base/clock.ts'
import type { SnapshotPoint } from '../raft/types.ts'
import type { Disk } from '../storage/disk.ts'
import { updateMetaSql } from '../storage/state-meta.ts'
import { openLog } from '../storage/wal.ts'
import { encodeEngineState } from './engine-state.ts'

/*
 * How a cluster begins with a state that there is already, out of a backup: its log begins behind `point`, in term 0, since nobody has led it yet. So a replica that joins later gets a
 * copy of the state, never the log from its beginning.
 */

/** Small: the replica makes segments of its own size. */
const logOptions = { segmentBytes: 64 * 1024, cacheBytes: 64 * 1024 }

/** Has the state say that it is what the log begins behind. */
export function setPoint(
  db: { prepare(sql: string): { run(...values: (number | Uint8Array)[]): unknown } },
  { index, term, configuration }: SnapshotPoint,
): void {
  db.prepare(updateMetaSql).run(index, encodeEngineState(term, configuration))
}

/** Makes the log. Without one a replica would think that it had lost its own. */
export function beginLog(disk: Disk, clock: Clock, point: SnapshotPoint): Promise<void> {
  return new Promise((done, failed) => {
    const { log } = openLog(
      disk,
      { ...logOptions, clock, onFailed: failed, onFullChanged: () => undefined },
      { ...point, index: 0 },
    )
    log.reset(point, () => log.close(done))
  })
}
