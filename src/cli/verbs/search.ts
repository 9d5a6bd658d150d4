import { findMessages, type Client } from '../../client/index.ts'
import type { Target } from '../../gen/parley/v1/model.ts'
import { Labels, parseTarget } from '../names.ts'
import { type Look, lookOf, messageJson, messageLine } from '../present.ts'
import { type Report, verb } from '../verb.ts'
import { wholeNumber } from './read.ts'

export interface SearchOptions {
  readonly query: string
  readonly conversation: Target | null
  readonly limit: number
}

export const search = verb(
  {
    name: 'search',
    summary: 'find messages by words; "words in quotes" must stand in that order',
    arguments: ['<words...>'],
    options: [
      ['--in <conversation>', 'only in this conversation'],
      ['--limit <n>', 'how many, 1 to 500 (default 20)'],
    ],
    examples: ['parley search lunch', `parley search '"next week"' --in '#dev'`],
  },
  ({ arguments: words, options }) => ({
    query: words.join(' '),
    conversation: typeof options['in'] === 'string' ? parseTarget(options['in']) : null,
    limit: wholeNumber('--limit', options['limit'], 20),
  }),
  (options, { io, session }) => searchReport(session().signedIn(), options, lookOf(io)),
)

export async function searchReport(
  client: Client,
  { query, conversation, limit }: SearchOptions,
  look: Look,
  labels = new Labels(client),
): Promise<Report> {
  const found = await findMessages(
    client,
    { query, ...(conversation === null ? {} : { conversation }) },
    { least: limit, most: limit },
  )
  // The newest last, where the eye is.
  const messages = [...found.messages].reverse()
  await labels.of(messages)
  return {
    data: {
      messages: found.messages.map((message) => messageJson(message, labels.get(message.conversation))),
      more: found.nextPageToken !== '',
    },
    lines: [
      ...(found.nextPageToken === '' ? [] : [look.colors.dim('(there are more)')]),
      ...messages.map((message) =>
        messageLine(message, { reader: client, label: labels.get(message.conversation) }, look),
      ),
      ...(messages.length === 0 ? [look.colors.dim('Nothing found.')] : []),
    ],
  }
}
