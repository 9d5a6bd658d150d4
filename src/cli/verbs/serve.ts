import { serveOptions } from '../../server/options.ts'
import { readRemembered } from '../../server/remembered.ts'
import { UsageError } from '../io.ts'
import { verb } from '../verb.ts'
import { flagsOf, inUse, serverOptions } from './up.ts'

export const serve = verb(
  {
    name: 'serve',
    summary:
      'run one replica; what "parley init" or "parley join" was told and is marked [remembered] is read from serve.toml in its folder',
    arguments: [],
    options: flagsOf(serveOptions),
    examples: ['parley serve --data data/r1'],
  },
  (given, { io, settings }) => {
    const read = (file: unknown) => serverOptions(serveOptions, given, io.environment, file, false)
    const everywhere = settings.file['serve']
    const { data } = read(everywhere)
    const remembered = data === '' ? {} : inUse(() => readRemembered(data))
    return read(typeof everywhere === 'object' ? { ...everywhere, ...remembered } : remembered)
  },
  async (options, { io }) => {
    if (options.data === '')
      throw new UsageError('which replica? Name its data folder: parley serve --data DIR/r1')
    const { becomeReplicaProcess } = await import('../../server/replica-process.ts')
    becomeReplicaProcess()
    const { runServe } = await import('../../server/serve.ts')
    return runServe(options, io.server())
  },
)
