import { randomBytes } from 'node:crypto'

import { toHex } from '../base/bytes.ts'
import type { FaultModel } from '../raft/types.ts'
import { replicaFolder, writeClusterFile, type ClusterFile, type ClusterReplica } from './cluster-file.ts'
import { createReplicaFolder, readIdentity } from './folders.ts'
import { formatHostPort, parseHostPort, tryPort } from './ports.ts'
import { ServerError } from './problems.ts'

export interface ClusterPlan {
  readonly replicas: number
  /** Default `majority`. */
  readonly faultModel?: FaultModel
  readonly host: string
  /** Of the first replica; the others take the next ones. */
  readonly httpPort: number
  readonly grpcPort: number
  readonly peerPort: number
}

/** A new cluster, not written down yet. */
export function planCluster(plan: ClusterPlan): ClusterFile {
  const replicas: ClusterReplica[] = []
  for (let i = 0; i < plan.replicas; i += 1) {
    replicas.push({
      id: i + 1,
      http: formatHostPort(plan.host, plan.httpPort + i),
      grpc: formatHostPort(plan.host, plan.grpcPort + i),
      peer: formatHostPort(plan.host, plan.peerPort + i),
    })
  }
  return {
    version: 1,
    clusterId: toHex(randomBytes(16)),
    replicas,
    faultModel: plan.faultModel ?? 'majority',
    complete: false,
  }
}

/** What an option says; the options allow these two only. */
export function faultModelOf(option: string): FaultModel {
  return option === 'fail-stop' ? option : 'majority'
}

/**
 * Checks that the ports of a new cluster are free.
 *
 * @throws ServerError that names the first one that is not, and the option that changes it.
 */
export async function checkPorts(cluster: Pick<ClusterFile, 'replicas'>, host: string): Promise<void> {
  const flags = { http: '--http-port', grpc: '--grpc-port', peer: '--peer-port' } as const
  const seen = new Map<number, string>()
  for (const kind of ['http', 'grpc', 'peer'] as const) {
    const flag = flags[kind]
    for (const replica of cluster.replicas) {
      const port = parseHostPort(replica[kind])?.port ?? 0
      const other = seen.get(port)
      if (other !== undefined)
        throw new ServerError(`Port ${port} would be used twice: choose ${other} and ${flag} further apart.`)
      seen.set(port, flag)
      const problem = await tryPort(host, port)
      if (problem === null) continue
      throw new ServerError(
        problem === 'EADDRINUSE'
          ? `Port ${port} on ${host} is in use by another program: stop it, or choose other ports with ${flag}.`
          : `Cannot listen on port ${port} of ${host} (${problem}): choose others with --host and ${flag}.`,
      )
    }
  }
}

/** Makes the folders of all replicas, all at once; goes on where a crash interrupted it. */
export function createCluster(folder: string, cluster: ClusterFile): ClusterFile {
  writeClusterFile(folder, cluster)
  for (const { id } of cluster.replicas) createReplicaFolder(replicaFolder(folder, id), id, cluster)
  const complete = { ...cluster, complete: true }
  writeClusterFile(folder, complete)
  return complete
}

/**
 * The replicas whose folders are empty. They must not be made anew: their votes and promises are forgotten, and they could vote twice.
 *
 * @throws ServerError that says which folder is of another cluster, or that none is left.
 */
export function lostReplicas(folder: string, cluster: ClusterFile): readonly number[] {
  const lost: number[] = []
  for (const { id } of cluster.replicas) {
    const own = replicaFolder(folder, id)
    const identity = readIdentity(own)
    if (identity === null) lost.push(id)
    else if (identity.clusterId !== cluster.clusterId || identity.replica !== id)
      throw new ServerError(
        `${own} belongs to replica ${identity.replica} of cluster ${identity.clusterId}, not here: put the right folder in its place.`,
      )
  }
  if (lost.length === cluster.replicas.length)
    throw new ServerError(
      `${lost.map((id) => replicaFolder(folder, id)).join(', ')} ${lost.length === 1 ? 'is' : 'are'} empty, and a replica that has forgotten what it promised must not take part. Put a folder back; or, to begin anew without any of the data, remove ${folder}.`,
    )
  return lost
}
