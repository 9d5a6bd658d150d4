import { ParleyError } from '../../client/index.ts'
import { CliError, UsageError } from '../io.ts'

/** Says what goes wrong with files and folders of this machine as any other failure of a verb is said. @throws CliError for it. */
export async function inWords<T>(work: () => Promise<T>): Promise<T> {
  const { problemOf } = await import('../../server/problems.ts')
  try {
    return await work()
  } catch (error) {
    if (error instanceof ParleyError || error instanceof CliError || error instanceof UsageError) throw error
    throw new CliError(problemOf(error))
  }
}
