import { findConversation, parseRef } from '../names.ts'
import { verb } from '../verb.ts'

export const deleteMessage = verb(
  {
    name: 'delete',
    summary: 'delete a message for yourself, or one of your own for all',
    arguments: ['<message>'],
    options: [['--for-all', 'delete it for everybody; only your own messages']],
    examples: ['parley delete bob/12', "parley delete '#dev/3' --for-all"],
  },
  ({ arguments: [message], options }) => ({
    ...parseRef(message ?? ''),
    forAll: options['forAll'] === true,
  }),
  async ({ target, seq, forAll }, { session }) => {
    const client = session().signedIn()
    const { id } = await findConversation(client, target)
    await client.call('deleteMessage', { message: { conversation: id, seq }, forAll })
    return {
      data: { deleted: true, conversationId: id, seq, forAll },
      lines: [forAll ? 'Deleted for all.' : 'Deleted for you.'],
    }
  },
)
