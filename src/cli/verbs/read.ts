import type { Client } from '../../client/index.ts'
import type { Target } from '../../gen/parley/v1/model.ts'
import { exitCodes, UsageError } from '../io.ts'
import { findConversation, Labels, parseTarget } from '../names.ts'
import { type Look, lookOf, messageJson, messageLine } from '../present.ts'
import { exitCodeOf } from '../session.ts'
import { type Report, verb } from '../verb.ts'

export interface ReadOptions {
  readonly conversation: Target
  readonly before: number
  readonly limit: number
  readonly mark: boolean
}

export const read = verb(
  {
    name: 'read',
    summary: 'show the newest messages of a conversation and mark them read',
    arguments: ['<conversation>'],
    options: [
      ['--before <seq>', 'only messages before this number; marks nothing'],
      ['--limit <n>', 'how many, 1 to 500 (default 20)'],
      ['--keep-unread', 'do not mark them read'],
    ],
    examples: ['parley read bob', "parley read '#dev' --before 120 --limit 50"],
  },
  ({ arguments: [conversation], options }) =>
    parseRead(conversation ?? '', {
      before: options['before'],
      limit: options['limit'],
      keepUnread: options['keepUnread'],
    }),
  (options, { io, session }) => readReport(session().signedIn(), options, lookOf(io)),
)

export function parseRead(
  conversation: string,
  options: { readonly before?: unknown; readonly limit?: unknown; readonly keepUnread?: unknown },
): ReadOptions {
  const before = wholeNumber('--before', options.before, 0)
  const limit = wholeNumber('--limit', options.limit, 20)
  if (limit < 1 || limit > 500) throw new UsageError(`--limit is 1 to 500, not ${limit}`)
  return {
    conversation: parseTarget(conversation),
    before,
    limit,
    mark: before === 0 && options.keepUnread !== true,
  }
}

export function wholeNumber(flag: string, value: unknown, fallback: number): number {
  if (value === undefined) return fallback
  if (typeof value === 'string' && /^[0-9]{1,15}$/.test(value)) return Number(value)
  throw new UsageError(`${flag} takes a whole number, not "${String(value)}"`)
}

export async function readReport(
  client: Client,
  options: ReadOptions,
  look: Look,
  labels = new Labels(client),
): Promise<Report> {
  const page = await client.call('listMessages', {
    conversation: options.conversation,
    beforeSeq: options.before,
    pageSize: options.limit,
  })
  const last = page.messages.at(-1)
  if (last === undefined)
    return { data: { messages: [], more: false }, lines: [look.colors.dim('No messages yet.')] }
  if (!labels.has(last.conversation)) labels.note(await findConversation(client, options.conversation))
  if (options.mark) await markRead(client, last.conversation, page.lastSeq)
  const label = labels.get(last.conversation)
  return {
    data: { messages: page.messages.map((message) => messageJson(message, label)), more: page.more },
    lines: [
      ...(page.more ? [look.colors.dim(`(earlier ones: read ${label} --before ${page.firstSeq})`)] : []),
      ...page.messages.map((message) => messageLine(message, { reader: client, label }, look)),
    ],
  }
}

/** What is stored can be read when nothing can be written; then it is not marked. */
async function markRead(client: Client, conversation: number, upTo: number): Promise<void> {
  if (client.state.kind === 'noQuorum') return
  try {
    await client.call('markRead', { conversation, mark: { $case: 'upTo', value: upTo } })
  } catch (error) {
    if (exitCodeOf(error) !== exitCodes.unavailable) throw error
  }
}
