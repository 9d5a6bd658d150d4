import type { Message } from '../gen/parley/v1/model.ts'
import type { Client, InputOf } from './types.ts'

/** What was found, newest first. */
export interface Found {
  readonly messages: readonly Message[]
  /** Where to go on; empty when that is all. */
  readonly nextPageToken: string
}

/**
 * Searches until there are so many messages, or no more.
 *
 * A page of `searchMessages` may be short, or empty, and not be the last: a replica looks at a bounded number of messages at once, those of other people's conversations
 * included, which it passes over.
 *
 * @param count `least` messages at least, if there are as many, and `most` at most.
 * @param isWanted asked before each page: what is no longer wanted ends with what was found so far. By default it is wanted to the end.
 */
export async function findMessages(
  client: Pick<Client, 'call'>,
  request: Omit<InputOf<'searchMessages'>, 'pageSize'>,
  { least, most }: { readonly least: number; readonly most: number },
  isWanted: () => boolean = () => true,
): Promise<Found> {
  const messages: Message[] = []
  let pageToken = request.pageToken ?? ''
  do {
    const page = await client.call('searchMessages', {
      ...request,
      pageSize: most - messages.length,
      pageToken,
    })
    messages.push(...page.messages)
    pageToken = page.nextPageToken
  } while (pageToken !== '' && messages.length < least && isWanted())
  return { messages, nextPageToken: pageToken }
}
