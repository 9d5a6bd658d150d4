import { ConversationKind } from '../../gen/parley/v1/model.ts'
import type { Account, Conversation, Message, Target } from '../../gen/parley/v1/model.ts'

/** `#room` for a room, the other one's name for a direct conversation. */
export function conversationTitle(conversation: Conversation): string {
  return conversation.kind === ConversationKind.DIRECT ? conversation.name : `#${conversation.name}`
}

/** `1`, `37`, `999+`. */
export function countText(count: number): string {
  return count >= 1000 ? '999+' : String(count)
}

/** One line for a list: who said what. */
export function previewText(message: Message | undefined, me: number): string {
  if (message === undefined) return 'No messages yet'
  if (message.deleted) return 'Message deleted'
  return `${senderText(message, me)}: ${message.text.replaceAll(/\s+/g, ' ').slice(0, 120)}`
}

/** Who said it: `You`, `bob`. */
export function senderText(message: Message, me: number): string {
  return message.sender === me ? 'You' : message.senderName
}

/** Where it was said, to stand behind who said it: `in #dev`, `to bob`; nothing for what the other one of a direct conversation said. */
export function placeText(message: Message, conversation: Conversation | undefined, me: number): string {
  if (conversation === undefined) return ''
  if (conversation.kind !== ConversationKind.DIRECT) return `in ${conversationTitle(conversation)}`
  return message.sender === me ? `to ${conversationTitle(conversation)}` : ''
}

/** A recipient as a person types it. */
export function targetText(target: Target, conversations: ReadonlyMap<number, Conversation>): string {
  switch (target.target?.$case) {
    case 'account':
      return target.target.value
    case 'room':
      return `#${target.target.value}`
    case 'conversation': {
      const known = conversations.get(target.target.value)
      return known === undefined ? `conversation ${target.target.value}` : conversationTitle(known)
    }
    case undefined:
      return ''
  }
}

/** `bob` or `#room` as a target; null when it is neither. */
export function parseTarget(text: string): Target | null {
  const match = /^\s*(#?)([A-Za-z0-9_-]{1,50})\s*$/.exec(text)
  const name = match?.[2]
  if (match === null || name === undefined) return null
  return { target: { $case: match[1] === '#' ? 'room' : 'account', value: name } }
}

/** Conversations as the list shows them: the newest activity first. */
export function byActivity(conversations: Iterable<Conversation>): readonly Conversation[] {
  return [...conversations]
    .filter((conversation) => conversation.member)
    .sort((a, b) => (b.lastMessage?.position ?? 0) - (a.lastMessage?.position ?? 0) || a.id - b.id)
}

/** People as the list shows them: those who are connected first, then by name. */
export function byPresence(accounts: Iterable<Account>): readonly Account[] {
  return [...accounts]
    .filter((account) => !account.deleted)
    .sort(
      (a, b) =>
        Number(b.online) - Number(a.online) || a.name.toLowerCase().localeCompare(b.name.toLowerCase()),
    )
}

export type TextPart =
  { readonly kind: 'text'; readonly text: string } | { readonly kind: 'link'; readonly url: string }

/** Splits a text into plain parts and web addresses. Only http and https become links; what cannot be parsed stays text. */
export function linkParts(text: string): readonly TextPart[] {
  const parts: TextPart[] = []
  let done = 0
  for (const match of text.matchAll(/\bhttps?:\/\/[^\s<>"'`]+/gi)) {
    const url = withoutTrailingPunctuation(match[0])
    if (!isWebAddress(url)) continue
    if (match.index > done) parts.push({ kind: 'text', text: text.slice(done, match.index) })
    parts.push({ kind: 'link', url })
    done = match.index + url.length
  }
  if (done < text.length) parts.push({ kind: 'text', text: text.slice(done) })
  return parts
}

function withoutTrailingPunctuation(url: string): string {
  let end = url.length
  while (end > 0) {
    const last = url.charAt(end - 1)
    const closes = last === ')' && !url.slice(0, end).includes('(')
    if (!closes && !'.,;:!?]}'.includes(last)) break
    end -= 1
  }
  return url.slice(0, end)
}

function isWebAddress(url: string): boolean {
  const parsed = URL.parse(url)
  return parsed !== null && (parsed.protocol === 'http:' || parsed.protocol === 'https:')
}
