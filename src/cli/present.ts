import { toHex } from '../base/bytes.ts'
import type { Account, Conversation, Draft, DraftOutcome, Message, Session } from '../gen/parley/v1/model.ts'
import { type Client, reasonWords } from '../client/index.ts'
import type { Io } from './io.ts'
import { conversationLabel, targetLabel } from './names.ts'
import { clockTime, hang, paint, type Paint, plural, printable } from './text.ts'

// How things look: `…Json` for programs, `…Line` for people. Whatever others chose (texts, names, topics) is made safe for the terminal here.

/** How lines for people are shown. */
export interface Look {
  readonly nowMs: number
  readonly colors: Paint
  /** Of the terminal in which they are read; Infinity: they are not, and no line is broken. */
  readonly columns: number
}

export function lookOf(io: Pick<Io, 'nowMs' | 'color' | 'columns' | 'isTerminal'>): Look {
  return {
    nowMs: io.nowMs(),
    colors: paint(io.color),
    columns: io.isTerminal ? io.columns() : Infinity,
  }
}

export function time(atMs: number): string | null {
  return atMs === 0 ? null : new Date(atMs).toISOString()
}

export function accountJson(account: Account | undefined): unknown {
  if (account === undefined) return null
  const { id, name, online, deleted, admin, createdAtMs } = account
  return { id, name, online, deleted, admin, createdAt: time(createdAtMs) }
}

export function messageJson(message: Message, label: string): unknown {
  return {
    message: `${label}/${message.seq}`,
    conversation: label,
    conversationId: message.conversation,
    seq: message.seq,
    id: toHex(message.id),
    sender: message.senderName,
    senderId: message.sender,
    text: message.text,
    at: time(message.atMs),
    editedAt: time(message.editedAtMs),
    deleted: message.deleted,
    read: message.read,
  }
}

/** Who reads, and under which name the conversation is shown. */
export interface Reading {
  /** Messages of this one are said by `you`. */
  readonly reader: Pick<Client, 'account'>
  readonly label: string
}

/** `14:03 #dev/3  bob: hi`, with remarks behind it; lines after the first are indented. */
export function messageLine(
  message: Message,
  { reader, label }: Reading,
  { nowMs, colors, columns }: Look,
  remarks: readonly string[] = [],
): string {
  const where = `${clockTime(message.atMs, nowMs)} ${printable(label)}/${message.seq}`
  const sender = message.sender === reader.account?.id ? 'you' : printable(message.senderName)
  const text = message.deleted ? colors.dim('(deleted)') : printable(message.text, true)
  const edited = message.editedAtMs > 0 && !message.deleted ? [colors.dim('(edited)')] : []
  return hang(
    `${colors.dim(where)}  ${colors.bold(`${sender}:`)} `,
    [text, ...edited, ...remarks].join(' '),
    columns,
  )
}

export function conversationJson(conversation: Conversation): unknown {
  const { id, name, topic, members, member, lastSeq, unread } = conversation
  return {
    conversation: conversationLabel(conversation),
    id,
    name,
    topic,
    private: conversation.private,
    members,
    member,
    lastSeq,
    unread,
  }
}

export function roomRow(room: Conversation): string[] {
  const marks = [
    room.member ? 'member' : '',
    room.private ? 'private' : '',
    room.unread > 0 ? `${room.unread} unread` : '',
  ]
  return [
    printable(conversationLabel(room)),
    plural(room.members, 'member'),
    marks.filter((mark) => mark !== '').join(', '),
    printable(room.topic),
  ]
}

export function accountRow(account: Account, colors: Paint): string[] {
  return [
    printable(account.name),
    account.online ? colors.green('online') : colors.dim('offline'),
    account.admin ? 'administrator' : '',
  ]
}

export function draftName(draft: Pick<Draft, 'id'>): string {
  return toHex(draft.id).slice(-6)
}

export function draftJson(draft: Draft): unknown {
  return {
    draft: draftName(draft),
    id: toHex(draft.id),
    text: draft.text,
    recipients: draft.recipients.map(targetLabel),
    version: draft.version,
    updatedAt: time(draft.updatedAtMs),
    conflictOf: draft.conflictOf.length === 0 ? null : toHex(draft.conflictOf),
  }
}

export function draftLine(draft: Draft, { nowMs, colors, columns }: Look): string {
  const to = draft.recipients.map(targetLabel).join(', ')
  const copy = draft.conflictOf.length > 0 ? colors.yellow(' (a copy: another device changed the draft)') : ''
  const head = `${draftName(draft)} ${colors.dim(clockTime(draft.updatedAtMs, nowMs))}`
  return hang(
    `${head} ${colors.bold(`to ${to === '' ? 'nobody yet' : printable(to)}:`)} `,
    `${printable(draft.text, true)}${copy}`,
    columns,
  )
}

export function draftOutcomeJson(outcome: DraftOutcome): unknown {
  const sent = outcome.outcome?.$case === 'sent' ? outcome.outcome.value : null
  return {
    draft: draftName({ id: outcome.draftId }),
    recipient: targetLabel(outcome.recipient),
    sent: sent !== null,
    conversationId: sent?.conversation ?? null,
    seq: sent?.seq ?? null,
    delivered: outcome.delivered,
    reason: outcome.outcome?.$case === 'rejected' ? outcome.outcome.value : null,
  }
}

export function draftOutcomeLine(outcome: DraftOutcome, colors: Paint): string {
  const to = printable(targetLabel(outcome.recipient))
  const head = `${draftName({ id: outcome.draftId })} to ${to}:`
  if (outcome.outcome?.$case !== 'rejected')
    return `${head} ${deliveryWords(outcome.recipient?.target?.$case === 'account', outcome.delivered)}`
  const reason = outcome.outcome.value
  const why =
    reason === 'REASON_ACCOUNT_NOT_FOUND'
      ? `${to} does not exist, or has deleted their account`
      : reasonWords(reason)
  return `${head} ${colors.red('not sent')}: ${why}`
}

/** What became of a message that was taken in. Rooms have many members, of whom some are here and some not. */
export function deliveryWords(direct: boolean, delivered: boolean): string {
  if (!direct) return 'sent'
  return delivered ? 'delivered' : 'will be delivered when they sign in'
}

export function sessionJson(session: Session): unknown {
  return {
    id: session.id,
    device: session.device,
    current: session.current,
    online: session.online,
    createdAt: time(session.createdAtMs),
    lastActiveAt: time(session.lastActiveAtMs),
    expiresAt: time(session.expiresAtMs),
  }
}
