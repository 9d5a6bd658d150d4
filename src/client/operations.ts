import * as service from '../gen/parley/v1/service.ts'
import type { InputOf, OperationName, RequestOf, RequestOp } from './types.ts'

type Empty = { readonly [N in OperationName]: RequestOf<N> }

/** Each operation's request with nothing set. */
const empty: Empty = {
  lookUpName: service.LookUpNameRequest.create(),
  register: service.RegisterRequest.create(),
  logIn: service.LogInRequest.create(),
  logOut: service.LogOutRequest.create(),
  changePassword: service.ChangePasswordRequest.create(),
  deleteAccount: service.DeleteAccountRequest.create(),
  getMe: service.GetMeRequest.create(),
  listAccounts: service.ListAccountsRequest.create(),
  listSessions: service.ListSessionsRequest.create(),
  revokeSession: service.RevokeSessionRequest.create(),
  listConversations: service.ListConversationsRequest.create(),
  getConversation: service.GetConversationRequest.create(),
  createRoom: service.CreateRoomRequest.create(),
  joinRoom: service.JoinRoomRequest.create(),
  leaveRoom: service.LeaveRoomRequest.create(),
  inviteToRoom: service.InviteToRoomRequest.create(),
  setRoomRetention: service.SetRoomRetentionRequest.create(),
  listRooms: service.ListRoomsRequest.create(),
  listMembers: service.ListMembersRequest.create(),
  sendMessage: service.SendMessageRequest.create(),
  editMessage: service.EditMessageRequest.create(),
  deleteMessage: service.DeleteMessageRequest.create(),
  markRead: service.MarkReadRequest.create(),
  listMessages: service.ListMessagesRequest.create(),
  searchMessages: service.SearchMessagesRequest.create(),
  getInbox: service.GetInboxRequest.create(),
  openInbox: service.OpenInboxRequest.create(),
  saveDraft: service.SaveDraftRequest.create(),
  deleteDrafts: service.DeleteDraftsRequest.create(),
  sendDrafts: service.SendDraftsRequest.create(),
  listDrafts: service.ListDraftsRequest.create(),
  getPolicy: service.GetPolicyRequest.create(),
  setPolicy: service.SetPolicyRequest.create(),
  startBackup: service.StartBackupRequest.create(),
  readBackup: service.ReadBackupRequest.create(),
  export: service.ExportRequest.create(),
  getStatus: service.GetStatusRequest.create(),
  addReplica: service.AddReplicaRequest.create(),
  promoteReplica: service.PromoteReplicaRequest.create(),
  removeReplica: service.RemoveReplicaRequest.create(),
  transferLeadership: service.TransferLeadershipRequest.create(),
  createJoinToken: service.CreateJoinTokenRequest.create(),
  listJoinTokens: service.ListJoinTokensRequest.create(),
  revokeJoinToken: service.RevokeJoinTokenRequest.create(),
  joinCluster: service.JoinClusterRequest.create(),
}

/** The operation with what the caller left out filled in: nothing, and an empty id. */
export function fillIn<N extends OperationName>(name: N, input: InputOf<N>): RequestOp {
  // Only the pairing of the name with its own request is beyond the compiler here; InputOf has checked it at the call.
  return { $case: name, value: { ...empty[name], ...input } } as unknown as RequestOp
}

/** Whether the operation changes something, and so carries an id. */
export function isMutation(name: OperationName): boolean {
  return 'id' in empty[name]
}

/** Whether it may be asked for before sign-in. */
export function needsNoSession(name: RequestOp['$case']): boolean {
  return ['lookUpName', 'register', 'logIn', 'getPolicy', 'getStatus', 'joinCluster'].includes(name)
}

/** About how many characters the request holds: for limits. */
export function weightOf(op: RequestOp): number {
  switch (op.$case) {
    case 'sendMessage':
    case 'editMessage':
      return op.value.text.length
    case 'saveDraft':
      return op.value.text.length + 64 * op.value.recipients.length
    case 'sendDrafts':
    case 'deleteDrafts':
      return 20 * op.value.draftIds.length
    default:
      return 0
  }
}
