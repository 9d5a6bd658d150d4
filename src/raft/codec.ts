import { unreachable } from '../base/assert.ts'
import { MalformedError, type ByteReader, type ByteWriter } from '../base/bytes.ts'
import type { ReplicaId } from '../base/ids.ts'
import type {
  ChangeRefusal,
  Configuration,
  ConfigurationChange,
  Entry,
  FaultModel,
  Index,
  Member,
  Message,
  MessageBody,
  SnapshotPoint,
  Term,
  TermStart,
} from './types.ts'

/*
 * How entries, configurations and messages look as bytes, on the links and in the log. Numbers of kinds are never used again for something else. What is decoded
 * keeps every promise of types.ts (order of members, contiguous entries, …), so that garbage ends here and not in an assertion of the core. The decoders leave the
 * reader behind what they read; whoever expects nothing more calls `reader.end()`.
 */

const messageKinds = {
  preVote: 1,
  preVoteReply: 2,
  vote: 3,
  voteReply: 4,
  append: 5,
  appendReply: 6,
  heartbeat: 7,
  heartbeatReply: 8,
  readIndex: 9,
  readIndexReply: 10,
  propose: 11,
  snapshot: 12,
  snapshotReply: 13,
  timeoutNow: 14,
  proposalsLost: 15,
  change: 16,
  changeReply: 17,
  transfer: 18,
  gather: 19,
  gatherReply: 20,
} as const satisfies Record<MessageBody['kind'], number>

const entryKinds = { data: 1, configuration: 2, noop: 3 } as const satisfies Record<Entry['kind'], number>

const faultModels = { majority: 1, 'fail-stop': 2 } as const satisfies Record<FaultModel, number>
/** Stands before the fault model when the highest id that was ever given follows it. */
const withHighestId = 16

const changeKinds = { addLearner: 1, promote: 2, remove: 3, setAddress: 4 } as const satisfies Record<
  ConfigurationChange['kind'],
  number
>

const refusals = {
  notLeader: 1,
  unanswered: 2,
  changeInProgress: 3,
  termNotOpened: 4,
  alreadyMember: 5,
  idUsed: 6,
  notMember: 7,
  notCaughtUp: 8,
  quorumAtRisk: 9,
  stillAlive: 10,
  upgradePending: 11,
} as const satisfies Record<ChangeRefusal, number>

/** Since this version (src/base/version.ts) changes of the replica set, and hand-overs, are taken to the leader, and configurations tell the highest id that was ever given. */
export const replicaSetVersion = 2

const messageKindOf = inverted<MessageBody['kind']>(messageKinds)
const entryKindOf = inverted<Entry['kind']>(entryKinds)
const faultModelOf = inverted<FaultModel>(faultModels)
const changeKindOf = inverted<ConfigurationChange['kind']>(changeKinds)
const refusalOf = inverted<ChangeRefusal>(refusals)

/** What is larger is read nowhere. */
export const largestReplicaId = 2 ** 31 - 1

/** The first version whose replicas can read the message. */
export function versionOfMessage(message: Message): number {
  switch (message.kind) {
    case 'preVote':
    case 'preVoteReply':
    case 'vote':
    case 'voteReply':
    case 'appendReply':
    case 'heartbeat':
    case 'heartbeatReply':
    case 'readIndex':
    case 'readIndexReply':
    case 'propose':
    case 'snapshotReply':
    case 'timeoutNow':
    case 'proposalsLost':
      return 1
    case 'append': {
      const isNew = (entry: Entry) => entry.kind === 'configuration' && needsNew(entry.configuration)
      return message.entries.some(isNew) ? replicaSetVersion : 1
    }
    case 'snapshot':
      return needsNew(message.point.configuration) ? replicaSetVersion : 1
    case 'change':
    case 'changeReply':
    case 'transfer':
    case 'gather':
    case 'gatherReply':
      return replicaSetVersion
    default:
      return unreachable(message)
  }
}

function needsNew({ faultModel, highestId }: Configuration): boolean {
  return faultModel === 'fail-stop' || highestId !== undefined
}

