import { OptionError, type OptionSchema, readOptions, upOptions } from '../../server/options.ts'
import { UsageError } from '../io.ts'
import { type Given, type Verb, verb } from '../verb.ts'

export const up = verb(
  {
    name: 'up',
    summary: 'run a cluster on this machine, one process per replica, until Ctrl-C',
    arguments: [],
    options: flagsOf(upOptions),
    examples: ['parley up', 'parley up --replicas 3 --data /var/lib/parley'],
  },
  (given, { io, settings }) =>
    serverOptions(upOptions, given, io.environment, settings.file['up'], settings.json),
  async (options, { io }) => {
    // Not before it is wanted: the server is large.
    const { runUp } = await import('../../server/up.ts')
    return runUp(options, io.server())
  },
)

/** The schema's flags in the form that verbs declare them in; `--json` is every verb's. */
export function flagsOf(schema: OptionSchema): Verb['options'] {
  return Object.values(schema)
    .filter(({ flag }) => flag !== '--json')
    .map((option) => [
      option.flag,
      `${option.help}${option.type === 'switch' || option.default === '' ? '' : ` (default ${option.default})`}${option.remembered === true ? ' [remembered]' : ''}`,
    ])
}

export function serverOptions<S extends OptionSchema>(
  schema: S,
  { options }: Given,
  environment: Readonly<Record<string, string | undefined>>,
  file: unknown,
  json: boolean,
): ReturnType<typeof readOptions<S>> {
  return inUse(() =>
    readOptions(schema, {
      flags: json ? { ...options, json } : options,
      environment,
      file: typeof file === 'object' && file !== null ? { ...file } : {},
    }),
  )
}

/** What is wrong with a setting is wrong with how the verb was used. */
export function inUse<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof OptionError) throw new UsageError(error.message)
    throw error
  }
}
