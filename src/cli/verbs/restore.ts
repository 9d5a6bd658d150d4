import { restoreOptions } from '../../server/options.ts'
import { bar, StatusLine } from '../catch-up.ts'
import { UsageError } from '../io.ts'
import { stopSignal } from '../stop-signal.ts'
import { plural } from '../text.ts'
import { verb } from '../verb.ts'
import { inWords } from './in-words.ts'
import { flagsOf, serverOptions } from './up.ts'

export const restore = verb(
  {
    name: 'restore',
    summary: 'make a new cluster, of any size, that begins with what a backup holds',
    arguments: ['<file>'],
    options: flagsOf(restoreOptions),
    examples: [
      'parley restore parley.backup --data restored --replicas 3',
      'parley restore parley.backup --data /var/lib/parley --replicas 1 --host 192.0.2.1',
    ],
  },
  (given, { io }) => {
    const [file = ''] = given.arguments
    const options = serverOptions(restoreOptions, given, io.environment, undefined, false)
    if (file === '') throw new UsageError('which backup?')
    if (options.data === '')
      throw new UsageError('where to? Name a new folder: parley restore FILE --data DIR')
    return { file, options }
  },
  async ({ file, options }, { io }) =>
    inWords(async () => {
      const stop = stopSignal(io, 'stopped; nothing was made')
      const { restore: run } = await import('../../server/restore.ts')
      const line = new StatusLine(io)
      const restored = await run(options, file, (part) => line.show(bar(part)), stop)
      const { header, clusterId, replicas, faultModel, accounts, messages, start } = restored
      return {
        data: { file, data: options.data, clusterId, replicas, faultModel, accounts, messages, from: header },
        lines: [
          `${file} was made on ${header.at} of cluster ${header.clusterId} by Parley ${header.version}, at log entry ${header.index}.`,
          `${options.data} is a new cluster (${clusterId}) of ${plural(replicas, 'replica')} (${faultModel}) with ${plural(accounts, 'account')} and ${plural(messages, 'message')}.`,
          options.logOutAll
            ? 'Everybody has to sign in again.'
            : 'Whoever was signed in still is; --log-out-all would have ended all sessions.',
          `Start it: ${start}`,
        ],
      }
    }),
)
