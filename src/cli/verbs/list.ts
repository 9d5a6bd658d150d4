import type { Client } from '../../client/index.ts'
import type { Account } from '../../gen/parley/v1/model.ts'
import { accountJson, accountRow } from '../present.ts'
import { paint, type Paint, table } from '../text.ts'
import { type Report, verb } from '../verb.ts'

export const list = verb(
  {
    name: 'list',
    summary: "list accounts; * stands for any characters, ? for one: list 'al*'",
    arguments: ['[pattern]'],
    options: [],
    examples: ['parley list', "parley list 'al*'"],
  },
  ({ arguments: [pattern] }) => ({ pattern: pattern ?? '' }),
  ({ pattern }, { io, session }) => listReport(session().signedIn(), pattern, paint(io.color)),
)

export async function listReport(client: Client, pattern: string, colors: Paint): Promise<Report> {
  const accounts: Account[] = []
  let pageToken = ''
  do {
    const page = await client.call('listAccounts', { pattern, pageSize: 500, pageToken })
    accounts.push(...page.accounts)
    pageToken = page.nextPageToken
  } while (pageToken !== '')
  return {
    data: { accounts: accounts.map(accountJson) },
    lines:
      accounts.length === 0
        ? [colors.dim('Nobody of that name.')]
        : table(accounts.map((account) => accountRow(account, colors))),
  }
}
