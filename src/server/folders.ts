import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { shellWord } from '../base/shell-word.ts'
import type { Configuration } from '../raft/types.ts'
import { formatAddresses } from '../replica/addresses.ts'
import * as storage from '../storage/identity.ts'
import { clusterFileName, type ClusterFile, type ClusterReplica } from './cluster-file.ts'
import { checkWritable } from './make-folder.ts'
import { ServerError } from './problems.ts'

/** Who a replica is, with the replica set that its cluster was created with. */
export type Identity = storage.Identity<ClusterReplica>

/**
 * Claims a folder.
 *
 * @param inUse the line for people when process `pid` has it.
 * @throws ServerError with that line.
 */
export function claimFolder(folder: string, inUse: (pid: number) => string): storage.Claim {
  checkWritable(folder)
  return inWords(() => storage.claimFolder(folder), inUse)
}

/** The replica set that a cluster begins with. */
export function initialConfiguration({
  replicas,
  faultModel,
}: Pick<ClusterFile, 'replicas' | 'faultModel'>): Configuration {
  return {
    faultModel: faultModel ?? 'majority',
    members: replicas.map((replica) => ({ id: replica.id, voter: true, address: formatAddresses(replica) })),
  }
}

/** Makes the folder of a replica of a new cluster. One that was made before stays as it is. */
export function createReplicaFolder(folder: string, replica: number, cluster: ClusterFile): void {
  const { clusterId, replicas, faultModel } = cluster
  const model = faultModel === undefined ? {} : { faultModel }
  inWords(() => storage.createIdentity(folder, { clusterId, replica, replicas, ...model }))
}

/** Makes the folder of a replica that joins a cluster, which has given it its id. It asks for a vote when it has caught up, unless it is to stay a learner. */
export function createJoiningFolder(
  folder: string,
  cluster: {
    readonly clusterId: string
    readonly own: ClusterReplica
    readonly contacts?: readonly ClusterReplica[]
    readonly learner?: boolean
  },
): void {
  const { clusterId, own, contacts, learner } = cluster
  inWords(() =>
    storage.createIdentity<ClusterReplica>(folder, {
      clusterId,
      replica: own.id,
      replicas: [],
      own,
      ...(contacts === undefined ? {} : { contacts }),
      ...(learner === true ? { learner } : {}),
    }),
  )
}

/**
 * Claims the folder of a replica and raises its incarnation, durably.
 *
 * @throws ServerError when the folder is in use, or is not a replica's, or has lost its memory.
 */
export function openReplicaFolder(folder: string): storage.OpenedFolder<ClusterReplica> {
  if (readIdentity(folder) === null) throw new ServerError(strangeWords(folder))
  checkWritable(folder)
  return inWords(() => storage.openIdentity<ClusterReplica>(folder))
}

/**
 * Null when the folder is no replica's.
 *
 * @throws ServerError when the file cannot be read.
 */
export function readIdentity(folder: string): Identity | null {
  return inWords(() => storage.readIdentity<ClusterReplica>(folder))
}

function strangeWords(folder: string): string {
  if (existsSync(join(folder, clusterFileName)))
    return `${folder} holds all replicas of a local cluster. Start them with: parley up --data ${shellWord(folder)}`
  return `${folder} is not the data folder of a replica: it has no replica.json. One whose disk is lost must not come back under its old id: "parley replica replace", at another one, says what to do. A new replica is made with "parley join", the first one of a cluster with "parley init".`
}

function inWords<T>(action: () => T, inUse?: (pid: number) => string): T {
  try {
    return action()
  } catch (error) {
    if (!(error instanceof storage.FolderError)) throw error
    throw new ServerError(
      error.reason === 'inUse' && inUse !== undefined ? inUse(error.pid) : `${error.message}.`,
      { cause: error },
    )
  }
}