export function encodeMessage(writer: ByteWriter, message: Message): void {
  writer.byte(messageKinds[message.kind]).varint(message.from).varint(message.to).varint(message.term)
  switch (message.kind) {
    case 'preVote':
      writer.varint(message.lastIndex).varint(message.lastTerm)
      return
    case 'vote':
      writer.varint(message.lastIndex).varint(message.lastTerm)
      encodeFlag(writer, message.transfer)
      return
    case 'preVoteReply':
    case 'voteReply':
      encodeFlag(writer, message.granted)
      return
    case 'append':
      writer.varint(message.prevIndex).varint(message.prevTerm).varint(message.commit)
      writer.varint(message.entries.length)
      for (const entry of message.entries) encodeEntry(writer, entry)
      return
    case 'appendReply':
      encodeFlag(writer, message.accepted)
      writer.varint(message.prevIndex).varint(message.index)
      writer.varint(message.conflictTerm).varint(message.lastIndex)
      return
    case 'heartbeat':
      writer.varint(message.commit).varint(message.round)
      return
    case 'heartbeatReply':
      writer.varint(message.round).varint(message.lastIndex).varint(message.proposed)
      return
    case 'readIndex':
      writer.varint(message.id)
      return
    case 'readIndexReply':
      writer.varint(message.id).varint(message.index)
      return
    case 'propose':
      writer.varint(message.number).varint(message.data.length)
      for (const data of message.data) writer.bytes(data)
      return
    case 'snapshot':
      encodeSnapshotPoint(writer, message.point)
      return
    case 'snapshotReply':
      writer.varint(message.index)
      return
    case 'timeoutNow':
    case 'proposalsLost':
      return
    case 'change':
      writer.varint(message.id)
      encodeChange(writer, message.change)
      return
    case 'changeReply':
      writer.varint(message.id).varint(message.index)
      writer.byte(message.refused === null ? 0 : refusals[message.refused])
      return
    case 'transfer':
      writer.varint(message.successor)
      return
    case 'gather':
      encodeReplicaIds(writer, message.givenUp)
      return
    case 'gatherReply':
      writer.varint(message.lastIndex).varint(message.lastTerm).varint(message.configurationIndex)
      encodeConfiguration(writer, message.configuration)
      writer.varint(message.incarnation)
      encodeFlag(writer, message.continuous)
      encodeReplicaIds(writer, message.givenUp)
      return
    default:
      unreachable(message)
  }
}

/**
 * Entries and proposals share the memory of what is read.
 *
 * @throws MalformedError
 */
export function decodeMessage(reader: ByteReader): Message {
  const kind = messageKindOf.get(reader.byte())
  if (kind === undefined) throw new MalformedError('a message is of an unknown kind')
  const from = decodeReplicaId(reader)
  const to = decodeReplicaId(reader)
  const term = reader.varint()
  switch (kind) {
    case 'preVote':
      return { kind, from, to, term, lastIndex: reader.varint(), lastTerm: reader.varint() }
    case 'vote':
      return {
        kind,
        from,
        to,
        term,
        lastIndex: reader.varint(),
        lastTerm: reader.varint(),
        transfer: decodeFlag(reader),
      }
    case 'preVoteReply':
    case 'voteReply':
      return { kind, from, to, term, granted: decodeFlag(reader) }
    case 'append': {
      const prevIndex = reader.varint()
      const prevTerm = reader.varint()
      const commit = reader.varint()
      const entries = decodeEntriesAfter(reader, { prevIndex, prevTerm, newest: term })
      return { kind, from, to, term, prevIndex, prevTerm, entries, commit }
    }
    case 'appendReply':
      return {
        kind,
        from,
        to,
        term,
        accepted: decodeFlag(reader),
        prevIndex: reader.varint(),
        index: reader.varint(),
        conflictTerm: reader.varint(),
        lastIndex: reader.varint(),
      }
    case 'heartbeat':
      return { kind, from, to, term, commit: reader.varint(), round: reader.varint() }
    case 'heartbeatReply':
      return {
        kind,
        from,
        to,
        term,
        round: reader.varint(),
        lastIndex: reader.varint(),
        proposed: reader.varint(),
      }
    case 'readIndex':
      return { kind, from, to, term, id: reader.varint() }
    case 'readIndexReply':
      return { kind, from, to, term, id: reader.varint(), index: reader.varint() }
    case 'propose': {
      const number = reader.varint()
      const data: Uint8Array[] = []
      for (let left = decodeCount(reader, 1); left > 0; left -= 1) data.push(reader.bytes())
      return { kind, from, to, term, number, data }
    }
    case 'snapshot':
      return { kind, from, to, term, point: decodeSnapshotPoint(reader) }
    case 'snapshotReply':
      return { kind, from, to, term, index: reader.varint() }
    case 'timeoutNow':
    case 'proposalsLost':
      return { kind, from, to, term }
    case 'change':
      return { kind, from, to, term, id: reader.varint(), change: decodeChange(reader) }
    case 'changeReply':
      return {
        kind,
        from,
        to,
        term,
        id: reader.varint(),
        index: reader.varint(),
        refused: decodeRefusal(reader),
      }
    case 'transfer':
      return { kind, from, to, term, successor: decodeReplicaId(reader) }
    case 'gather':
      return { kind, from, to, term, givenUp: decodeReplicaIds(reader) }
    case 'gatherReply':
      return {
        kind,
        from,
        to,
        term,
        lastIndex: reader.varint(),
        lastTerm: reader.varint(),
        configurationIndex: reader.varint(),
        configuration: decodeConfiguration(reader),
        incarnation: reader.varint(),
        continuous: decodeFlag(reader),
        givenUp: decodeReplicaIds(reader),
      }
    default:
      return unreachable(kind)
  }
}

