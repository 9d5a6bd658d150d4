import { ByteReader, ByteWriter, MalformedError } from '../base/bytes.ts'
import { decodeConfiguration, encodeConfiguration } from '../raft/codec.ts'
import type { Configuration, SnapshotPoint, Term } from '../raft/types.ts'

/*
 * What the engine stores with the applied index, in the consumer's own transaction: the term of the newest applied entry and the configuration in force there. So the
 * state is a snapshot by itself: after a start, or at another replica, the log can go on behind it.
 */

const version = 1

export function encodeEngineState(term: Term, configuration: Configuration): Uint8Array {
  const writer = new ByteWriter().byte(version).varint(term)
  encodeConfiguration(writer, configuration)
  return writer.finish()
}

/**
 * @param initial stands for an empty state: nothing has been applied.
 * @throws MalformedError
 */
export function decodeSnapshotPoint(
  index: number,
  engineState: Uint8Array,
  initial: Configuration,
): SnapshotPoint {
  if (engineState.length === 0) return { index, term: 0, configuration: initial }
  const reader = new ByteReader(engineState)
  const found = reader.byte()
  if (found !== version)
    throw new MalformedError(`the state was written by a later version of Parley (${found})`)
  const term = reader.varint()
  const configuration = decodeConfiguration(reader)
  reader.end()
  return { index, term, configuration }
}
