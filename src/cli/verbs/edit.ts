import { UsageError } from '../io.ts'
import { conversationLabel, findConversation, parseRef } from '../names.ts'
import { messageJson } from '../present.ts'
import { verb } from '../verb.ts'

export const edit = verb(
  {
    name: 'edit',
    summary: 'change the text of one of your messages',
    arguments: ['<message>', '<text...>'],
    options: [],
    examples: ['parley edit bob/12 "what I meant"', 'parley edit bob/12 - < text'],
  },
  ({ arguments: [message, ...words] }) => {
    if (words.length === 0) throw new UsageError('say the new text; - reads it from standard input')
    return {
      ...parseRef(message ?? ''),
      text: words.length === 1 && words[0] === '-' ? null : words.join(' '),
    }
  },
  async ({ target, seq, text }, { io, session }) => {
    const client = session().signedIn()
    const conversation = await findConversation(client, target)
    const response = await client.call('editMessage', {
      message: { conversation: conversation.id, seq },
      text: text ?? (await io.readInput()).replace(/\r?\n$/, ''),
    })
    return {
      data:
        response.message === undefined
          ? null
          : messageJson(response.message, conversationLabel(conversation)),
      lines: ['Changed.'],
    }
  },
)
