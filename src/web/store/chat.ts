import { toHex } from '../../base/bytes.ts'
import type { Account, Conversation, Draft, Message, Policy } from '../../gen/parley/v1/model.ts'
import type { Event, Marks } from '../../gen/parley/v1/service.ts'
import { emptyTimeline, timelineTrimmed, timelineAfter, timelineWith, timelineWithout } from './timeline.ts'
import type { Timeline } from './timeline.ts'

/** Everything that the page knows of the chat. A value: reducers make a new one. */
export interface Chat {
  readonly me: Account
  readonly session: number
  /** What happened up to here is in. */
  readonly position: number
  readonly conversations: ReadonlyMap<number, Conversation>
  /** The position of which the server showed each conversation: what happened up to it is in already. */
  readonly asOf: ReadonlyMap<number, number>
  readonly marks: ReadonlyMap<number, Marks>
  readonly timelines: ReadonlyMap<number, Timeline>
  /** People by id: presence and names. */
  readonly accounts: ReadonlyMap<number, Account>
  /** Drafts by the hexadecimal form of their id. */
  readonly drafts: ReadonlyMap<string, Draft>
  readonly policy: Policy | null
  /** Conversations of which something happened that cannot be worked out here: they are to be asked for. */
  readonly stale: ReadonlySet<number>
  /** Raised whenever the session list has changed. */
  readonly sessionsVersion: number
  /** The stream has a gap: everything is to be read anew. */
  readonly resync: boolean
  /** Why this session has ended; null while it lasts. */
  readonly ended: string | null
}

/** The counting of unread and unopened messages stops here, as it does at the server. */
const countLimit = 1000

export function newChat(me: Account, session: number, position: number): Chat {
  return {
    me,
    session,
    position,
    conversations: new Map(),
    asOf: new Map(),
    marks: new Map(),
    timelines: new Map(),
    accounts: new Map([[me.id, me]]),
    drafts: new Map(),
    policy: null,
    stale: new Set(),
    sessionsVersion: 0,
    resync: false,
    ended: null,
  }
}

/** What an event of the stream does. Events up to the position that the chat has seen are repetitions and change nothing. */
export function withEvent(chat: Chat, event: Event): Chat {
  const next = event.position > chat.position ? { ...chat, position: event.position } : chat
  const what = event.event
  if (what === undefined || event.position <= (chat.asOf.get(conversationOf(event)) ?? 0)) return next
  switch (what.$case) {
    case 'message':
      return withNewMessage(next, what.value)
    case 'messageEdited':
      return withChangedMessage(next, what.value)
    case 'messageDeleted':
      return withDeletedMessage(next, what.value)
    case 'messageHidden':
      return withHiddenMessage(next, what.value)
    case 'marks':
      return withMarks(next, what.value)
    case 'conversation':
      return withConversationChanged(next, what.value)
    case 'conversationLeft':
      return withoutConversation(next, what.value.conversation)
    case 'draft':
      return { ...next, drafts: mapWith(next.drafts, toHex(what.value.id), what.value) }
    case 'draftRemoved':
      return { ...next, drafts: mapWithout(next.drafts, toHex(what.value.draftId)) }
    case 'account':
      return withAccount(next, what.value)
    case 'sessionEnded':
      if (what.value.session !== next.session) return { ...next, sessionsVersion: next.sessionsVersion + 1 }
      return { ...next, ended: what.value.reason }
    case 'policy':
      return { ...next, policy: what.value }
    case 'resync':
      return { ...next, position: event.position, resync: true }
    case 'progress':
      return next
    case 'messagesExpired':
      return withoutExpired(next, what.value.conversation, what.value.upTo)
    case 'sessionsChanged':
      return { ...next, sessionsVersion: next.sessionsVersion + 1 }
  }
}

/** A conversation as the server shows it to this account at `position`. */
export function withConversation(chat: Chat, conversation: Conversation, position: number): Chat {
  if (position < (chat.asOf.get(conversation.id) ?? 0)) return chat
  // Events that came in meanwhile say more than an answer from before them.
  if (position < chat.position && chat.conversations.has(conversation.id))
    return withStale(chat, conversation.id)
  return {
    ...chat,
    conversations: mapWith(chat.conversations, conversation.id, conversation),
    asOf: mapWith(chat.asOf, conversation.id, position),
    stale: setWithout(chat.stale, conversation.id),
  }
}

export function withDrafts(chat: Chat, drafts: readonly Draft[]): Chat {
  return { ...chat, drafts: new Map(drafts.map((draft) => [toHex(draft.id), draft])) }
}

export function withAccounts(chat: Chat, accounts: readonly Account[]): Chat {
  const all = new Map(chat.accounts)
  for (const account of accounts) all.set(account.id, account)
  return { ...chat, accounts: all }
}

