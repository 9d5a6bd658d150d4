import type { Draft } from '../gen/parley/v1/model.ts'
import type { Client } from './types.ts'

/** All drafts of the account, newest change first. */
export async function allDrafts(client: Pick<Client, 'call'>): Promise<readonly Draft[]> {
  const drafts: Draft[] = []
  let pageToken = ''
  do {
    const page = await client.call('listDrafts', { pageSize: 500, pageToken })
    drafts.push(...page.drafts)
    pageToken = page.nextPageToken
  } while (pageToken !== '')
  return drafts
}
