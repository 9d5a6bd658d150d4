import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { createClient, type Client } from '../../src/client/index.ts'
import type { ReplicaStatus } from '../../src/gen/parley/v1/service.ts'
import { readClusterFile, type ClusterReplica } from '../../src/server/cluster-file.ts'
import { createJoiningFolder } from '../../src/server/folders.ts'
import type { TestCluster } from './cluster.ts'
import { until } from './ledger.ts'
import { pinnedConnect } from './machine.ts'
import type { Host } from './netns.ts'
import { freePorts } from './ports.ts'

/** A client with the authority of the data folder of a replica that runs. */
function operator(cluster: TestCluster, id: number): Client {
  const file: unknown = JSON.parse(readFileSync(join(cluster.dataOf(id), 'operator.json'), 'utf8'))
  const { token, http } = file as { readonly token: string; readonly http: string }
  return createClient({
    addresses: [http],
    discover: false,
    connect: pinnedConnect,
    token: Buffer.from(token, 'hex'),
    timeoutMs: 20_000,
  })
}

/** Does something with the authority of a replica's folder: the leader's, when none is named. */
export async function asOperator<T>(
  cluster: TestCluster,
  work: (client: Client) => Promise<T>,
  id?: number,
): Promise<T> {
  const client = operator(cluster, id ?? (await cluster.untilServing(1)))
  try {
    return await work(client)
  } finally {
    client.close()
  }
}

/** Where a replica that is added goes. Default: some ports of this host. */
export interface Seat {
  readonly place: Omit<ClusterReplica, 'id'>
  readonly host?: Host
}

/** Adds a replica, which asks for its vote when it has caught up, and starts it. `by`: which replica is asked. Resolves with its id. */
export async function addReplica(
  cluster: TestCluster,
  { by, seat, learner }: { readonly learner?: boolean; readonly by?: number; readonly seat?: Seat } = {},
): Promise<number> {
  const own = seat?.place ?? (await freePlace())
  const { replica } = await asOperator(
    cluster,
    (client) =>
      client.call('addReplica', { httpAddress: own.http, grpcAddress: own.grpc, peerAddress: own.peer }),
    by,
  )
  const clusterId = readClusterFile(cluster.folder)?.clusterId ?? ''
  const contacts = [...cluster.replicas]
  createJoiningFolder(cluster.dataOf(replica), {
    clusterId,
    own: { id: replica, ...own },
    contacts,
    ...(learner === undefined ? {} : { learner }),
  })
  await cluster.adopt({ id: replica, ...own }, seat?.host)
  cluster.start(replica)
  return replica
}

async function freePlace(): Promise<Seat['place']> {
  const port = await freePorts(3)
  return { http: `127.0.0.1:${port}`, grpc: `127.0.0.1:${port + 1}`, peer: `127.0.0.1:${port + 2}` }
}

/** What the leader knows of a replica; null when there is none of that id. */
export async function known(cluster: TestCluster, id: number): Promise<ReplicaStatus | null> {
  const status = await asOperator(cluster, (client) => client.call('getStatus', {}))
  return status.replicas.find((replica) => replica.id === id) ?? null
}

export async function untilVoter(cluster: TestCluster, id: number): Promise<void> {
  await until(async () => (await known(cluster, id))?.voter === true, `r${id} has a vote`, 60_000)
}

export async function removeReplica(cluster: TestCluster, id: number, by?: number): Promise<void> {
  await asOperator(cluster, (client) => client.call('removeReplica', { replica: id }), by)
}