/** A page of history that the server showed at `position`. */
export function withPage(
  chat: Chat,
  conversation: number,
  page: {
    readonly messages: readonly Message[]
    readonly marks: Marks | undefined
    readonly firstSeq: number
    readonly lastSeq: number
    readonly moreBefore: boolean
    readonly moreAfter: boolean
  },
  position: number,
): Chat {
  const before = chat.timelines.get(conversation)
  const touches =
    before !== undefined && page.firstSeq <= before.lastSeq + 1 && page.lastSeq >= before.firstSeq - 1
  const base: Timeline = touches ? before : emptyTimeline
  const timeline: Timeline = {
    ...timelineWith(base, page.messages),
    firstSeq: touches ? Math.min(base.firstSeq, page.firstSeq) : page.firstSeq,
    lastSeq: touches ? Math.max(base.lastSeq, page.lastSeq) : page.lastSeq,
    moreBefore: touches && page.firstSeq > base.firstSeq ? base.moreBefore : page.moreBefore,
    moreAfter: touches && page.lastSeq < base.lastSeq ? base.moreAfter : page.moreAfter,
  }
  // Marks that an event brought meanwhile are newer.
  const takesMarks = page.marks !== undefined && (position >= chat.position || !chat.marks.has(conversation))
  const marked =
    takesMarks && page.marks !== undefined
      ? { ...chat, marks: mapWith(chat.marks, conversation, page.marks) }
      : chat
  return { ...marked, timelines: mapWith(marked.timelines, conversation, timeline) }
}

/** Forgets the loaded history of a conversation. */
export function withoutTimeline(chat: Chat, conversation: number): Chat {
  return { ...chat, timelines: mapWithout(chat.timelines, conversation) }
}

/** Keeps at most `limit` messages of a conversation's history: the end that is being looked at. */
export function withTrimmed(
  chat: Chat,
  conversation: number,
  keep: 'oldest' | 'newest',
  limit: number,
): Chat {
  const timeline = chat.timelines.get(conversation)
  if (timeline === undefined) return chat
  return { ...chat, timelines: mapWith(chat.timelines, conversation, timelineTrimmed(timeline, keep, limit)) }
}

/** Whether the account has read the message, by the marks of its conversation. Own messages are always read. */
export function isRead(
  marks: Marks | undefined,
  conversation: Conversation | undefined,
  message: Message,
  me: number,
): boolean {
  if (message.sender === me) return true
  const readUpTo = marks?.readUpTo ?? conversation?.readUpTo ?? 0
  if (message.seq <= readUpTo) return !(marks?.unread.includes(message.seq) ?? false)
  return marks?.read.includes(message.seq) ?? false
}

/** The conversation that an event is about; 0 for others. */
function conversationOf(event: Event): number {
  const what = event.event
  switch (what?.$case) {
    case 'message':
    case 'messageEdited':
    case 'messageDeleted':
    case 'messageHidden':
    case 'marks':
    case 'messagesExpired':
    case 'conversationLeft':
      return what.value.conversation
    case 'conversation':
      return what.value.id
    default:
      return 0
  }
}

function withNewMessage(chat: Chat, message: Message): Chat {
  const conversation = chat.conversations.get(message.conversation)
  if (conversation === undefined) return withStale(chat, message.conversation)
  if (message.seq <= conversation.lastSeq) return chat
  const mine = message.sender === chat.me.id
  const counts = mine ? 0 : 1
  // Whoever has read everything has read the own message too.
  const past = (upTo: number) => (mine && upTo === message.seq - 1 ? message.seq : upTo)
  const gap = message.seq > conversation.lastSeq + 1
  const updated: Conversation = {
    ...conversation,
    lastSeq: message.seq,
    lastMessage: message,
    unread: capped(conversation.unread + counts),
    unopened: capped(conversation.unopened + counts),
    readUpTo: past(conversation.readUpTo),
    openedUpTo: past(conversation.openedUpTo),
  }
  const marks = chat.marks.get(message.conversation)
  const timeline = chat.timelines.get(message.conversation)
  const next = {
    ...chat,
    conversations: mapWith(chat.conversations, message.conversation, updated),
    marks:
      marks === undefined
        ? chat.marks
        : mapWith(chat.marks, message.conversation, {
            ...marks,
            readUpTo: past(marks.readUpTo),
            openedUpTo: past(marks.openedUpTo),
          }),
    timelines:
      timeline === undefined || timeline.moreAfter || gap
        ? chat.timelines
        : mapWith(chat.timelines, message.conversation, {
            ...timelineWith(timeline, [message]),
            firstSeq: timeline.firstSeq === 0 ? message.seq : timeline.firstSeq,
            lastSeq: message.seq,
          }),
  }
  return gap ? withStale(next, message.conversation) : next
}

