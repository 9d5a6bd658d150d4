import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ByteReader, ByteWriter, MalformedError } from '../base/bytes.ts'
import {
  decodeConfiguration,
  decodeEntry,
  decodeMessage,
  encodeConfiguration,
  encodeEntry,
  encodeMessage,
} from './codec.ts'
import type { Configuration, Entry, Member, Message, MessageBody } from './types.ts'

/** Objects with the usual prototype, so that they are deeply equal to what is decoded. */
function record<T>(model: { readonly [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record<T>(model, { noNullPrototype: true }) as fc.Arbitrary<T>
}

const number = fc.oneof(fc.nat(300), fc.maxSafeNat())
const positive = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 2 ** 40 }))
const replica = fc.integer({ min: 1, max: 2 ** 31 - 1 })
const data = fc.oneof(
  fc.uint8Array({ maxLength: 50 }),
  fc.integer({ min: 4090, max: 5000 }).map((length) => new Uint8Array(length).fill(length)),
)
const member = { id: replica, voter: fc.boolean(), address: fc.string({ unit: 'grapheme' }) }
const plainMembers = inOrder(record<Member>(member))
const faultModel = fc.constantFrom('majority' as const, 'fail-stop' as const)
const configuration: fc.Arbitrary<Configuration> = fc.oneof(
  record<Configuration>({ faultModel, members: plainMembers }),
  record<Configuration & { highestId: number }>({ faultModel, members: plainMembers, highestId: replica }),
  record<Required<Configuration>>({
    faultModel: fc.constant('fail-stop' as const),
    members: inOrder(record<Required<Member>>({ ...member, incarnation: positive })),
    highestId: replica,
    lineage: fc.array(record({ term: number, index: number }), { minLength: 1, maxLength: 5 }),
  }),
)

function inOrder(members: fc.Arbitrary<Member>): fc.Arbitrary<readonly Member[]> {
  return fc
    .uniqueArray(members, { selector: ({ id }) => id, maxLength: 7 })
    .map((some) => [...some].sort((a, b) => a.id - b.id))
}

function entryAt(term: fc.Arbitrary<number>, index: fc.Arbitrary<number>): fc.Arbitrary<Entry> {
  return fc.oneof(
    record({ kind: fc.constant('data' as const), term, index, data }),
    record({ kind: fc.constant('noop' as const), term, index }),
    record({ kind: fc.constant('configuration' as const), term, index, configuration }),
  )
}

const append = fc
  .record({
    prevIndex: number.map((index) => Math.min(index, 2 ** 50)),
    prevTerm: fc.nat(1000),
    count: fc.nat(5),
  })
  .chain(({ prevIndex, prevTerm, count }) =>
    record({
      kind: fc.constant('append' as const),
      prevIndex: fc.constant(prevIndex),
      prevTerm: fc.constant(prevTerm),
      commit: number,
      entries: fc.tuple(
        ...Array.from({ length: count }, (_, i) =>
          entryAt(fc.constant(prevTerm + 1 + i), fc.constant(prevIndex + 1 + i)),
        ),
      ),
    }),
  )

const body: fc.Arbitrary<MessageBody> = fc.oneof(
  append,
  record({ kind: fc.constant('preVote' as const), lastIndex: number, lastTerm: number }),
  record({ kind: fc.constantFrom('preVoteReply' as const, 'voteReply' as const), granted: fc.boolean() }),
  record({
    kind: fc.constant('vote' as const),
    lastIndex: number,
    lastTerm: number,
    transfer: fc.boolean(),
  }),
  record({
    kind: fc.constant('appendReply' as const),
    accepted: fc.boolean(),
    prevIndex: number,
    index: number,
    conflictTerm: number,
    lastIndex: number,
  }),
  record({ kind: fc.constant('heartbeat' as const), commit: number, round: number }),
  record({
    kind: fc.constant('heartbeatReply' as const),
    round: number,
    lastIndex: number,
    proposed: number,
  }),
  record({ kind: fc.constant('readIndex' as const), id: number }),
  record({ kind: fc.constant('readIndexReply' as const), id: number, index: number }),
  record({ kind: fc.constant('propose' as const), number, data: fc.array(data, { maxLength: 4 }) }),
  record({
    kind: fc.constant('snapshot' as const),
    point: record({ index: number, term: number, configuration }),
  }),
  record({ kind: fc.constant('snapshotReply' as const), index: number }),
  record({ kind: fc.constantFrom('timeoutNow' as const, 'proposalsLost' as const) }),
  record({
    kind: fc.constant('change' as const),
    id: number,
    change: fc.oneof(
      record({ kind: fc.constantFrom('promote' as const, 'remove' as const), id: replica }),
      record({
        kind: fc.constantFrom('addLearner' as const, 'setAddress' as const),
        id: replica,
        address: fc.string({ unit: 'grapheme' }),
      }),
    ),
  }),
  record({
    kind: fc.constant('changeReply' as const),
    id: number,
    index: number,
    refused: fc.constantFrom(null, 'notLeader' as const, 'idUsed' as const, 'quorumAtRisk' as const),
  }),
  record({ kind: fc.constant('transfer' as const), successor: replica }),
  record({ kind: fc.constant('gather' as const), givenUp: fc.array(replica, { maxLength: 3 }) }),
  record({
    kind: fc.constant('gatherReply' as const),
    lastIndex: number,
    lastTerm: number,
    configurationIndex: number,
    configuration,
    incarnation: number,
    continuous: fc.boolean(),
    givenUp: fc.array(replica, { maxLength: 3 }),
  }),
)

