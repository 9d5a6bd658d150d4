/**
 * Primary result codes of SQLite that a command can bring about by itself, and then in the same way on every replica: a statement that is wrong, too big, or against a constraint.
 * All others say something about this replica's disk or memory.
 */
const codesOfCommands: ReadonlySet<number> = new Set([1, 18, 19, 20, 21, 25])

/** The database failed, rather than the command. */
export function isDatabaseFailure(error: unknown): boolean {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return false
  return !codesOfCommands.has(error.errcode & 0xff)
}
