import type { Io } from './io.ts'
import type { Settings } from './config.ts'
import type { Session } from './session.ts'

/** What stands on the command line behind the verb. */
export interface Given {
  readonly arguments: readonly string[]
  /** By long flag in camel case: `pageSize` for `--page-size`. */
  readonly options: Readonly<Record<string, unknown>>
}

/** What a verb works with. */
export interface Context {
  readonly io: Io
  readonly settings: Settings
  /** The connection to the cluster; made when it is asked for first. */
  readonly session: () => Session
}

/** What a verb has to say: as data for `--json`, and in lines for people. */
export interface Report {
  readonly data: unknown
  readonly lines: readonly string[]
  readonly exitCode?: number
  /** What went wrong when a part had been done: it is told after the rest, and decides about the exit code. */
  readonly failure?: Error
}

/** A verb of the command line. */
export interface Verb {
  /** One word, or two: `rooms create`. */
  readonly name: string
  /** One phrase for the list of verbs. */
  readonly summary: string
  /** In commander's way: `<name>`, `[name]`, `[text...]`. */
  readonly arguments: readonly string[]
  /** Flags in commander's way, with what they do. */
  readonly options: readonly (readonly [flags: string, description: string])[]
  /** Shown below the help. */
  readonly examples?: readonly string[]
  /** Null: everything was printed already. */
  readonly execute: (given: Given, context: Context) => Promise<Report | number>
}

/** Puts the two halves of a verb together: what is wrong in the command line is found before anything is done. */
export function verb<O>(
  description: Omit<Verb, 'execute'>,
  parse: (given: Given, context: Pick<Context, 'io' | 'settings'>) => O,
  run: (options: O, context: Context) => Promise<Report | number>,
): Verb {
  return { ...description, execute: (given, context) => run(parse(given, context), context) }
}
