import { serveOptions } from '../../server/options.ts'
import { UsageError } from '../io.ts'
import { verb } from '../verb.ts'
import { flagsOf, serverOptions } from './up.ts'

export const serve = verb(
  {
    name: 'serve',
    summary: 'run one replica of a cluster that "parley up" made',
    arguments: [],
    options: flagsOf(serveOptions),
    examples: ['parley serve --data data/r1'],
  },
  (given, { io, settings }) =>
    serverOptions(serveOptions, given, io.environment, settings.file['serve'], false),
  async (options, { io }) => {
    if (options.data === '')
      throw new UsageError('which replica? Name its data folder: parley serve --data DIR/r1')
    const { becomeReplicaProcess } = await import('../../server/replica-process.ts')
    becomeReplicaProcess()
    const { runServe } = await import('../../server/serve.ts')
    return runServe(options, io.server())
  },
)
