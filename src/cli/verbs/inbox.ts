import type { Client } from '../../client/index.ts'
import { conversationLabel } from '../names.ts'
import { inboxCount, inboxWords } from '../sign-in.ts'
import { printable, table } from '../text.ts'
import { type Report, verb } from '../verb.ts'

export const inbox = verb(
  { name: 'inbox', summary: 'how many messages wait, and from whom', arguments: [], options: [] },
  () => ({}),
  (_, { session }) => inboxReport(session().signedIn()),
)

export async function inboxReport(client: Client): Promise<Report> {
  const { count, conversations } = await client.call('getInbox', {})
  const rows = conversations.map((one) => ({
    conversation: conversationLabel({ id: one.conversation, kind: one.kind, name: one.name }),
    count: one.count,
  }))
  return {
    data: { count, conversations: rows },
    lines: [
      count === 0 ? 'No new messages.' : `${inboxWords(count)} in the inbox: open them with "open N".`,
      ...table(rows.map((row) => [`  ${printable(row.conversation)}`, inboxCount(row.count)])),
    ],
  }
}