function withChangedMessage(chat: Chat, message: Message): Chat {
  const conversation = chat.conversations.get(message.conversation)
  const timeline = chat.timelines.get(message.conversation)
  return {
    ...chat,
    conversations:
      conversation?.lastMessage?.seq === message.seq
        ? mapWith(chat.conversations, message.conversation, { ...conversation, lastMessage: message })
        : chat.conversations,
    timelines:
      timeline !== undefined && timeline.messages.some((other) => other.seq === message.seq)
        ? mapWith(chat.timelines, message.conversation, timelineWith(timeline, [message]))
        : chat.timelines,
  }
}

function withDeletedMessage(chat: Chat, message: Message): Chat {
  return withUncounted(withChangedMessage(chat, message), message)
}

function withHiddenMessage(chat: Chat, message: Message): Chat {
  const timeline = chat.timelines.get(message.conversation)
  const next = withUncounted(withoutMark(chat, message), message)
  const shown =
    timeline === undefined
      ? next
      : {
          ...next,
          timelines: mapWith(next.timelines, message.conversation, timelineWithout(timeline, message.seq)),
        }
  // The line before the hidden one is the newest now: only the server knows it.
  return chat.conversations.get(message.conversation)?.lastMessage?.seq === message.seq
    ? withStale(shown, message.conversation)
    : shown
}

/** That it was read, or marked as unread, is forgotten with a message that is hidden. */
function withoutMark(chat: Chat, { conversation, seq }: Message): Chat {
  const marks = chat.marks.get(conversation)
  if (marks === undefined) return chat
  const others = (seqs: readonly number[]): number[] => seqs.filter((one) => one !== seq)
  const left = { ...marks, read: others(marks.read), unread: others(marks.unread) }
  return { ...chat, marks: mapWith(chat.marks, conversation, left) }
}

/** A message that is gone no longer counts as unread or unopened. */
function withUncounted(chat: Chat, message: Message): Chat {
  const conversation = chat.conversations.get(message.conversation)
  if (conversation === undefined || message.sender === chat.me.id) return chat
  // Whether it counted depends on what was read, opened or hidden before, which is not all known here: where it may have counted, ask.
  const mayCount = conversation.unread > 0 || conversation.unopened > 0
  return mayCount ? withStale(chat, message.conversation) : chat
}

function withMarks(chat: Chat, marks: Marks): Chat {
  const conversation = chat.conversations.get(marks.conversation)
  return {
    ...chat,
    marks: mapWith(chat.marks, marks.conversation, marks),
    conversations:
      conversation === undefined
        ? chat.conversations
        : mapWith(chat.conversations, marks.conversation, {
            ...conversation,
            readUpTo: marks.readUpTo,
            openedUpTo: marks.openedUpTo,
            unread: marks.unreadCount,
            unopened: marks.unopenedCount,
          }),
  }
}

function withConversationChanged(chat: Chat, changed: Conversation): Chat {
  const known = chat.conversations.get(changed.id)
  if (known === undefined) return withStale(chat, changed.id)
  // An event is the same for all who get it: what depends on the viewer stays.
  return {
    ...chat,
    conversations: mapWith(chat.conversations, changed.id, {
      ...known,
      topic: changed.topic,
      private: changed.private,
      members: changed.members,
      owner: changed.owner,
      retentionS: changed.retentionS,
    }),
  }
}

/** What was removed for its age is gone from the history; how much is unread now is asked for. */
function withoutExpired(chat: Chat, conversation: number, upTo: number): Chat {
  const timeline = chat.timelines.get(conversation)
  const left =
    timeline === undefined
      ? chat
      : { ...chat, timelines: mapWith(chat.timelines, conversation, timelineAfter(timeline, upTo)) }
  return chat.conversations.has(conversation) ? withStale(left, conversation) : left
}

function withoutConversation(chat: Chat, conversation: number): Chat {
  return {
    ...chat,
    conversations: mapWithout(chat.conversations, conversation),
    timelines: mapWithout(chat.timelines, conversation),
    marks: mapWithout(chat.marks, conversation),
    stale: setWithout(chat.stale, conversation),
  }
}

function withAccount(chat: Chat, account: Account): Chat {
  const me = account.id === chat.me.id ? account : chat.me
  return { ...chat, me, accounts: mapWith(chat.accounts, account.id, account) }
}

function withStale(chat: Chat, conversation: number): Chat {
  return chat.stale.has(conversation) ? chat : { ...chat, stale: new Set(chat.stale).add(conversation) }
}

function capped(count: number): number {
  return Math.min(count, countLimit)
}

function mapWith<K, V>(map: ReadonlyMap<K, V>, key: K, value: V): ReadonlyMap<K, V> {
  return new Map(map).set(key, value)
}

function mapWithout<K, V>(map: ReadonlyMap<K, V>, key: K): ReadonlyMap<K, V> {
  if (!map.has(key)) return map
  const rest = new Map(map)
  rest.delete(key)
  return rest
}

function setWithout<T>(set: ReadonlySet<T>, value: T): ReadonlySet<T> {
  if (!set.has(value)) return set
  const rest = new Set(set)
  rest.delete(value)
  return rest
}