export function encodeEntry(writer: ByteWriter, entry: Entry): void {
  writer.byte(entryKinds[entry.kind]).varint(entry.term).varint(entry.index)
  switch (entry.kind) {
    case 'data':
      writer.bytes(entry.data)
      return
    case 'configuration':
      encodeConfiguration(writer, entry.configuration)
      return
    case 'noop':
      return
    default:
      unreachable(entry)
  }
}

/**
 * The entry's `data` shares the memory of what is read.
 *
 * @throws MalformedError
 */
export function decodeEntry(reader: ByteReader): Entry {
  const kind = entryKindOf.get(reader.byte())
  if (kind === undefined) throw new MalformedError('an entry is of an unknown kind')
  const term = reader.varint()
  const index = reader.varint()
  if (term === 0 || index === 0) throw new MalformedError('an entry has no term or no index')
  switch (kind) {
    case 'data':
      return { kind, term, index, data: reader.bytes() }
    case 'configuration':
      return { kind, term, index, configuration: decodeConfiguration(reader) }
    case 'noop':
      return { kind, term, index }
    default:
      return unreachable(kind)
  }
}

/** What the `fail-stop` model needs more is written in its configurations only: those of the `majority` model look as they always did. */
export function encodeConfiguration(writer: ByteWriter, configuration: Configuration): void {
  const { faultModel, members, lineage = [], highestId } = configuration
  if (highestId !== undefined) writer.byte(withHighestId).varint(highestId)
  writer.byte(faultModels[faultModel]).varint(members.length)
  for (const member of members) {
    writer.varint(member.id)
    encodeFlag(writer, member.voter)
    writer.string(member.address)
    if (faultModel === 'fail-stop') writer.varint(member.incarnation ?? 0)
  }
  if (faultModel !== 'fail-stop') return
  writer.varint(lineage.length)
  for (const { term, index } of lineage) writer.varint(term).varint(index)
}

/** @throws MalformedError */
export function decodeConfiguration(reader: ByteReader): Configuration {
  let first = reader.byte()
  let highestId: ReplicaId | null = null
  if (first === withHighestId) {
    highestId = decodeReplicaId(reader)
    first = reader.byte()
  }
  const faultModel = faultModelOf.get(first)
  if (faultModel === undefined) throw new MalformedError('a configuration has an unknown fault model')
  const members: Member[] = []
  let before: ReplicaId = 0
  for (let left = decodeCount(reader, 3); left > 0; left -= 1) {
    const id = decodeReplicaId(reader)
    if (id <= before) throw new MalformedError('the members of a configuration are not in order')
    const member: Member = { id, voter: decodeFlag(reader), address: reader.string() }
    const incarnation = faultModel === 'fail-stop' ? reader.varint() : 0
    members.push(incarnation === 0 ? member : { ...member, incarnation })
    before = id
  }
  const lineage: TermStart[] = []
  if (faultModel === 'fail-stop')
    for (let left = decodeCount(reader, 2); left > 0; left -= 1)
      lineage.push({ term: reader.varint(), index: reader.varint() })
  return {
    faultModel,
    members,
    ...(highestId === null ? {} : { highestId }),
    ...(lineage.length === 0 ? {} : { lineage }),
  }
}

