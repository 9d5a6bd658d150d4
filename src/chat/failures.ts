import { NewerVersionError } from './versions.ts'

/**
 * Primary result codes of SQLite that a command can bring about by itself, and then in the same way on every replica: a statement that is wrong, too big, or against a constraint.
 * All others say something about this replica's disk or memory.
 */
const codesOfCommands: ReadonlySet<number> = new Set([1, 18, 19, 20, 21, 25])
/** Codes of Node that say that a wrong value was handed to a function, which is the same on every replica. */
const wrongValues: ReadonlySet<unknown> = new Set([
  'ERR_INVALID_ARG_TYPE',
  'ERR_INVALID_ARG_VALUE',
  'ERR_OUT_OF_RANGE',
])

/** What V8 says when there is no memory for an array or for one more call: how much there is differs from replica to replica. Its other range errors are about values. */
const outOfMemory: ReadonlySet<string> = new Set([
  'Array buffer allocation failed',
  'Maximum call stack size exceeded',
])

/**
 * Whether this replica failed, rather than the command: then nothing may be concluded about the command, since the others may well apply it. What came of it would differ from replica to replica.
 *
 * In doubt it is the replica: stopping one is better than letting its state go astray.
 */
export function isReplicaFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if (error instanceof NewerVersionError) return true
  if ('errcode' in error && typeof error.errcode === 'number')
    return !codesOfCommands.has(error.errcode & 0xff)
  // Of the operating system or of Node: no file, no memory, a database that is closed.
  if ('code' in error) return !wrongValues.has(error.code)
  return error instanceof RangeError && outOfMemory.has(error.message)
}
