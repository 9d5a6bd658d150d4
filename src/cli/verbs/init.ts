import { initOptions } from '../../server/options.ts'
import { verb } from '../verb.ts'
import { inWords } from './in-words.ts'
import { flagsOf, serverOptions } from './up.ts'

export const init = verb(
  {
    name: 'init',
    summary: 'make a new cluster with its first replica on this machine, and run it; others join it over TLS',
    arguments: [],
    options: flagsOf(initOptions),
    examples: ['parley init --host 192.0.2.1 --data /var/lib/parley'],
  },
  (given, { io, settings }) =>
    serverOptions(initOptions, given, io.environment, settings.file['serve'], false),
  async (options, { io, settings }) => {
    const { becomeReplicaProcess } = await import('../../server/replica-process.ts')
    becomeReplicaProcess()
    const { runInit } = await import('../../server/init.ts')
    return inWords(() => runInit(options, settings.json, io.server()))
  },
)
