import { Command, CommanderError, Option } from 'commander'
import { ParleyError } from '../client/index.ts'
import { type GlobalFlags, readSettings } from './config.ts'
import { CliError, exitCodes, type Io, UsageError } from './io.ts'
import { exitCodeOf, openSession, type Session } from './session.ts'
import { closest, printable, safeJson } from './text.ts'
import type { Context, Report, Verb } from './verb.ts'
import { accountDelete } from './verbs/account-delete.ts'
import { backup } from './verbs/backup.ts'
import { bench } from './verbs/bench.ts'
import { completionVerb } from './verbs/completion.ts'
import { deleteMessage } from './verbs/delete.ts'
import { draftsEdit, draftsList, draftsNew, draftsRemove, draftsSend } from './verbs/drafts.ts'
import { edit } from './verbs/edit.ts'
import { exportVerb } from './verbs/export.ts'
import { inbox } from './verbs/inbox.ts'
import { init } from './verbs/init.ts'
import { join } from './verbs/join.ts'
import { list } from './verbs/list.ts'
import { login } from './verbs/login.ts'
import { logout } from './verbs/logout.ts'
import { open } from './verbs/open.ts'
import { passwd } from './verbs/passwd.ts'
import { policyGet, policySet } from './verbs/policy.ts'
import { read } from './verbs/read.ts'
import { recover } from './verbs/recover.ts'
import { register } from './verbs/register.ts'
import {
  leave,
  replicaAdd,
  replicaList,
  replicaPromote,
  replicaRemove,
  replicaReplace,
  replicaTransfer,
} from './verbs/replica.ts'
import { restore } from './verbs/restore.ts'
import {
  roomsCreate,
  roomsInvite,
  roomsJoin,
  roomsLeave,
  roomsList,
  roomsMembers,
  roomsRetention,
} from './verbs/rooms.ts'
import { search } from './verbs/search.ts'
import { send } from './verbs/send.ts'
import { serve } from './verbs/serve.ts'
import { sessionsList, sessionsRevoke } from './verbs/sessions.ts'
import { status } from './verbs/status.ts'
import { tokenCreate, tokenList, tokenRevoke } from './verbs/token.ts'
import { up } from './verbs/up.ts'
import { watch } from './verbs/watch.ts'
import { whoami } from './verbs/whoami.ts'

const groups: readonly (readonly [heading: string, verbs: readonly Verb[]])[] = [
  [
    'Talk',
    [
      send,
      inbox,
      open,
      read,
      watch,
      search,
      edit,
      deleteMessage,
      draftsList,
      draftsNew,
      draftsEdit,
      draftsSend,
      draftsRemove,
      roomsList,
      roomsCreate,
      roomsJoin,
      roomsLeave,
      roomsInvite,
      roomsMembers,
      roomsRetention,
      list,
    ],
  ],
  [
    'Account',
    [register, login, logout, whoami, passwd, sessionsList, sessionsRevoke, exportVerb, accountDelete],
  ],
  [
    'Cluster',
    [
      up,
      init,
      join,
      serve,
      status,
      recover,
      replicaList,
      replicaAdd,
      replicaRemove,
      replicaPromote,
      replicaTransfer,
      replicaReplace,
      leave,
      tokenCreate,
      tokenList,
      tokenRevoke,
      policyGet,
      policySet,
      backup,
      restore,
      bench,
    ],
  ],
  ['Shell', [completionVerb(() => ({ verbs, globalOptions }))]],
]

export const verbs: readonly Verb[] = groups.flatMap(([, members]) => members)

const summaries: Readonly<Record<string, string>> = {
  drafts: 'texts that wait to be sent: list, new, edit, send, rm',
  rooms: 'rooms: list, create, join, leave, invite, members, retention',
  sessions: 'signed-in devices: list, revoke',
  account: 'the account itself: delete',
  policy: 'settings of the cluster: get, set',
  token: 'tokens with which replicas join: create, list, revoke',
  replica: 'the replicas of the cluster: list, add, remove, promote, transfer, replace',
}

