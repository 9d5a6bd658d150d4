import type { SequentialModel } from './linearizability.ts'

/** What clients ask about one conversation, name or draft, and what a single copy would answer. */
export type ChatInput =
  | { readonly kind: 'send'; readonly id: string; readonly text: string }
  | { readonly kind: 'edit'; readonly seq: number; readonly text: string }
  | { readonly kind: 'delete'; readonly seq: number }
  /** The newest messages. */
  | { readonly kind: 'list' }
  | { readonly kind: 'register' }
  | { readonly kind: 'lookUp' }
  | { readonly kind: 'save'; readonly text: string }
  | { readonly kind: 'discard' }
  | { readonly kind: 'get' }

export type ChatOutput = string

/** How many messages a `list` shows. */
export const listed = 30

interface ModelMessage {
  readonly id: string
  readonly text: string
  readonly deleted: boolean
}

interface Conversation {
  readonly messages: readonly ModelMessage[]
  readonly key: string
}

export const conversationModel: SequentialModel<Conversation, ChatInput, ChatOutput> = {
  initial: { messages: [], key: '' },
  step(state, input, output) {
    const { messages } = state
    switch (input.kind) {
      case 'send': {
        if (output !== null && output !== String(messages.length + 1)) return null
        const message = { id: input.id, text: input.text, deleted: false }
        return { messages: [...messages, message], key: digestText(`${state.key} ${messageText(message)}`) }
      }
      case 'edit': {
        const message = messages[input.seq - 1]
        if (message === undefined || message.deleted) return output === null ? state : null
        return changed(state, input.seq, { ...message, text: input.text })
      }
      case 'delete': {
        const message = messages[input.seq - 1]
        if (message === undefined) return output === null ? state : null
        return changed(state, input.seq, { ...message, text: '', deleted: true })
      }
      case 'list':
        return output === null || output === listText(messages.length, messages.slice(-listed)) ? state : null
      default:
        return null
    }
  },
  key: (state) => state.key,
}

function changed(state: Conversation, seq: number, message: ModelMessage): Conversation {
  const messages = state.messages.with(seq - 1, message)
  return { messages, key: digestText(`${state.key} ${seq} becomes ${messageText(message)}`) }
}

/** What a `list` answers. */
export function listText(lastSeq: number, messages: readonly ModelMessage[]): string {
  return `${lastSeq}: ${digestText(messages.map(messageText).join('\n'))}`
}

function messageText({ id, text, deleted }: ModelMessage): string {
  return deleted ? `${id} deleted` : `${id} ${text}`
}

/** Whether an account of a name exists. */
export const nameModel: SequentialModel<boolean, ChatInput, ChatOutput> = {
  initial: false,
  step(taken, input, output) {
    if (input.kind === 'register') {
      if (taken) return output === 'registered' ? null : true
      return output === 'taken' ? null : true
    }
    return output === null || output === String(taken) ? taken : null
  },
  key: String,
}

/** The text of a draft; '' = there is none. */
export const draftModel: SequentialModel<string, ChatInput, ChatOutput> = {
  initial: '',
  step(text, input, output) {
    if (input.kind === 'save') return input.text
    if (input.kind === 'discard') return ''
    return output === null || output === text ? text : null
  },
  key: (text) => text,
}

/** 53 bits of a text (cyrb53). */
function digestText(text: string): string {
  let a = 0xdeadbeef
  let b = 0x41c6ce57
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i)
    a = Math.imul(a ^ code, 2654435761)
    b = Math.imul(b ^ code, 1597334677)
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909)
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909)
  return (4294967296 * (2097151 & b) + (a >>> 0)).toString(36)
}
