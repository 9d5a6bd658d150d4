import { CliError, UsageError } from '../io.ts'
import { verb } from '../verb.ts'

export const recover = verb(
  {
    name: 'recover',
    summary: 'show what a replica waits for after an outage, or go on without it (fault model fail-stop)',
    arguments: [],
    options: [
      ['--data <dir>', 'the data folder of a replica that runs and waits'],
      ['--force', 'give up the replicas that it waits for, and lose what they alone hold'],
    ],
    examples: ['parley recover --data data/r1', 'parley recover --data data/r1 --force'],
  },
  ({ options: { data, force } }) => {
    if (typeof data !== 'string' || data === '')
      throw new UsageError('which replica? Name its data folder: parley recover --data DIR/r1')
    return { data, force: force === true }
  },
  async ({ data, force }, { io }) => {
    const { lossOf, orderRecovery, readWaiting } = await import('../../server/outage.ts')
    const waiting = readWaiting(data)
    if (waiting === null)
      throw new CliError(
        `no replica that runs in ${data} waits for others. Start it first; while it waits, "parley status" names them`,
      )
    const loss = lossOf(waiting)
    const names = waiting.waitingFor.join(' and ')
    if (!force) {
      const way = `Start ${names} again, and nothing is lost. Only if that cannot be: parley recover --data ${data} --force`
      return { data: { ...waiting, forced: false }, lines: [...loss, way] }
    }
    for (const line of loss) io.err(line)
    orderRecovery(data, waiting)
    return { data: { ...waiting, forced: true }, lines: [`${waiting.replica} goes on without ${names}.`] }
  },
)
