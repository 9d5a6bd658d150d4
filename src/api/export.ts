import { toHex } from '../base/bytes.ts'
import type { ExportScope } from '../chat/export.ts'
import type { Replica } from '../replica/types.ts'
import { failed, type Result } from './calls.ts'
import { invalid } from './errors.ts'

/** The format of the lines: docs/EXPORT.md. */
const format = 1

/** A page of lines: what it is begins the first one, and where it ended ends the last one. */
export function answerExport(replica: Replica, scope: ExportScope, pageToken: string): Result {
  const page = replica.queries.exported(scope, pageToken)
  if (page === null)
    return failed(invalid([{ field: 'page_token', description: 'is not one that was given out' }]))
  const items: Readonly<Record<string, unknown>>[] = []
  const { position, nowMs } = replica
  const at = new Date(nowMs).toISOString()
  if (pageToken === '')
    items.push({
      type: 'export',
      format,
      cluster: toHex(replica.state.clusterId),
      scope: scope.kind,
      ...(scope.kind === 'account' ? { account: scope.account } : {}),
      at,
      position,
    })
  items.push(...page.items)
  if (page.next === '') items.push({ type: 'end', at, position })
  const lines = Buffer.from(items.map((item) => `${JSON.stringify(item)}\n`).join(''))
  return { $case: 'export', value: { lines, nextPageToken: page.next } }
}
