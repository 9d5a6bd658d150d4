import { type Client, ParleyError } from '../../client/index.ts'
import type { Settings } from '../config.ts'
import { CliError, type Io, UsageError } from '../io.ts'
import { everyone, findConversation, parseRef, parseRoom, parseTarget } from '../names.ts'
import { lookOf } from '../present.ts'
import { closest, type Paint, printable, wrapWords } from '../text.ts'
import type { Report } from '../verb.ts'
import {
  draftsReport,
  editDraft,
  newDraft,
  recipientsFrom,
  removeDrafts,
  sendDrafts,
} from '../verbs/drafts.ts'
import { inboxReport } from '../verbs/inbox.ts'
import { listReport } from '../verbs/list.ts'
import { openReport, parseOpen } from '../verbs/open.ts'
import { parseRead, readReport } from '../verbs/read.ts'
import { membersReport, roomsReport } from '../verbs/rooms.ts'
import { searchReport } from '../verbs/search.ts'
import { Survey } from '../verbs/status.ts'
import type { Talk } from './talk.ts'

/** What a command of the interactive client works with. */
export interface CommandContext {
  readonly talk: Talk
  readonly io: Pick<Io, 'nowMs' | 'createClient' | 'color' | 'after' | 'columns' | 'isTerminal'>
  readonly settings: Settings
  readonly colors: Paint
  /** The next line that is entered answers this, and goes nowhere else. */
  readonly ask: (question: string, answered: (line: string) => void) => void
  readonly quit: () => void
  /** Ends the session, then quits. */
  readonly signOut: () => void
  /** The session is no more: forget it, then quit. */
  readonly forget: () => void
}

interface Command {
  readonly name: string
  readonly synonyms?: readonly string[]
  readonly usage: string
  readonly summary: string
  readonly run: (rest: string, context: CommandContext) => Promise<void> | void
}

/** How wide the first column of /help is. */
const usageColumns = 30

