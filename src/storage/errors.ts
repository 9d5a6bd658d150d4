/** Whether an error says that the disk has no room (or the user's quota is used up): from the file system or from SQLite. */
export function isOutOfSpace(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if ('code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT')) return true
  const code = sqliteCode(error)
  return code !== null && ((code & 0xff) === sqliteFull || code === sqliteIoErrorSharedMemorySize)
}

/** Whether this process, or the machine, has too many files open. Most of them are connections, so that passes. */
export function isOutOfFiles(error: unknown): boolean {
  if (!(error instanceof Error) || !('code' in error)) return false
  return error.code === 'EMFILE' || error.code === 'ENFILE' || error.code === 'ERR_WORKER_INIT_FAILED'
}

/** Whether an error comes from the database, not from what it was asked to do by the state machine's code. */
export function isDatabaseError(error: unknown): boolean {
  return sqliteCode(error) !== null
}

const sqliteFull = 13
/** The -shm file could not be made larger. */
const sqliteIoErrorSharedMemorySize = 10 | (19 << 8)

/** The extended result code of SQLite. */
function sqliteCode(error: unknown): number | null {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number'
    ? error.errcode
    : null
}
