import type { Target } from '../../gen/parley/v1/model.ts'
import { UsageError } from '../io.ts'
import { everyone, parseTarget, targetLabel } from '../names.ts'
import { deliveryWords, time } from '../present.ts'
import { verb } from '../verb.ts'

export const send = verb(
  {
    name: 'send',
    summary: 'send a message to somebody, to a room or to all',
    arguments: ['[to]', '[text...]'],
    options: [['--all', 'to everyone: all arguments are the text']],
    examples: [
      'parley send bob "are you there?"',
      "parley send '#dev' it works",
      'parley send --all lunch',
      'git log -1 | parley send bob -',
    ],
  },
  ({ arguments: words, options }): { readonly to: Target; readonly text: string | null } => {
    const all = options['all'] === true
    const [first, ...rest] = words
    if (!all && first === undefined) throw new UsageError('say to whom, and what')
    const text = all ? words : rest
    if (text.length === 0) throw new UsageError('say what to send; - reads it from standard input')
    return {
      to: all ? everyone : parseTarget(first ?? ''),
      text: text.length === 1 && text[0] === '-' ? null : text.join(' '),
    }
  },
  async ({ to, text }, { io, session }) => {
    const client = session().signedIn()
    const response = await client.call('sendMessage', {
      to,
      text: text ?? (await io.readInput()).replace(/\r?\n$/, ''),
    })
    const direct = to.target?.$case === 'account'
    return {
      data: {
        to: targetLabel(to),
        message: `${targetLabel(to)}/${response.seq}`,
        conversationId: response.conversation,
        seq: response.seq,
        at: time(response.atMs),
        delivered: response.delivered,
      },
      lines: [deliveryWords(direct, response.delivered)],
    }
  },
)
