import type { Sql } from '../chat/sql.ts'
import { DamagedError } from './types.ts'

/** The format of the table below. */
const format = 1

/** What the storage keeps in the database beside the state: one row. */
interface StateMeta {
  readonly appliedIndex: number
  readonly engineState: Uint8Array
}

export const updateMetaSql = 'UPDATE storage SET applied_index = ?, engine_state = ? WHERE one = 1'

export function createMeta(db: Sql): void {
  db.exec(`
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS storage (
      one INTEGER PRIMARY KEY CHECK (one = 1),
      format INTEGER NOT NULL,
      applied_index INTEGER NOT NULL,
      engine_state BLOB NOT NULL
    ) STRICT;
    INSERT OR IGNORE INTO storage VALUES (1, ${format}, 0, x'');
    COMMIT;
  `)
}

/** @throws DamagedError when it was written by a newer version, or by nobody. */
export function readMeta(db: Sql): StateMeta {
  const row = db.prepare('SELECT format, applied_index, engine_state FROM storage WHERE one = 1').get()
  const appliedIndex = row?.['applied_index']
  const engineState = row?.['engine_state']
  if (typeof row?.['format'] === 'number' && row['format'] > format)
    throw new DamagedError('The state was written by a newer version of Parley: start that version again.')
  if (typeof appliedIndex !== 'number' || !(engineState instanceof Uint8Array))
    throw new DamagedError('The state does not say how far the log has been applied to it.')
  return { appliedIndex, engineState }
}
