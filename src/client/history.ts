import type { Message, Target } from '../gen/parley/v1/model.ts'
import type { Client } from './types.ts'

const pageSize = 500

/**
 * All messages of a conversation from the first one on, in order, page by page; without those that the account deleted for itself.
 *
 * `listMessages` goes on from a number, or back from the end; the beginning it reaches by going back from a number that is near it.
 */
export async function* history(client: Client, conversation: Target): AsyncGenerator<readonly Message[]> {
  const beginning: (readonly Message[])[] = []
  for (let beforeSeq = pageSize + 1; ;) {
    const page = await client.call('listMessages', { conversation, beforeSeq, pageSize })
    beginning.unshift(page.messages)
    if (!page.more || page.firstSeq === 0) break
    beforeSeq = page.firstSeq
  }
  yield* beginning
  for (let afterSeq = pageSize; ;) {
    const page = await client.call('listMessages', { conversation, afterSeq, pageSize })
    yield page.messages
    if (!page.more) return
    afterSeq = page.lastSeq
  }
}
