import { unreachable } from '../base/assert.ts'
import type { ChatQueries, SignedIn } from '../chat/queries.ts'
import { Reason, type Conversation, type Target } from '../gen/parley/v1/model.ts'
import type { ListMessagesResponse } from '../gen/parley/v1/service.ts'
import { failed, type Op, type Result } from './calls.ts'
import { makeError } from './errors.ts'

/** Reads that anybody may ask for. */
export type OpenReadOp = Extract<Op, { $case: 'lookUpName' | 'getPolicy' }>

/** Reads of a signed-in account. */
export type ReadOp = Extract<
  Op,
  {
    $case:
      | 'getMe'
      | 'listAccounts'
      | 'listSessions'
      | 'listConversations'
      | 'getConversation'
      | 'listRooms'
      | 'listMembers'
      | 'listMessages'
      | 'getInbox'
      | 'listDrafts'
  }
>

export function answerOpenRead(queries: ChatQueries, op: OpenReadOp): Result {
  switch (op.$case) {
    case 'lookUpName':
      return {
        $case: 'lookUpName',
        value: {
          exists: queries.accountByName(op.value.name) !== null,
          registrationOpen: queries.policy().registrationOpen,
        },
      }
    case 'getPolicy':
      return { $case: 'getPolicy', value: { policy: queries.policy() } }
    default:
      return unreachable(op)
  }
}

/** Answers from the applied state, which is at `position`. */
export function answerRead(
  queries: ChatQueries,
  { account, session }: SignedIn,
  op: ReadOp,
  position: number,
): Result {
  switch (op.$case) {
    case 'getMe':
      return {
        $case: 'getMe',
        value: {
          account: queries.account(account) ?? undefined,
          session,
          inbox: queries.inboxCount(account),
          position,
          policy: queries.policy(),
        },
      }
    case 'listAccounts': {
      const { pattern, pageSize, pageToken } = op.value
      const page = queries.accounts(pattern, pageSizeOf(pageSize), pageToken)
      return { $case: 'listAccounts', value: { accounts: page.items, nextPageToken: page.nextPageToken } }
    }
    case 'listSessions': {
      const sessions = queries
        .sessions(account)
        .map((item) => (item.id === session ? { ...item, current: true } : item))
      return { $case: 'listSessions', value: { sessions } }
    }
    case 'listConversations': {
      const { pageSize, pageToken } = op.value
      const page = queries.conversations(account, pageSizeOf(pageSize, maxConversations), pageToken)
      return {
        $case: 'listConversations',
        value: { conversations: page.items, nextPageToken: page.nextPageToken, position },
      }
    }
    case 'getConversation': {
      const target = op.value.conversation
      const conversation = find(queries, account, target)
      if (conversation === null) return notFound(queries, target)
      return { $case: 'getConversation', value: { conversation, position } }
    }
    case 'listRooms': {
      const { pattern, pageSize, pageToken } = op.value
      const page = queries.rooms(account, pattern, pageSizeOf(pageSize, maxConversations), pageToken)
      return { $case: 'listRooms', value: { rooms: page.items, nextPageToken: page.nextPageToken } }
    }
    case 'listMembers': {
      const { conversation: target, pageSize, pageToken } = op.value
      const conversation = find(queries, account, target)
      if (conversation === null) return notFound(queries, target)
      const page = queries.members(account, conversation.id, pageSizeOf(pageSize), pageToken)
      if (page === null) return failed(makeError(Reason.NOT_A_MEMBER))
      return { $case: 'listMembers', value: { members: page.items, nextPageToken: page.nextPageToken } }
    }
    case 'listMessages': {
      const { conversation: target, beforeSeq, afterSeq, pageSize } = op.value
      const conversation = find(queries, account, target)
      if (conversation === null) {
        // A direct conversation begins with its first message; before that it is empty, not unknown.
        if (target?.target?.$case === 'account' && queries.accountByName(target.target.value) !== null)
          return { $case: 'listMessages', value: { ...noMessages, position } }
        return notFound(queries, target)
      }
      const page = queries.messages(account, conversation.id, {
        beforeSeq,
        afterSeq,
        pageSize: pageSizeOf(pageSize),
      })
      if (page === null) return failed(makeError(Reason.NOT_A_MEMBER))
      return { $case: 'listMessages', value: { ...bounded(page, afterSeq > 0), position } }
    }
    case 'getInbox':
      return { $case: 'getInbox', value: queries.inbox(account) }
    case 'listDrafts': {
      const { pageSize, pageToken } = op.value
      const page = queries.drafts(account, pageSizeOf(pageSize), pageToken)
      return { $case: 'listDrafts', value: { drafts: page.items, nextPageToken: page.nextPageToken } }
    }
    default:
      return unreachable(op)
  }
}

const noMessages: Omit<ListMessagesResponse, 'position'> = {
  messages: [],
  more: false,
  marks: undefined,
  firstSeq: 0,
  lastSeq: 0,
}

/** Characters of text in one page; a page that would have more is cut, as if fewer messages had been asked for. */
const maxPageCharacters = 256 * 1024

type MessagePage = NonNullable<ReturnType<ChatQueries['messages']>>

/** The part of a page that is not too large to be held for many clients at once: its beginning when the messages were asked for forwards, else its end. */
function bounded(page: MessagePage, isForwards: boolean): MessagePage {
  const { messages } = page
  let characters = 0
  let count = 0
  while (count < messages.length) {
    const message = messages[isForwards ? count : messages.length - 1 - count]
    characters += message?.text.length ?? 0
    if (count > 0 && characters > maxPageCharacters) break
    count += 1
  }
  if (count === messages.length) return page
  const kept = isForwards ? messages.slice(0, count) : messages.slice(messages.length - count)
  return isForwards
    ? { ...page, messages: kept, more: true, lastSeq: kept.at(-1)?.seq ?? page.lastSeq }
    : { ...page, messages: kept, more: true, firstSeq: kept[0]?.seq ?? page.firstSeq }
}

const defaultPageSize = 50
const maxPageSize = 500
/** Each is shown with its counts and its last message, which costs ten times what a message does; more at once would hold up what is replicated meanwhile. */
const maxConversations = 100

function pageSizeOf(asked: number, most = maxPageSize): number {
  return asked === 0 ? defaultPageSize : Math.min(asked, most)
}

function find(queries: ChatQueries, account: number, target: Target | undefined): Conversation | null {
  return target === undefined ? null : queries.conversation(account, target)
}

function notFound(queries: ChatQueries, target: Target | undefined): Result {
  switch (target?.target?.$case) {
    case 'room':
      return failed(makeError(Reason.ROOM_NOT_FOUND))
    case 'account':
      if (queries.accountByName(target.target.value) === null)
        return failed(makeError(Reason.ACCOUNT_NOT_FOUND))
      return failed(makeError(Reason.CONVERSATION_NOT_FOUND))
    default:
      return failed(makeError(Reason.CONVERSATION_NOT_FOUND))
  }
}