const message: fc.Arbitrary<Message> = fc
  .tuple(replica, replica, fc.integer({ min: 2000, max: Number.MAX_SAFE_INTEGER }), body)
  .map(([from, to, term, rest]) => ({ from, to, term, ...rest }))

function bytesOf(value: Message): Uint8Array {
  const writer = new ByteWriter(1)
  encodeMessage(writer, value)
  const { size } = writer
  const bytes = writer.finish()
  assert.equal(bytes.length, size)
  return bytes
}

test('every message comes back as it was', () => {
  fc.assert(
    fc.property(message, (value) => {
      const reader = new ByteReader(bytesOf(value))
      assert.deepEqual(decodeMessage(reader), value)
      reader.end()
    }),
    { numRuns: 1000 },
  )
})

test('a configuration of the majority model looks as it did before there was another', () => {
  const old = Uint8Array.of(1, 2, 1, 1, 1, 97, 5, 0, 0)
  const members = [
    { id: 1, voter: true, address: 'a' },
    { id: 5, voter: false, address: '' },
  ]
  assert.deepEqual(decodeConfiguration(new ByteReader(old)), { faultModel: 'majority', members })
  const writer = new ByteWriter()
  encodeConfiguration(writer, { faultModel: 'majority', members })
  assert.deepEqual(writer.finish(), old)
})

test('every entry and every configuration comes back as it was', () => {
  fc.assert(
    fc.property(entryAt(positive, positive), configuration, (entry, members) => {
      const writer = new ByteWriter()
      encodeEntry(writer, entry)
      encodeConfiguration(writer, members)
      const reader = new ByteReader(writer.finish())
      assert.deepEqual(decodeEntry(reader), entry)
      assert.deepEqual(decodeConfiguration(reader), members)
      reader.end()
    }),
  )
})

test('the parts of what was written are the same bytes as the whole, and large data is not copied', () => {
  const large = new Uint8Array(10_000).fill(7)
  const write = () =>
    new ByteWriter(4)
      .varint(3)
      .bytes(large)
      .bytes(new Uint8Array([1, 2]))
      .bytes(large)
      .byte(9)
  const parts = write().finishParts()
  assert.deepEqual(Buffer.concat(parts), Buffer.from(write().finish()))
  assert.equal(parts.filter((part) => part.buffer === large.buffer).length, 2)
})

test('the data of an entry is not copied when it is decoded', () => {
  const writer = new ByteWriter()
  encodeEntry(writer, { kind: 'data', term: 1, index: 1, data: new Uint8Array([1, 2, 3]) })
  const bytes = writer.finish()
  const entry = decodeEntry(new ByteReader(bytes))
  assert.ok(entry.kind === 'data' && entry.data.buffer === bytes.buffer)
})

test('garbage is refused as malformed, never otherwise', () => {
  const refusedOrRead = (bytes: Uint8Array, decode: (reader: ByteReader) => unknown) => {
    try {
      decode(new ByteReader(bytes))
    } catch (error) {
      assert.ok(error instanceof MalformedError, String(error))
    }
  }
  const decoders = [decodeMessage, decodeEntry, decodeConfiguration]
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 0, max: 20 }), (bytes, kind) => {
      if (bytes.length > 0) bytes[0] = kind
      for (const decode of decoders) refusedOrRead(bytes, decode)
    }),
    { numRuns: 2000 },
  )
  fc.assert(
    fc.property(message, fc.nat(), fc.nat(255), (value, at, byte) => {
      const bytes = bytesOf(value).slice()
      bytes[at % bytes.length] = byte
      refusedOrRead(bytes, decodeMessage)
    }),
    { numRuns: 1000 },
  )
})

test('a message that was cut short is refused', () => {
  fc.assert(
    fc.property(message, fc.nat(), (value, at) => {
      const bytes = bytesOf(value)
      assert.throws(() => decodeMessage(new ByteReader(bytes.subarray(0, at % bytes.length))), MalformedError)
    }),
  )
})

test('a number of more than 8 bytes is refused', () => {
  assert.throws(() => new ByteReader(new Uint8Array(400).fill(0x80)).varint(), MalformedError)
  const most = new ByteWriter().varint(Number.MAX_SAFE_INTEGER).finish()
  assert.equal(new ByteReader(most).varint(), Number.MAX_SAFE_INTEGER)
})

test('an append whose entries are not contiguous, or whose terms go back, is refused', () => {
  const noop = (term: number, index: number): Entry => ({ kind: 'noop', term, index })
  const decode = (entries: readonly Entry[]) =>
    decodeMessage(
      new ByteReader(
        bytesOf({ kind: 'append', from: 1, to: 2, term: 5, prevIndex: 7, prevTerm: 3, commit: 0, entries }),
      ),
    )
  assert.equal(decode([noop(3, 8), noop(5, 9)]).kind, 'append')
  for (const entries of [[noop(3, 9)], [noop(3, 8), noop(3, 10)], [noop(2, 8)], [noop(6, 8)]])
    assert.throws(() => decode(entries), MalformedError)
})
