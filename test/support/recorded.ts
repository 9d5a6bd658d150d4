import type { ClusterReplica } from '../../src/server/cluster-file.ts'

/** What test/fixtures/record.ts writes down beside the files: what a later version must find in them. */
export interface Recorded {
  readonly clusterId: string
  readonly replicas: readonly ClusterReplica[]
  /** Of each replica's state.db as it was when its process was killed: see src/chat/digest.ts. */
  readonly digests: Readonly<Record<string, string>>
  /** A room of anna's. */
  readonly room: number
  readonly lastSeq: number
  readonly lastText: string
  /** Of a session of anna's, in hexadecimal. */
  readonly token: string
  /** Of anna and of bob. */
  readonly password: string
}
