import type { Client } from '../client/index.ts'
import type { Conversation, Message, Target } from '../gen/parley/v1/model.ts'
import { UsageError } from './io.ts'

/** How a conversation is named in the terminal: `#dev` a room, `bob` the direct one with bob, `:7` the one with number 7. */
export function parseTarget(text: string): Target {
  if (/^#[A-Za-z0-9_-]{1,50}$/.test(text)) return { target: { $case: 'room', value: text.slice(1) } }
  if (/^:[1-9][0-9]{0,14}$/.test(text))
    return { target: { $case: 'conversation', value: Number(text.slice(1)) } }
  if (/^@?[A-Za-z0-9_-]{1,50}$/.test(text))
    return { target: { $case: 'account', value: text.replace(/^@/, '') } }
  throw new UsageError(
    `"${text}" names nobody and no room: names are 1 to 50 letters, digits, _ and -, a room's has a # in front`,
  )
}

export const everyone: Target = { target: { $case: 'room', value: 'everyone' } }

/** A room's name, with or without `#`. */
export function parseRoom(text: string): string {
  const name = text.replace(/^#/, '')
  if (/^[A-Za-z0-9_-]{1,50}$/.test(name)) return name
  throw new UsageError(`a room's name is 1 to 50 letters, digits, _ and -, not "${text}"`)
}

/** A message as it is shown: `bob/12`, `#dev/3`. */
export function parseRef(text: string): { readonly target: Target; readonly seq: number } {
  const match = /^(.+)\/([1-9][0-9]{0,14})$/.exec(text)
  if (match === null)
    throw new UsageError(`a message is named as it is shown, such as bob/12 or "#dev/3", not "${text}"`)
  return { target: parseTarget(match[1] ?? ''), seq: Number(match[2]) }
}

export function targetLabel(target: Target | undefined): string {
  switch (target?.target?.$case) {
    case 'room':
      return `#${target.target.value}`
    case 'account':
      return target.target.value
    case 'conversation':
      return `:${target.target.value}`
    case undefined:
      return '?'
  }
}

export function conversationLabel(conversation: Pick<Conversation, 'id' | 'kind' | 'name'>): string {
  switch (conversation.kind) {
    case 'CONVERSATION_KIND_EVERYONE':
      return '#everyone'
    case 'CONVERSATION_KIND_ROOM':
      return `#${conversation.name}`
    case 'CONVERSATION_KIND_DIRECT':
      return conversation.name === '' ? `:${conversation.id}` : conversation.name
    case 'CONVERSATION_KIND_UNSPECIFIED':
      return `:${conversation.id}`
  }
}

/** Tells the labels of conversations by their numbers; asks the cluster for those that it does not know yet. */
export class Labels {
  private readonly client: Client
  private readonly known = new Map<number, string>([[1, '#everyone']])

  constructor(client: Client) {
    this.client = client
  }

  note(conversation: Conversation): string {
    const label = conversationLabel(conversation)
    this.known.set(conversation.id, label)
    return label
  }

  /** Whatever is known; `:7` for number 7 when nothing is. */
  get(id: number): string {
    return this.known.get(id) ?? `:${id}`
  }

  has(id: number): boolean {
    return this.known.has(id)
  }

  all(): readonly string[] {
    return [...this.known.values()]
  }

  async learn(ids: Iterable<number>): Promise<void> {
    const unknown = [...new Set(ids)].filter((id) => !this.known.has(id))
    await Promise.all(
      unknown.map(async (id) => {
        const { conversation } = await this.client.call('getConversation', {
          conversation: { target: { $case: 'conversation', value: id } },
        })
        if (conversation !== undefined) this.note(conversation)
      }),
    )
  }

  async of(messages: readonly Message[]): Promise<this> {
    await this.learn(messages.map((message) => message.conversation))
    return this
  }
}

/** The conversation that a target names, as the one who asks sees it. */
export async function findConversation(client: Client, target: Target): Promise<Conversation> {
  const { conversation } = await client.call('getConversation', { conversation: target })
  if (conversation === undefined) throw new Error('the answer holds no conversation')
  return conversation
}