/** What a group does when no second word is given. */
const defaults: readonly string[] = [
  'drafts list',
  'rooms list',
  'sessions list',
  'policy get',
  'replica list',
  'token list',
]

export const globalOptions: Verb['options'] = [
  ['--json', 'print data as JSON: one object, or one to a line for streams'],
  [
    '-s, --server <addresses>',
    'replicas, host:port or parleys://host:port#sha256=FINGERPRINT, separated by commas (PARLEY_SERVER; default localhost:7400 to 7404)',
  ],
  ['--profile <name>', 'which profile of config.toml, and whose session (PARLEY_PROFILE; default "default")'],
  ['--timeout <seconds>', 'how long to try (PARLEY_TIMEOUT; default 10)'],
  ['--log-out', 'the interactive client signs out when it ends, by a signal too'],
]

/** Runs one command line. Returns the exit code, when all that was printed is out. */
export async function runCli(
  argv: readonly string[],
  io: Io,
  interactive: (context: Context) => Promise<number>,
): Promise<number> {
  // Decided before commander has a word: also its own complaints are said as JSON then.
  const json = argv.includes('--json')
  try {
    const code = await runLine(argv, io, json, interactive)
    const out = io.drained()
    // One complaint is enough.
    await (code === exitCodes.ok ? out : out.catch(() => false))
    return code
  } catch (error) {
    return complain(error, io, json)
  }
}

async function runLine(
  argv: readonly string[],
  io: Io,
  json: boolean,
  interactive: (context: Context) => Promise<number>,
): Promise<number> {
  let exitCode: number = exitCodes.ok
  const program = makeProgram(io, json, async (one, given, flags) => {
    exitCode = await runVerb(io, flags, (context) => one.execute(given, context))
  })
  try {
    const { operands, unknown } = program.parseOptions([...argv])
    if (operands.length === 0 && unknown.length === 0) {
      if (!io.canAsk || !io.isTerminal)
        throw new UsageError(
          'the interactive client needs a terminal; "parley --help" shows the verbs for everything else',
        )
      return await runVerb(io, program.opts<GlobalFlags>(), interactive)
    }
    await program.parseAsync([...argv], { from: 'user' })
    return exitCode
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage
    throw error
  }
}

async function runVerb(
  io: Io,
  flags: GlobalFlags,
  work: (context: Context) => Promise<Report | number>,
): Promise<number> {
  const json = flags.json ?? false
  let session: Session | null = null
  try {
    const settings = readSettings(flags, io.environment, io.files)
    const context: Context = { io, settings, session: () => (session ??= openSession(settings, io)) }
    const report = await work(context)
    if (typeof report === 'number') return report
    if (json) io.out(safeJson(report.data))
    else for (const line of report.lines) io.out(line)
    if (report.failure !== undefined) return complain(report.failure, io, json)
    return report.exitCode ?? exitCodes.ok
  } catch (error) {
    return complain(error, io, json)
  } finally {
    // The compiler does not see that the context may have set it.
    ;(session as Session | null)?.close()
  }
}

/** Says what went wrong, on stderr, and returns the exit code. */
function complain(error: unknown, io: Io, json: boolean): number {
  if (error instanceof UsageError) {
    io.err(
      json
        ? safeJson({ error: { reason: 'USAGE', message: error.message } })
        : `parley: ${printable(error.message)}`,
    )
    return exitCodes.usage
  }
  const code = exitCodeOf(error)
  if (error instanceof ParleyError) {
    const { reason, message, outcome, violations } = error
    if (json)
      io.err(safeJson({ error: { reason: reason.replace('REASON_', ''), message, outcome, violations } }))
    else {
      io.err(`parley: ${printable(message)}`)
      for (const { field, description } of violations)
        // The message of a single one says all.
        if (!message.includes(description)) io.err(`  ${printable(field)}: ${printable(description)}`)
      if (code === exitCodes.notSignedIn) io.err('Sign in with: parley login')
    }
    return code
  }
  const message = error instanceof Error ? error.message : String(error)
  if (json)
    io.err(safeJson({ error: { reason: error instanceof CliError ? reasonOf(code) : 'INTERNAL', message } }))
  else io.err(`parley: ${message}`)
  return code
}

