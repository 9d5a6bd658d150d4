import { uuidV7TimeMs } from '../base/ids.ts'
import type { Command } from '../gen/parley/v1/command.ts'
import type { Request } from '../gen/parley/v1/frames.ts'
import { Reason, type Error as ChatError, type FieldViolation, type Target } from '../gen/parley/v1/model.ts'
import type { SetPolicyRequest } from '../gen/parley/v1/service.ts'

/** A minute to a hundred years; 0 stands for ever. */
const leastRetentionS = 60
const mostRetentionS = 3_153_600_000

/** Every limit of what people may send. Lengths of texts are bytes of UTF-8. */
export const limits = {
  nameLength: 50,
  passwordBytes: 1024,
  deviceBytes: 100,
  topicBytes: 250,
  /** What a policy can allow at most. */
  messageBytes: 65_536,
  patternBytes: 100,
  queryBytes: 200,
  pageSize: 500,
  pageTokenBytes: 200,
  openAtOnce: 500,
  /** Deleting an account is one command, which tells twice of each room; a command has room for 65,536 events. */
  roomsPerAccount: 10_000,
  draftsPerAccount: 1000,
  draftRecipients: 100,
  draftsSentAtOnce: 100,
  /** Messages, and bytes of text in them, that one SendDrafts sends; what is left stays in the drafts. */
  sendsAtOnce: 1000,
  sentBytesAtOnce: 4 * 1024 * 1024,
  draftsDeletedAtOnce: 1000,
  /** Messages of one conversation that an account can mark one by one, before it has to mark up to one. */
  marksPerConversation: 1000,
  sessionsPerAccount: 100,
  /** The least that a policy can let people stay signed in. */
  signedInS: 60,
  backupBytesAtOnce: 1024 * 1024,
  addressBytes: 300,
  /** The highest number that a replica can have. */
  replica: 2 ** 31 - 1,
  /** The highest that can be asked for: far from the highest there is, so that there is always a next one. */
  askedReplica: 1_000_000,
  joinTokenUses: 100,
  joinTokenLifetimeS: 31_536_000,
  certificateRequestBytes: 4096,
} as const

/** Texts in one answer with several messages, in bytes of UTF-8: it has fewer messages when they are large. */
export const maxPageBytes = 1024 * 1024

/** A request as it comes in. */
export type RequestOp = NonNullable<Request['op']>
export type CommandOp = NonNullable<Command['op']>
type ClusterCase =
  'presence' | 'replicaGone' | 'touchSessions' | 'endSessions' | 'raiseVersion' | 'expireMessages'
/** Commands that carry the request of the same name as it came in. */
type SameOp = Exclude<
  CommandOp,
  { readonly $case: 'register' | 'logIn' | 'changePassword' | 'useJoinToken' | ClusterCase }
>

/** What is wrong with the form of a request; null when nothing is. For the ways in, before anything is proposed. */
export function requestError(op: RequestOp): ChatError | null {
  return errorOf(violations(op))
}

/** The same for a command, which the state machine checks again. */
export function commandError(op: CommandOp): ChatError | null {
  return errorOf(commandViolations(op))
}