const commands: readonly Command[] = [
  {
    name: 'msg',
    synonyms: ['send', 'm'],
    usage: '/msg NAME text',
    summary: 'send to somebody, or to a #room',
    run(rest, { talk }) {
      const [to, text] = firstWord(rest)
      if (text === '') throw new UsageError('/msg NAME text')
      talk.send(parseTarget(to), text)
    },
  },
  {
    name: 'all',
    usage: '/all text',
    summary: 'send to everyone',
    run(rest, { talk }) {
      if (rest === '') throw new UsageError('/all text')
      talk.send(everyone, rest)
    },
  },
  {
    name: 'query',
    synonyms: ['q'],
    usage: '/query NAME or #room',
    summary: 'open a conversation: plain lines go there; without a name: close it',
    run(rest, { talk }) {
      if (rest === '') {
        talk.leave(talk.openLabel ?? '')
        return
      }
      return talk.open(parseTarget(rest))
    },
  },
  {
    name: 'list',
    synonyms: ['l'],
    usage: '/list PATTERN',
    summary: 'list accounts: /list al*',
    run: (rest, context) => print(context, listReport(context.talk.client, rest, context.colors)),
  },
  {
    name: 'inbox',
    synonyms: ['check'],
    usage: '/inbox',
    summary: 'how many messages wait, and from whom',
    run: (_, context) => print(context, inboxReport(context.talk.client)),
  },
  {
    name: 'open',
    usage: '/open N or all',
    summary: 'take the oldest messages out of the inbox and show them',
    run(rest, context) {
      const [count, from] = firstWord(rest)
      const options = parseOpen(count === '' ? undefined : count, from === '' ? undefined : from)
      return print(context, openReport(context.talk.client, options, lookOf(context.io), context.talk.labels))
    },
  },
  {
    name: 'read',
    usage: '/read NAME or #room [before]',
    summary: 'show earlier messages; before: a number',
    run(rest, context) {
      const [first, second] = firstWord(rest)
      const label = first === '' ? context.talk.openLabel : first
      if (label === null) throw new UsageError('/read NAME or #room')
      const options = parseRead(label, { before: second === '' ? undefined : second })
      return print(context, readReport(context.talk.client, options, lookOf(context.io), context.talk.labels))
    },
  },
  {
    name: 'search',
    usage: '/search words',
    summary: 'find messages; "words in quotes" must stand in that order',
    run(rest, context) {
      if (rest === '') throw new UsageError('/search words')
      const options = { query: rest, conversation: null, limit: 20 }
      return print(
        context,
        searchReport(context.talk.client, options, lookOf(context.io), context.talk.labels),
      )
    },
  },
  {
    name: 'edit',
    usage: '/edit bob/12 text',
    summary: 'change one of your messages',
    async run(rest, { talk }) {
      const [name, text] = firstWord(rest)
      const { target, seq } = parseRef(name)
      if (text === '') throw new UsageError('/edit bob/12 text')
      const { id } = await findConversation(talk.client, target)
      await talk.client.call('editMessage', { message: { conversation: id, seq }, text })
    },
  },
  {
    name: 'delete',
    usage: '/delete bob/12 [all]',
    summary: 'delete a message for yourself, or your own for all',
    async run(rest, { talk, colors }) {
      const [name, all] = firstWord(rest)
      const { target, seq } = parseRef(name)
      if (all !== '' && all !== 'all') throw new UsageError('/delete bob/12 [all]')
      const { id } = await findConversation(talk.client, target)
      await talk.client.call('deleteMessage', {
        message: { conversation: id, seq },
        forAll: all === 'all',
      })
      if (all === '') talk.tell(colors.dim('Deleted for you.'))
    },
  },
  {
    name: 'drafts',
    synonyms: ['draft'],
    usage: '/drafts [new NAMES text | edit ID text | send ID… or all | rm ID… or all]',
    summary: 'texts that wait to be sent',
    run: (rest, context) => print(context, runDrafts(rest, context)),
  },
  {
    name: 'rooms',
    usage: '/rooms [PATTERN | create NAME [topic]]',
    summary: 'list rooms, or make one',
    async run(rest, context) {
      const [first, second] = firstWord(rest)
      if (first !== 'create') return print(context, roomsReport(context.talk.client, rest, context.colors))
      const [name, topic] = firstWord(second)
      await context.talk.client.call('createRoom', { name: parseRoom(name), topic })
      await context.talk.open({ target: { $case: 'room', value: parseRoom(name) } })
    },
  },
  {
    name: 'join',
    synonyms: ['j'],
    usage: '/join #room',
    summary: 'enter a room and open it',
    async run(rest, { talk }) {
      const name = parseRoom(rest)
      await talk.client.call('joinRoom', { name }).catch((error: unknown) => {
        if (!(error instanceof ParleyError) || error.reason !== 'REASON_ALREADY_A_MEMBER') throw error
      })
      await talk.open({ target: { $case: 'room', value: name } })
    },
  },
  {
    name: 'leave',
    synonyms: ['part'],
    usage: '/leave #room',
    summary: 'leave a room',
    async run(rest, { talk }) {
      const name = parseRoom(rest === '' ? (talk.openLabel ?? '') : rest)
      await talk.client.call('leaveRoom', { name })
      talk.leave(`#${name}`)
    },
  },
  {
    name: 'invite',
    usage: '/invite NAME [#room]',
    summary: 'bring somebody into a room',
    async run(rest, { talk, colors }) {
      const [account, room] = firstWord(rest)
      const name = parseRoom(room === '' ? (talk.openLabel ?? '') : room)
      await talk.client.call('inviteToRoom', { name, account })
      talk.tell(colors.dim(`${printable(account)} is in #${name} now.`))
    },
  },
  {
    name: 'who',
    usage: '/who [#room]',
    summary: 'who is in the room; without a room, everybody',
    run(rest, context) {
      const label = rest === '' ? context.talk.openLabel : rest
      return print(
        context,
        label?.startsWith('#') === true
          ? membersReport(context.talk.client, label, context.colors)
          : listReport(context.talk.client, '', context.colors),
      )
    },
  },
  {
    name: 'status',
    usage: '/status',
    summary: 'the replicas, and how many more may fail',
    async run(_, context) {
      const survey = new Survey(context.talk.client.addresses, context.io)
      try {
        await print(context, survey.report())
      } finally {
        survey.close()
      }
    },
  },
  {
    name: 'delete-account',
    usage: '/delete-account',
    summary: 'delete your account for good',
    run(_, { talk, ask, forget, colors }) {
      const name = talk.client.account?.name ?? ''
      ask(
        `This deletes ${printable(name)} for good. Type the name to do it, anything else to keep it.`,
        (line) => {
          if (line.trim().toLowerCase() !== name.toLowerCase()) {
            talk.tell(colors.dim('Nothing was deleted.'))
            return
          }
          talk.client.request('deleteAccount', { confirmName: name }, {}, (error) => {
            if (error === null) forget()
            else talk.tell(colors.red(printable(error.message)))
          })
        },
      )
    },
  },
  {
    name: 'logout',
    usage: '/logout',
    summary: 'sign out and quit',
    run: (_, { signOut }) => signOut(),
  },
  {
    name: 'help',
    synonyms: ['?', 'h'],
    usage: '/help',
    summary: 'this list',
    run: (_, { talk, colors, io }) => talk.print(helpLines(io.columns(), colors).join('\n')),
  },
  {
    name: 'quit',
    synonyms: ['exit', 'bye', 'disconnect'],
    usage: '/quit',
    summary: 'quit; you stay signed in',
    run: (_, { quit }) => quit(),
  },
]

