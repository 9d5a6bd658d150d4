import type { Client } from '../../client/index.ts'
import type { Account, Conversation } from '../../gen/parley/v1/model.ts'
import { parseRoom, parseTarget } from '../names.ts'
import { accountJson, accountRow, conversationJson, roomRow } from '../present.ts'
import { durationWords, paint, type Paint, parseDuration, printable, table } from '../text.ts'
import { type Report, verb } from '../verb.ts'

export const roomsList = verb(
  {
    name: 'rooms list',
    summary: "list rooms: rooms list 'dev*'",
    arguments: ['[pattern]'],
    options: [],
  },
  ({ arguments: [pattern] }) => ({ pattern: (pattern ?? '').replace(/^#/, '') }),
  ({ pattern }, { io, session }) => roomsReport(session().signedIn(), pattern, paint(io.color)),
)

export async function roomsReport(client: Client, pattern: string, colors: Paint): Promise<Report> {
  const rooms: Conversation[] = []
  let pageToken = ''
  do {
    const page = await client.call('listRooms', { pattern, pageSize: 500, pageToken })
    rooms.push(...page.rooms)
    pageToken = page.nextPageToken
  } while (pageToken !== '')
  return {
    data: { rooms: rooms.map(conversationJson) },
    lines: rooms.length === 0 ? [colors.dim('No rooms of that name.')] : table(rooms.map(roomRow)),
  }
}

export const roomsCreate = verb(
  {
    name: 'rooms create',
    summary: 'make a room and enter it',
    arguments: ['<name>'],
    options: [
      ['--topic <text>', 'what it is about'],
      ['--private', 'not listed, and entered by invitation only'],
    ],
  },
  ({ arguments: [name], options }) => ({
    name: parseRoom(name ?? ''),
    topic: typeof options['topic'] === 'string' ? options['topic'] : '',
    private: options['private'] === true,
  }),
  async (options, { session }) => {
    const { conversation } = await session().signedIn().call('createRoom', options)
    return roomReport(conversation, `#${options.name} is made, and you are in it.`)
  },
)

export const roomsJoin = verb(
  { name: 'rooms join', summary: 'enter a room', arguments: ['<name>'], options: [] },
  ({ arguments: [name] }) => ({ name: parseRoom(name ?? '') }),
  async ({ name }, { session }) => {
    const { conversation } = await session().signedIn().call('joinRoom', { name })
    return roomReport(conversation, `You are in #${name}.`)
  },
)

export const roomsLeave = verb(
  { name: 'rooms leave', summary: 'leave a room', arguments: ['<name>'], options: [] },
  ({ arguments: [name] }) => ({ name: parseRoom(name ?? '') }),
  async ({ name }, { session }) => {
    await session().signedIn().call('leaveRoom', { name })
    return { data: { left: `#${name}` }, lines: [`You have left #${name}.`] }
  },
)

export const roomsRetention = verb(
  {
    name: 'rooms retention',
    summary: 'how long messages of a room are kept: rooms retention garden 30d (for its owner)',
    arguments: ['<name>', '<time>'],
    options: [],
    examples: [
      'parley rooms retention garden 30d',
      'parley rooms retention garden forever',
      'parley rooms retention garden policy',
    ],
  },
  ({ arguments: [name, time] }) => ({
    name: parseRoom(name ?? ''),
    retentionS: time === 'policy' ? null : parseDuration(time ?? ''),
  }),
  async ({ name, retentionS }, { session }) => {
    await session()
      .signedIn()
      .call('setRoomRetention', { name, ...(retentionS === null ? {} : { retentionS }) })
    const words =
      retentionS === null
        ? 'as long as the policy says'
        : retentionS === 0
          ? 'for ever'
          : `for ${durationWords(retentionS)}`
    return { data: { room: `#${name}`, retentionS }, lines: [`Messages of #${name} are kept ${words}.`] }
  },
)

export const roomsInvite = verb(
  {
    name: 'rooms invite',
    summary: 'bring somebody into a room',
    arguments: ['<name>', '<account>'],
    options: [],
  },
  ({ arguments: [name, account] }) => ({ name: parseRoom(name ?? ''), account: account ?? '' }),
  async ({ name, account }, { session }) => {
    await session().signedIn().call('inviteToRoom', { name, account })
    return {
      data: { room: `#${name}`, account },
      lines: [`${printable(account)} is in #${name} now.`],
    }
  },
)

export const roomsMembers = verb(
  { name: 'rooms members', summary: 'who is in a room', arguments: ['<name>'], options: [] },
  ({ arguments: [name] }) => ({ name: parseRoom(name ?? '') }),
  ({ name }, { io, session }) => membersReport(session().signedIn(), `#${name}`, paint(io.color)),
)

export async function membersReport(client: Client, conversation: string, colors: Paint): Promise<Report> {
  const members: Account[] = []
  let pageToken = ''
  do {
    const page = await client.call('listMembers', {
      conversation: parseTarget(conversation),
      pageSize: 500,
      pageToken,
    })
    members.push(...page.members)
    pageToken = page.nextPageToken
  } while (pageToken !== '')
  return {
    data: { members: members.map(accountJson) },
    lines: table(members.map((account) => accountRow(account, colors))),
  }
}

function roomReport(conversation: Conversation | undefined, line: string): Report {
  return { data: conversation === undefined ? null : conversationJson(conversation), lines: [line] }
}