/** Everything that is wrong with the form of a request: each field, as a path, with its limit. */
export function violations(op: RequestOp): readonly FieldViolation[] {
  const found = new Violations(mostTold)
  switch (op.$case) {
    case 'authenticate':
    case 'subscribe':
    case 'ping':
    case 'getMe':
    case 'listSessions':
    case 'getInbox':
    case 'getPolicy':
    case 'getStatus':
    case 'listJoinTokens':
      break
    case 'joinCluster':
      found.id(op.value.id)
      found.bytes('secret', op.value.secret, 16, 64)
      found.bytes('certificate_request', op.value.certificateRequest, 1, limits.certificateRequestBytes)
      found.address('http_address', op.value.httpAddress)
      found.address('grpc_address', op.value.grpcAddress)
      found.address('peer_address', op.value.peerAddress)
      break
    case 'lookUpName':
      found.name('name', op.value.name)
      break
    case 'register':
      found.id(op.value.id)
      found.name('name', op.value.name)
      found.password('password', op.value.password)
      found.text('device', op.value.device, limits.deviceBytes)
      found.token(op.value.token)
      break
    case 'logIn':
      found.id(op.value.id)
      found.name('name', op.value.name)
      found.password('password', op.value.password)
      found.text('device', op.value.device, limits.deviceBytes)
      found.token(op.value.token)
      break
    case 'changePassword':
      found.id(op.value.id)
      found.password('old_password', op.value.oldPassword)
      found.password('new_password', op.value.newPassword)
      break
    case 'listAccounts':
    case 'listRooms':
      found.text('pattern', op.value.pattern, limits.patternBytes)
      found.page(op.value)
      break
    case 'listConversations':
      found.page(op.value, /^\d{1,16}\.\d{1,16}$/)
      break
    case 'listDrafts':
      found.page(op.value, /^\d{1,16}\.[0-9a-f]{32}$/)
      break
    case 'getConversation':
      found.target('conversation', op.value.conversation)
      break
    case 'listMembers':
      found.target('conversation', op.value.conversation)
      found.page(op.value, /^\d{1,16}$/)
      break
    case 'listMessages':
      found.target('conversation', op.value.conversation)
      found.page({ pageSize: op.value.pageSize, pageToken: '' })
      if (op.value.beforeSeq > 0 && op.value.afterSeq > 0)
        found.add('after_seq', 'cannot be used together with before_seq')
      break
    case 'searchMessages':
      found.text('query', op.value.query, limits.queryBytes)
      if (isBlank(op.value.query)) found.add('query', 'must not be empty')
      if (op.value.conversation !== undefined) found.target('conversation', op.value.conversation)
      found.page(op.value, /^\d{1,16}$/)
      break
    case 'addReplica':
      found.range('replica', op.value.replica, 0, limits.askedReplica)
      found.address('peer_address', op.value.peerAddress)
      found.address('http_address', op.value.httpAddress)
      found.address('grpc_address', op.value.grpcAddress)
      break
    case 'startBackup':
      break
    case 'readBackup':
      found.range('max_bytes', op.value.maxBytes, 1, limits.backupBytesAtOnce)
      break
    case 'export':
      found.page({ pageSize: 0, pageToken: op.value.pageToken })
      break
    case 'promoteReplica':
    case 'removeReplica':
      found.range('replica', op.value.replica, 1, limits.replica)
      break
    case 'transferLeadership':
      found.range('replica', op.value.replica, 0, limits.replica)
      break
    case 'setPolicy':
      found.id(op.value.id)
      checkSame(found, op)
      checkSignedInTimes(found, op.value)
      found.count('fields', op.value.fields.length, 0, Object.keys(policyFields).length)
      break
    case 'deleteDrafts':
    case 'sendDrafts':
      found.id(op.value.id)
      checkSame(found, op)
      checkDraftIds(found, op.value.draftIds)
      break
    default:
      found.id(op.value.id)
      checkSame(found, op)
  }
  return found.list
}

export function commandViolations(op: CommandOp): readonly FieldViolation[] {
  // The command that matters for speed: nothing is allocated when it is in order.
  if (op.$case === 'sendMessage' && isTargetInOrder(op.value.to) && isTextInOrder(op.value.text)) return none
  const found = new Violations()
  switch (op.$case) {
    case 'presence':
    case 'replicaGone':
    case 'touchSessions':
    case 'endSessions':
      break
    case 'register':
      found.name('name', op.value.name)
      found.text('device', op.value.device, limits.deviceBytes)
      if (op.value.passwordHash === '') found.add('password', 'must not be empty')
      if (op.value.tokenHash.length !== 32) found.add('token', 'must be hashed to 32 bytes')
      break
    case 'logIn':
      found.text('device', op.value.device, limits.deviceBytes)
      if (op.value.tokenHash.length !== 32) found.add('token', 'must be hashed to 32 bytes')
      break
    case 'changePassword':
      if (op.value.passwordHash === '') found.add('new_password', 'must not be empty')
      break
    case 'raiseVersion':
    case 'expireMessages':
      break
    case 'useJoinToken':
      found.bytes('secret_hash', op.value.secretHash, 32, 32)
      break
    default:
      checkSame(found, op)
  }
  return found.list
}

