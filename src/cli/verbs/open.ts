import type { Client } from '../../client/index.ts'
import type { Message, Target } from '../../gen/parley/v1/model.ts'
import { UsageError } from '../io.ts'
import { findConversation, Labels, parseTarget } from '../names.ts'
import { type Look, lookOf, messageJson, messageLine } from '../present.ts'
import { inboxWords } from '../sign-in.ts'
import { type Report, verb } from '../verb.ts'

export interface OpenOptions {
  /** Infinity = all. */
  readonly count: number
  readonly from: Target | null
}

const mostAtOnce = 500

export const open = verb(
  {
    name: 'open',
    summary: 'take the oldest messages out of the inbox, show them and mark them read: open 10, open all',
    arguments: ['[count]'],
    options: [['--from <conversation>', 'only from this conversation']],
    examples: ['parley open', 'parley open 10', "parley open all --from '#dev'"],
  },
  ({ arguments: [count], options }) => parseOpen(count, options['from']),
  (options, { io, session }) => openReport(session().signedIn(), options, lookOf(io)),
)

export function parseOpen(count: string | undefined, from: unknown): OpenOptions {
  const number = count === undefined ? 1 : count === 'all' ? Infinity : Number(count)
  if (!(number >= 1) || (number !== Infinity && !Number.isInteger(number)))
    throw new UsageError(`say how many to open: a number, or all, not "${count}"`)
  return { count: number, from: typeof from === 'string' ? parseTarget(from) : null }
}

export async function openReport(
  client: Client,
  { count, from }: OpenOptions,
  look: Look,
  labels = new Labels(client),
): Promise<Report> {
  const conversation = from === null ? 0 : (await findConversation(client, from)).id
  const messages: Message[] = []
  let remaining = 0
  let failure: Error | null = null
  try {
    do {
      const part = await client.call('openInbox', {
        count: Math.min(mostAtOnce, count - messages.length),
        conversation,
      })
      messages.push(...part.messages)
      remaining = part.remaining
      if (part.messages.length === 0) break
    } while (messages.length < count && remaining > 0)
    await labels.of(messages)
    await markRead(client, messages)
  } catch (error) {
    // What has been taken out of the inbox is shown, whatever happens then.
    if (messages.length === 0 || !(error instanceof Error)) throw error
    failure = error
  }
  return {
    ...(failure === null ? {} : { failure }),
    data: {
      messages: messages.map((message) => messageJson(message, labels.get(message.conversation))),
      remaining,
    },
    lines: [
      ...messages.map((message) =>
        messageLine(message, { reader: client, label: labels.get(message.conversation) }, look),
      ),
      look.colors.dim(
        messages.length === 0
          ? 'No new messages.'
          : remaining === 0
            ? 'That was all.'
            : `${inboxWords(remaining)} left.`,
      ),
    ],
  }
}

/** The oldest were opened first, so in each conversation everything up to the last one has been shown. */
async function markRead(client: Client, messages: readonly Message[]): Promise<void> {
  const upTo = new Map<number, number>()
  for (const { conversation, seq } of messages) upTo.set(conversation, seq)
  await Promise.all(
    [...upTo].map(([conversation, value]) =>
      client.call('markRead', { conversation, mark: { $case: 'upTo', value } }),
    ),
  )
}
