import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ChatQueries } from '../chat/queries.ts'
import { answerRead } from './reads.ts'

test('however many conversations are asked for, a page has a hundred: each is a lot of work', () => {
  const asked: number[] = []
  const page = (pageSize: number): { items: []; nextPageToken: string } => {
    asked.push(pageSize)
    return { items: [], nextPageToken: '' }
  }
  const queries: Partial<ChatQueries> = {
    conversations: (_account, pageSize) => page(pageSize),
    rooms: (_account, _pattern, pageSize) => page(pageSize),
    accounts: (_pattern, pageSize) => page(pageSize),
  }
  const ask = (pageSize: number): void => {
    const who = { account: 1, session: 1 }
    const value = { pageSize, pageToken: '', pattern: '' }
    for (const $case of ['listConversations', 'listRooms', 'listAccounts'] as const)
      answerRead(queries as ChatQueries, who, { $case, value }, 1)
  }
  for (const pageSize of [0, 70, 500]) ask(pageSize)
  assert.deepEqual(asked, [50, 50, 50, 70, 70, 70, 100, 100, 500])
})
