// A small bot: answers every message that mentions it, or is written to it alone, with the same text. It outlives any replica that it talks to.
//
//   PARLEY_PASSWORD=... node examples/echo-bot.ts echo localhost:7400,localhost:7401
import { createClient, describeState } from '../src/client/index.ts'
import { createNodeConnect } from '../src/tls/connect.ts'
import { ConversationKind, type Message } from '../src/gen/parley/v1/model.ts'

const [name = 'echo', addresses = 'localhost:7400,localhost:7401,localhost:7402'] = process.argv.slice(2)
const password = process.env['PARLEY_PASSWORD']
if (password === undefined) throw new Error('set PARLEY_PASSWORD')

const client = createClient({ addresses: addresses.split(','), connect: createNodeConnect(console.error) })
client.onState((state) => console.error(describeState(state)))

const { exists } = await client.call('lookUpName', { name })
await (exists ? client.logIn({ name, password }) : client.register({ name, password }))
const { account, position } = await client.call('getMe', {})

client.subscribe(position, (events) => {
  for (const { event } of events) if (event?.$case === 'message') void answer(event.value)
})

async function answer(message: Message): Promise<void> {
  if (message.sender === account?.id) return
  const target = { target: { $case: 'conversation', value: message.conversation } as const }
  const { conversation } = await client.call('getConversation', { conversation: target })
  if (conversation?.kind !== ConversationKind.DIRECT && !message.text.includes(`@${name}`)) return
  // The outbox sends it once and in order, however often the connection breaks meanwhile.
  client.outbox.add(target, message.text)
}