/** 1-50 of letters, digits, `_` and `-`. */
export function isName(name: string): boolean {
  if (name.length === 0 || name.length > limits.nameLength) return false
  for (let i = 0; i < name.length; i += 1) {
    const code = name.charCodeAt(i)
    const letter = (code | 0x20) >= 0x61 && (code | 0x20) <= 0x7a
    const digit = code >= 0x30 && code <= 0x39
    if (!letter && !digit && code !== 0x5f && code !== 0x2d) return false
  }
  return true
}

/** Bytes of UTF-8. A lone surrogate counts as the replacement character that it is encoded as. */
export function utf8Length(text: string): number {
  let length = text.length
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i)
    if (code < 0x80) continue
    length += code < 0x800 ? 1 : 2
    if (code >= 0xd800 && code < 0xdc00) {
      const next = text.charCodeAt(i + 1)
      // A pair is four bytes for two units; `length` has counted three for the first and none for the second.
      if (next >= 0xdc00 && next < 0xe000) i += 1
    }
  }
  return length
}

/** Nothing but white space. */
export function isBlank(text: string): boolean {
  const code = text.charCodeAt(0)
  if (code > 0x20 && code < 0x7f) return false
  return text.trim() === ''
}

/** Whether `text` takes more than so many bytes of UTF-8. Most texts need not be looked at for that. */
export function isLonger(text: string, maxBytes: number): boolean {
  if (text.length * 3 <= maxBytes) return false
  return text.length > maxBytes || utf8Length(text) > maxBytes
}

const none: readonly FieldViolation[] = []

const nameRule = `must be 1 to ${limits.nameLength} of letters, digits, "_" and "-"`
const tooLong = 'must be at most'

function errorOf(list: readonly FieldViolation[]): ChatError | null {
  const first = list[0]
  if (first === undefined) return null
  const isSize = first.field === 'text' && first.description.startsWith(tooLong)
  return {
    reason: isSize ? Reason.MESSAGE_TOO_LARGE : Reason.INVALID_ARGUMENT,
    message: `${first.field} ${first.description}.`,
    violations: list,
    retryAfterMs: 0,
  }
}

function checkSame(found: Violations, op: SameOp): void {
  switch (op.$case) {
    case 'logOut':
      return
    case 'deleteAccount':
      found.name('confirm_name', op.value.confirmName)
      return
    case 'revokeSession':
      if (op.value.session === 0) found.add('session', 'must be given')
      return
    case 'createRoom':
      found.name('name', op.value.name)
      found.text('topic', op.value.topic, limits.topicBytes)
      return
    case 'joinRoom':
    case 'leaveRoom':
      found.name('name', op.value.name)
      return
    case 'setRoomRetention':
      found.name('name', op.value.name)
      if (op.value.retentionS !== undefined && op.value.retentionS !== 0)
        found.range('retention_s', op.value.retentionS, leastRetentionS, mostRetentionS)
      return
    case 'inviteToRoom':
      found.name('name', op.value.name)
      found.name('account', op.value.account)
      return
    case 'sendMessage':
      found.target('to', op.value.to)
      found.messageText(op.value.text)
      return
    case 'editMessage':
      found.message(op.value.message)
      found.messageText(op.value.text)
      return
    case 'deleteMessage':
      found.message(op.value.message)
      return
    case 'markRead':
      if (op.value.conversation === 0) found.add('conversation', 'must be given')
      if (op.value.mark === undefined)
        found.add('mark', 'one of up_to, read, unread, opened_up_to must be given')
      else if (op.value.mark.value === 0) found.add(markFields[op.value.mark.$case], 'must be at least 1')
      return
    case 'openInbox':
      found.range('count', op.value.count, 1, limits.openAtOnce)
      return
    case 'saveDraft':
      found.draftId('draft_id', op.value.draftId)
      found.text('text', op.value.text, limits.messageBytes)
      found.count('recipients', op.value.recipients.length, 0, limits.draftRecipients)
      op.value.recipients.slice(0, limits.draftRecipients).forEach((target, i) => {
        found.target(`recipients[${i}]`, target)
      })
      return
    case 'deleteDrafts':
      found.count('draft_ids', op.value.draftIds.length, 1, limits.draftsDeletedAtOnce)
      return
    case 'sendDrafts':
      found.count('draft_ids', op.value.draftIds.length, 1, limits.draftsSentAtOnce)
      return
    case 'setPolicy':
      checkPolicy(found, op.value)
      return
    case 'createJoinToken':
      found.bytes('secret_hash', op.value.secretHash, 32, 32)
      found.range('uses', op.value.uses, 1, limits.joinTokenUses)
      found.range('lifetime_s', op.value.lifetimeS, 1, limits.joinTokenLifetimeS)
      return
    case 'revokeJoinToken':
      if (op.value.number === 0) found.add('number', 'must be given')
      return
    default:
      throw new Error(`no rule for ${String((op satisfies never as { readonly $case: string }).$case)}`)
  }
}

