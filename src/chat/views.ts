import type { Conversation } from '../gen/parley/v1/model.ts'
import type { AccountRow } from './accounts.ts'
import type { ConversationRow } from './conversations.ts'

/**
 * A conversation without what depends on how much the viewer has read.
 *
 * @param peer the other account of a direct conversation, as the viewer sees it; null for rooms.
 */
export function viewConversationOf(
  row: ConversationRow,
  peer: Pick<AccountRow, 'id' | 'name'> | null,
): Conversation {
  return {
    id: row.id,
    kind: row.kind,
    name: peer === null ? row.name : peer.name,
    topic: row.topic,
    private: row.private,
    peer: peer === null ? 0 : peer.id,
    members: row.members,
    member: true,
    lastSeq: row.lastSeq,
    lastMessage: undefined,
    readUpTo: 0,
    openedUpTo: 0,
    unread: 0,
    owner: row.owner,
    unopened: 0,
    retentionS: row.retentionS < 0 ? undefined : row.retentionS,
    expiredUpTo: row.expiredUpTo,
  }
}