/** In the words of the replicas, where they have one for it. */
function reasonOf(exitCode: number): string {
  if (exitCode === exitCodes.notSignedIn) return 'NOT_SIGNED_IN'
  return exitCode === exitCodes.unavailable ? 'UNAVAILABLE' : 'ERROR'
}

type RunVerb = (
  verb: Verb,
  given: { readonly arguments: readonly string[]; readonly options: Readonly<Record<string, unknown>> },
  flags: GlobalFlags,
) => Promise<void>

function makeProgram(io: Io, json: boolean, run: RunVerb): Command {
  const program = new Command('parley')
    .description(
      'Parley, a chat that keeps talking while its servers die.\n\nWithout a verb: the interactive client.',
    )
    .usage('[verb] [options]')
    .version(version, '-V, --version', 'print the version')
    .helpCommand('help [verb]', 'show what a verb does')
    .showHelpAfterError(json ? false : '("parley --help" shows all verbs)')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.out(text.trimEnd()),
      writeErr: (text) => io.err(text.trimEnd()),
      getOutHelpWidth: () => io.columns(),
      getErrHelpWidth: () => io.columns(),
      outputError: (text, write) => {
        const message = text.replace(/^error: /, '').trimEnd()
        write(json ? safeJson({ error: { reason: 'USAGE', message } }) : `parley: ${message}`)
      },
    })
    .configureHelp({ showGlobalOptions: true })
  for (const [flags, description] of globalOptions) program.addOption(new Option(flags, description))
  for (const [heading, members] of groups) for (const one of members) addVerb(program, heading, one, run)
  return program
}

function addVerb(program: Command, heading: string, one: Verb, run: RunVerb): void {
  const [first = '', second] = one.name.split(' ')
  const parent = second === undefined ? program : groupOf(program, heading, first)
  const command = parent
    .command(second ?? first, { isDefault: defaults.includes(one.name) })
    .description(one.summary)
  if (second === undefined) command.helpGroup(`${heading}:`)
  for (const argument of one.arguments) command.argument(argument)
  for (const [flags, description] of one.options) command.addOption(new Option(flags, description))
  if (one.examples !== undefined) command.addHelpText('after', `\nExamples:\n  ${one.examples.join('\n  ')}`)
  command.action(async (...all: unknown[]) => {
    const words = all.slice(0, one.arguments.length).flat()
    await run(
      one,
      { arguments: words.filter((word) => typeof word === 'string'), options: command.opts() },
      program.opts<GlobalFlags>(),
    )
  })
}

function groupOf(program: Command, heading: string, name: string): Command {
  const known = program.commands.find((command) => command.name() === name)
  if (known !== undefined) return known
  return program
    .command(name)
    .description(summaries[name] ?? '')
    .helpGroup(`${heading}:`)
    .hook('preSubcommand', checkSecondWord)
}

/** Commander takes a second word that it does not know for an argument of what the group does by default. */
function checkSecondWord(group: Command, command: Command): void {
  const flagAt = group.args.findIndex((word) => word.startsWith('-'))
  const words = flagAt < 0 ? group.args : group.args.slice(0, flagAt)
  const known = group.commands.map((one) => one.name())
  const [word] = words
  if (word === undefined || known.includes(word) || words.length <= command.registeredArguments.length) return
  const meant = closest(word, known)
  group.error(
    `error: unknown command '${group.name()} ${word}'${meant === null ? '' : `\n(Did you mean ${group.name()} ${meant}?)`}`,
  )
}

const version = '0.1.0'
