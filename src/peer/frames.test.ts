import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { MalformedError } from '../base/bytes.ts'
import { decodeFrame, encodeFrame, FrameSplitter, maxFrameBytes, type Frame } from './frames.ts'

const id = fc.integer({ min: 1, max: 2 ** 31 - 1 })
const number = fc.maxSafeNat()
const bytes = fc.uint8Array({ maxLength: 10_000 })

const frames: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({
    kind: fc.constant('hello' as const),
    oldestVersion: number,
    newestVersion: number,
    clusterId: bytes,
    from: id,
    to: id,
    incarnation: number,
    address: fc.string(),
  }),
  fc.record({ kind: fc.constant('welcome' as const), version: number, incarnation: number }),
  fc.record({
    kind: fc.constant('refused' as const),
    code: fc.constantFrom('version' as const, 'otherCluster' as const, 'malformed' as const),
    reason: fc.string(),
  }),
  fc.record({
    kind: fc.constant('message' as const),
    message: fc.record({
      kind: fc.constant('propose' as const),
      number: fc.nat(),
      from: id,
      to: id,
      term: number,
      data: fc.array(bytes, { maxLength: 5 }),
    }),
  }),
  fc.record({
    kind: fc.constant('chunk' as const),
    chunk: fc.record({
      from: id,
      to: id,
      term: number,
      snapshotId: fc.string(),
      index: number,
      sizeBytes: number,
      engineState: bytes,
      offset: number,
      bytes,
    }),
  }),
  fc.record({
    kind: fc.constant('chunkReply' as const),
    reply: fc.record({ from: id, to: id, snapshotId: fc.string(), nextOffset: number }),
  }),
  fc.record({ kind: fc.constantFrom('ping' as const, 'pong' as const), sentMs: number }),
  fc.record({ kind: fc.constant('start' as const), number }),
)

test('frames come out of a stream as they went in, however it is cut', () => {
  fc.assert(
    fc.property(
      fc.array(frames, { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 9000 }), { minLength: 1, maxLength: 20 }),
      (sent, cuts) => {
        const stream = new Uint8Array(Buffer.concat(sent.flatMap((frame) => encodeFrame(frame))))
        const received: Frame[] = []
        const splitter = new FrameSplitter(maxFrameBytes)
        for (let offset = 0, i = 0; offset < stream.length; i += 1) {
          const end = offset + (cuts[i % cuts.length] ?? 1)
          splitter.push(stream.subarray(offset, end), (frame) => {
            received.push(decodeFrame(frame))
            return true
          })
          offset = end
        }
        assert.deepEqual(plain(received), plain(sent))
      },
    ),
    { numRuns: 200 },
  )
})

test('garbage is refused as malformed and never anything else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (garbage) => {
      try {
        decodeFrame(garbage)
      } catch (error) {
        assert.ok(error instanceof MalformedError, String(error))
      }
    }),
    { numRuns: 2000 },
  )
})

test('a frame that is cut short or has something after it is malformed', () => {
  fc.assert(
    fc.property(frames, (frame) => {
      const whole = Buffer.concat(encodeFrame(frame)).subarray(4)
      assert.throws(() => decodeFrame(whole.subarray(0, -1)), MalformedError)
      assert.throws(() => decodeFrame(Buffer.concat([whole, Buffer.from([0])])), MalformedError)
    }),
    { numRuns: 200 },
  )
})

test('a frame that is announced empty or above the limit is refused before any of it is held', () => {
  const never = () => assert.fail('nothing is complete')
  assert.throws(() => new FrameSplitter(1000).push(Uint8Array.of(0, 0, 3, 0xe9), never), MalformedError)
  assert.throws(() => new FrameSplitter(1000).push(Uint8Array.of(0, 0, 0, 0), never), MalformedError)
  new FrameSplitter(1000).push(Uint8Array.of(0, 0, 3, 0xe8), never)
})

test('nothing more is handed out of a stream that was given up', () => {
  const ping = Buffer.concat(encodeFrame({ kind: 'ping', sentMs: 1 }))
  let taken = 0
  new FrameSplitter(1000).push(Buffer.concat([ping, ping, ping]), () => {
    taken += 1
    return taken < 2
  })
  assert.equal(taken, 2)
})

/** Byte arrays of one class, so that deep equality compares what they hold. */
function plain(value: readonly Frame[]): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, field: unknown) => (field instanceof Uint8Array ? [...field] : field)),
  )
}