const markFields = {
  upTo: 'up_to',
  read: 'read',
  unread: 'unread',
  openedUpTo: 'opened_up_to',
} as const

/** The fields of a policy, as they are named in `SetPolicyRequest.fields`, with the ranges of those that are numbers. */
export const policyFields = {
  registration_open: null,
  single_session: null,
  idle_logout_s: { key: 'idleLogoutS', min: 0, max: 31_536_000 },
  max_message_bytes: { key: 'maxMessageBytes', min: 1, max: limits.messageBytes },
  messages_per_minute: { key: 'messagesPerMinute', min: 0, max: 1_000_000 },
  session_lifetime_s: { key: 'sessionLifetimeS', min: 1, max: 315_360_000 },
  retention_s: { key: 'retentionS', min: 0, max: mostRetentionS },
} as const

export type PolicyField = keyof typeof policyFields

export function isPolicyField(field: string): field is PolicyField {
  return Object.hasOwn(policyFields, field)
}

function checkPolicy(found: Violations, { policy, fields }: SetPolicyRequest): void {
  if (policy === undefined) {
    found.add('policy', 'must be given')
    return
  }
  for (const field of fields) {
    if (!isPolicyField(field)) found.add('fields', `must be some of ${Object.keys(policyFields).join(', ')}`)
  }
  for (const [field, range] of Object.entries(policyFields)) {
    if (range === null || (fields.length > 0 && !fields.includes(field))) continue
    found.range(`policy.${field}`, policy[range.key], range.min, range.max)
    if (field === 'retention_s' && policy.retentionS > 0)
      found.range('policy.retention_s', policy.retentionS, leastRetentionS, mostRetentionS)
  }
}

/** Nobody could go on under shorter ones, whoever would set them right included. Only who asks is told: the log may hold shorter ones, of an earlier version. */
function checkSignedInTimes(found: Violations, { policy, fields }: SetPolicyRequest): void {
  const isSet = (field: PolicyField): boolean => fields.length === 0 || fields.includes(field)
  const least = limits.signedInS
  if (policy === undefined) return
  if (isSet('idle_logout_s') && policy.idleLogoutS > 0 && policy.idleLogoutS < least)
    found.add('policy.idle_logout_s', `must be 0, or at least ${least}`)
  if (isSet('session_lifetime_s') && policy.sessionLifetimeS > 0 && policy.sessionLifetimeS < least)
    found.add('policy.session_lifetime_s', `must be at least ${least}`)
}

/** Only who asks is told: the log may hold others, of an earlier version. */
function checkDraftIds(found: Violations, ids: readonly Uint8Array[]): void {
  ids.slice(0, limits.draftsDeletedAtOnce).forEach((id, i) => {
    found.draftId(`draft_ids[${i}]`, id)
  })
}