/** Two columns where they fit, else what a command does below the command. */
export function helpLines(columns: number, colors: Paint): readonly string[] {
  const indent = columns < 2 * usageColumns ? 4 : usageColumns + 2
  const intro = 'A plain line goes to the open conversation; // in front sends a line that begins with /.'
  return [
    ...wrapWords(intro, columns),
    ...commands.flatMap(({ usage, summary }) => {
      const [first = '', ...rest] = wrapWords(summary, columns - indent).map(
        (line) => ' '.repeat(indent) + line,
      )
      const isBeside = usage.length + 2 <= indent
      const head = wrapWords(usage, columns).map(colors.bold)
      return isBeside ? [colors.bold(usage) + first.slice(usage.length), ...rest] : [...head, first, ...rest]
    }),
  ]
}

/** Does what a line says; what goes wrong is printed. */
export function runLine(line: string, context: CommandContext): void {
  const { talk, colors } = context
  const failed = (error: unknown): void => {
    if (!(error instanceof UsageError || error instanceof CliError || error instanceof ParleyError))
      throw error
    const violations = error instanceof ParleyError ? error.violations : []
    talk.tell(
      [
        colors.red(printable(error.message)),
        ...violations.map(({ field, description }) =>
          colors.red(`  ${printable(field)}: ${printable(description)}`),
        ),
      ].join('\n'),
    )
  }
  try {
    const done = dispatch(line, context)
    if (done instanceof Promise) void done.catch(failed)
  } catch (error) {
    failed(error)
  }
}

function dispatch(line: string, context: CommandContext): Promise<void> | void {
  const { talk } = context
  if (line.trim() === '') return
  if (!line.startsWith('/') || line.startsWith('//')) {
    const target = talk.openTarget
    if (target === null)
      throw new UsageError('No conversation is open: /query NAME opens one, /msg NAME text sends without.')
    talk.send(target, line.startsWith('//') ? line.slice(1) : line)
    return
  }
  const [word, rest] = firstWord(line.slice(1))
  const name = word.toLowerCase()
  const command = commands.find((one) => one.name === name || one.synonyms?.includes(name) === true)
  if (command === undefined) {
    const meant = closest(name, commandNames())
    throw new UsageError(
      `There is no /${printable(word)}${meant === null ? '' : `; did you mean /${meant}?`} /help shows what there is.`,
    )
  }
  return command.run(rest, context)
}

