import { claimFolder, FolderError } from '../storage/identity.ts'
import { readClusterFile, replicaFolder, writeClusterFile } from './cluster-file.ts'
import type { ClusterFile, ClusterReplica } from './cluster-file.ts'
import { createJoiningFolder, readIdentity } from './folders.ts'
import { formatHostPort, parseHostPort, tryPort } from './ports.ts'
import { asOwnerOf } from './owner.ts'
import { ServerError } from './problems.ts'

/** Where a new replica of the local cluster in `folder` can be found: on free ports behind those of the others. Null without such a cluster. */
export async function addressesFor(folder: string | null): Promise<Omit<ClusterReplica, 'id'> | null> {
  const cluster = folder === null ? null : readClusterFile(folder)
  if (cluster === null) return null
  const { replicas } = cluster
  return {
    http: await freeBehind(replicas.map(({ http }) => http)),
    grpc: await freeBehind(replicas.map(({ grpc }) => grpc)),
    peer: await freeBehind(replicas.map(({ peer }) => peer)),
  }
}

/** Makes the folder of a replica that the cluster has taken in. */
export function makeJoiningFolder(
  folder: string,
  cluster: { readonly clusterId: string; readonly contacts: readonly ClusterReplica[] },
  own: ClusterReplica,
  learner: boolean,
): void {
  asOwnerOf(folder, () => createJoiningFolder(folder, { ...cluster, own, learner }))
}

/** The same for the local cluster in `folder`. Returns whether a `parley up` runs there, which then starts the replica. */
export function addLocalReplica(
  folder: string,
  own: ClusterReplica,
  options: { readonly learner: boolean; readonly inPlaceOf: number | null },
): boolean {
  const cluster = readClusterFile(folder)
  if (cluster === null) throw new ServerError(`${folder} has lost its cluster.json.`)
  const { learner, inPlaceOf } = options
  const { clusterId } = cluster
  const others = cluster.replicas.filter(({ id }) => id !== own.id && id !== inPlaceOf)
  asOwnerOf(folder, () => {
    createJoiningFolder(replicaFolder(folder, own.id), { clusterId, own, contacts: others, learner })
    writeClusterFile(folder, { ...cluster, replicas: [...others, own] })
  })
  return asOwnerOf(folder, () => isSupervised(folder))
}

/** By its claim, which ends with it: one that was killed leaves its up.json. */
function isSupervised(folder: string): boolean {
  try {
    claimFolder(folder).release()
    return false
  } catch (error) {
    if (error instanceof FolderError && error.reason === 'inUse') return true
    throw error
  }
}

/** Takes a replica that was removed out of the file of the local cluster; its folder stays. Returns what is left, null when there is no such cluster. */
export function dropReplica(folder: string, replica: number): ClusterFile | null {
  const cluster = readClusterFile(folder)
  if (cluster === null) return null
  const left = { ...cluster, replicas: cluster.replicas.filter(({ id }) => id !== replica) }
  if (left.replicas.length < cluster.replicas.length && left.replicas.length > 0)
    asOwnerOf(folder, () => writeClusterFile(folder, left))
  return left
}

/** Whether the replica knows that it was removed. */
export function wasRemoved(folder: string, replica: number): boolean {
  return readIdentity(replicaFolder(folder, replica))?.removed === true
}

async function freeBehind(addresses: readonly string[]): Promise<string> {
  const last = addresses
    .map(parseHostPort)
    .filter((address) => address !== null)
    .sort((a, b) => b.port - a.port)[0]
  if (last === undefined) throw new ServerError('The file of the cluster names no address.')
  for (let port = last.port + 1; port < last.port + 100 && port <= 65_535; port += 1)
    if ((await tryPort(last.host, port)) === null) return formatHostPort(last.host, port)
  throw new ServerError(
    `No port behind ${last.port} of ${last.host} is free: give addresses with --http, --grpc and --peer.`,
  )
}