function isTargetInOrder(target: Target | undefined): boolean {
  const given = target?.target
  if (given === undefined) return false
  return given.$case === 'conversation' ? given.value > 0 : isName(given.value)
}

function isTextInOrder(text: string): boolean {
  return !isBlank(text) && !isLonger(text, limits.messageBytes)
}

/** Who sends thousands of wrong things need not be told of each. */
const mostTold = 20

class Violations {
  readonly list: FieldViolation[] = []
  private readonly most: number

  constructor(most = Infinity) {
    this.most = most
  }

  add(field: string, description: string): void {
    if (this.list.length < this.most) this.list.push({ field, description })
  }

  id(id: Uint8Array): void {
    if (uuidV7TimeMs(id) === null) this.add('id', 'must be a UUIDv7 of 16 bytes')
  }

  draftId(field: string, id: Uint8Array): void {
    if (uuidV7TimeMs(id) === null) this.add(field, 'must be a UUIDv7 of 16 bytes')
  }

  name(field: string, name: string): void {
    if (!isName(name)) this.add(field, nameRule)
  }

  password(field: string, password: string): void {
    if (password === '') this.add(field, 'must not be empty')
    this.text(field, password, limits.passwordBytes)
  }

  token(token: Uint8Array): void {
    if (token.length !== 0 && token.length !== 32) this.add('token', 'must be 32 bytes, or empty')
  }

  text(field: string, text: string, maxBytes: number): void {
    if (isLonger(text, maxBytes)) this.add(field, `${tooLong} ${maxBytes} bytes`)
  }

  messageText(text: string): void {
    if (isBlank(text)) this.add('text', 'must not be empty')
    this.text('text', text, limits.messageBytes)
  }

  message(message: { readonly conversation: number; readonly seq: number } | undefined): void {
    if (message === undefined || message.conversation === 0 || message.seq === 0)
      this.add('message', 'must name a conversation and a number')
  }

  /** They are kept side by side, with a blank between them. */
  address(field: string, address: string): void {
    const port = Number(address.slice(address.lastIndexOf(':') + 1))
    if (!/^[^\s:]+:[0-9]{1,5}$|^\[[0-9a-fA-F:.%]+\]:[0-9]{1,5}$/.test(address) || port < 1 || port > 65_535)
      this.add(field, 'must be host:port')
    this.text(field, address, limits.addressBytes)
  }

  range(field: string, value: number, min: number, max: number): void {
    if (!(value >= min && value <= max)) this.add(field, `must be ${min} to ${max}`)
  }

  count(field: string, count: number, min: number, max: number): void {
    if (count < min) this.add(field, 'must not be empty')
    if (count > max) this.add(field, `${tooLong} ${max}`)
  }

  bytes(field: string, bytes: Uint8Array, min: number, max: number): void {
    if (bytes.length < min || bytes.length > max)
      this.add(field, min === max ? `must be ${min} bytes` : `must be ${min} to ${max} bytes`)
  }

  /** @param tokens what those look like that answers give; where they are names any text may be one. */
  page(
    { pageSize, pageToken }: { readonly pageSize: number; readonly pageToken: string },
    tokens: RegExp | null = null,
  ): void {
    this.range('page_size', pageSize, 0, limits.pageSize)
    this.text('page_token', pageToken, limits.pageTokenBytes)
    if (pageToken !== '' && tokens?.test(pageToken) === false)
      this.add('page_token', 'is not one that was given out')
  }

  target(field: string, target: Target | undefined): void {
    const given = target?.target
    switch (given?.$case) {
      case undefined:
        this.add(field, 'must name a conversation, an account or a room')
        return
      case 'conversation':
        if (given.value === 0) this.add(`${field}.conversation`, 'must be at least 1')
        return
      case 'account':
        this.name(`${field}.account`, given.value)
        return
      case 'room':
        this.name(`${field}.room`, given.value)
    }
  }
}