export function commandNames(): readonly string[] {
  return commands.map(({ name }) => name)
}

/** What may stand at the end of the line: a command, or a name. When the replicas tell no names, one of those that are known. */
export async function completeLine(
  line: string,
  talk: Pick<Talk, 'client' | 'labels'>,
): Promise<readonly [candidates: readonly string[], part: string]> {
  if (/^\/[^\s]*$/.test(line))
    return [
      commandNames()
        .map((name) => `/${name} `)
        .filter((name) => name.startsWith(line)),
      line,
    ]
  const part = /[^\s,]*$/.exec(line)?.[0] ?? ''
  if (!line.startsWith('/') || part === '') return [[], part]
  const known = talk.labels.all().filter((label) => label.toLowerCase().startsWith(part.toLowerCase()))
  const found = await namesFrom(part, talk.client)
  return [[...new Set([...known, ...found])].sort().map((name) => `${name} `), part]
}

const mostCandidates = 50
/** The keyboard waits for the answer. */
const completeWithinMs = 500

async function namesFrom(part: string, client: Client): Promise<readonly string[]> {
  const { kind } = client.state
  if (kind !== 'connected' && kind !== 'noQuorum') return []
  try {
    return part.startsWith('#') ? await roomsFrom(part.slice(1), client) : await accountsFrom(part, client)
  } catch (error) {
    if (!(error instanceof ParleyError)) throw error
    return []
  }
}

async function accountsFrom(part: string, client: Client): Promise<readonly string[]> {
  if (!/^[A-Za-z0-9_-]+$/.test(part)) return []
  const { accounts } = await client.call(
    'listAccounts',
    { pattern: `${part}*`, pageSize: mostCandidates },
    { timeoutMs: completeWithinMs },
  )
  return accounts.map(({ name }) => name)
}

async function roomsFrom(part: string, client: Client): Promise<readonly string[]> {
  const { rooms } = await client.call(
    'listRooms',
    { pattern: `${part}*`, pageSize: mostCandidates },
    { timeoutMs: completeWithinMs },
  )
  return rooms.map(({ name }) => `#${name}`)
}

function runDrafts(rest: string, context: CommandContext): Promise<Report> {
  const { client } = context.talk
  const [verb, more] = firstWord(rest)
  const names = more.split(/\s+/).filter((name) => name !== '')
  switch (verb) {
    case '':
    case 'list':
      return draftsReport(client, lookOf(context.io))
    case 'new': {
      const [to, text] = firstWord(more)
      return newDraft(client, { text, recipients: recipientsFrom(to) ?? [] })
    }
    case 'edit': {
      const [name, text] = firstWord(more)
      if (text === '') throw new UsageError('/drafts edit ID text')
      return editDraft(client, name, { text, recipients: null })
    }
    case 'send':
      return sendDrafts(client, which(names), lookOf(context.io))
    case 'rm':
      return removeDrafts(client, which(names))
    default:
      throw new UsageError('/drafts [new NAMES text | edit ID text | send ID… or all | rm ID… or all]')
  }
}

function which(names: readonly string[]): readonly string[] | null {
  if (names.length === 0) throw new UsageError('say which drafts, as /drafts names them, or all')
  return names.length === 1 && names[0] === 'all' ? null : names
}

async function print({ talk }: CommandContext, report: Promise<Report>): Promise<void> {
  const { lines, failure } = await report
  if (lines.length > 0) talk.print(lines.join('\n'))
  talk.draw()
  if (failure !== undefined) throw failure
}

function firstWord(text: string): readonly [word: string, rest: string] {
  const [, word = '', rest = ''] = /^\s*(\S*)\s*([\s\S]*)$/.exec(text) ?? []
  return [word, rest]
}