function encodeChange(writer: ByteWriter, change: ConfigurationChange): void {
  writer.byte(changeKinds[change.kind]).varint(change.id)
  if (change.kind === 'addLearner' || change.kind === 'setAddress') writer.string(change.address)
}

function decodeChange(reader: ByteReader): ConfigurationChange {
  const kind = changeKindOf.get(reader.byte())
  if (kind === undefined) throw new MalformedError('a change is of an unknown kind')
  const id = decodeReplicaId(reader)
  return kind === 'addLearner' || kind === 'setAddress'
    ? { kind, id, address: reader.string() }
    : { kind, id }
}

function decodeRefusal(reader: ByteReader): ChangeRefusal | null {
  const byte = reader.byte()
  // A later version may know more of them: for this one it is a change that was not made.
  return byte === 0 ? null : (refusalOf.get(byte) ?? 'unanswered')
}

function encodeReplicaIds(writer: ByteWriter, ids: readonly ReplicaId[]): void {
  writer.varint(ids.length)
  for (const id of ids) writer.varint(id)
}

function decodeReplicaIds(reader: ByteReader): readonly ReplicaId[] {
  const ids: ReplicaId[] = []
  for (let left = decodeCount(reader, 1); left > 0; left -= 1) ids.push(decodeReplicaId(reader))
  return ids
}

function encodeSnapshotPoint(writer: ByteWriter, point: SnapshotPoint): void {
  writer.varint(point.index).varint(point.term)
  encodeConfiguration(writer, point.configuration)
}

function decodeSnapshotPoint(reader: ByteReader): SnapshotPoint {
  return { index: reader.varint(), term: reader.varint(), configuration: decodeConfiguration(reader) }
}

function decodeEntriesAfter(
  reader: ByteReader,
  { prevIndex, prevTerm, newest }: { prevIndex: Index; prevTerm: Term; newest: Term },
): readonly Entry[] {
  const entries: Entry[] = []
  let index = prevIndex
  let term = prevTerm
  for (let left = decodeCount(reader, 3); left > 0; left -= 1) {
    const entry = decodeEntry(reader)
    if (entry.index !== index + 1) throw new MalformedError('the entries of an append are not contiguous')
    if (entry.term < term || entry.term > newest)
      throw new MalformedError('the terms of an append are not in order')
    entries.push(entry)
    index = entry.index
    term = entry.term
  }
  return entries
}

/** How many elements follow. Since each takes some bytes, garbage cannot make the reader allocate more than it was given. */
function decodeCount(reader: ByteReader, leastBytesEach: number): number {
  const count = reader.varint()
  if (count * leastBytesEach > reader.remaining)
    throw new MalformedError(`${count} elements are announced and ${reader.remaining} bytes are left`)
  return count
}

function decodeReplicaId(reader: ByteReader): ReplicaId {
  const id = reader.varint()
  if (id === 0 || id > largestReplicaId) throw new MalformedError(`${id} is no replica`)
  return id
}

function encodeFlag(writer: ByteWriter, flag: boolean): void {
  writer.byte(flag ? 1 : 0)
}

function decodeFlag(reader: ByteReader): boolean {
  const byte = reader.byte()
  if (byte > 1) throw new MalformedError(`a flag is ${byte}`)
  return byte === 1
}

function inverted<Name extends string>(numbers: Readonly<Record<Name, number>>): ReadonlyMap<number, Name> {
  const names = new Map<number, Name>()
  for (const name in numbers) names.set(numbers[name], name)
  return names
}
