/** A broken invariant: a bug in Parley, never a consequence of bad input. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

/**
 * Checks an invariant, in production too.
 *
 * @throws AssertionError with the values that show what is wrong.
 */
export function assert(
  condition: boolean,
  message: string,
  values?: Readonly<Record<string, unknown>>,
): asserts condition {
  if (condition) return
  throw new AssertionError(values === undefined ? message : `${message} ${JSON.stringify(values)}`)
}

/** For the default branch of an exhaustive `switch`: does not compile while a case is missing. */
export function unreachable(value: never): never {
  throw new AssertionError(`unexpected value ${JSON.stringify(value)}`)
}
