import { lookup } from 'node:dns/promises'
import { readdirSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { randomBytes } from 'node:crypto'

import { toHex } from '../base/bytes.ts'
import { replicaName } from '../base/ids.ts'
import { shellWord } from '../base/shell-word.ts'
import { createAuthority, issue } from '../tls/authority.ts'
import { writeCertificates } from '../tls/store.ts'
import type { ClusterReplica } from './cluster-file.ts'
import { checkPorts, faultModelOf } from './create-cluster.ts'
import { createReplicaFolder, readIdentity } from './folders.ts'
import { makeFolder } from './make-folder.ts'
import type { InitOptions, JoinOptions, ServeOptions } from './options.ts'
import { checkListen } from './place.ts'
import { formatHostPort } from './ports.ts'
import { problemOf, ServerError } from './problems.ts'
import { rememberedFiles, rememberOptions } from './remembered.ts'
import { checkFiles, hostsOf } from './security.ts'

/** Where a replica that is being made will be found. */
export type Place = Omit<ClusterReplica, 'id'>

type PlaceOptions = Pick<JoinOptions, 'host' | 'listen' | 'httpPort' | 'grpcPort' | 'peerPort'>

/** Files that an attempt which broke off leaves behind; the next one goes on with them. */
const ownFiles = new Set<string>([
  'certificates.json',
  'certificates.json.new',
  'join.json',
  'join.json.new',
  'replica.json.new',
  ...rememberedFiles,
])

/**
 * Makes the first replica of a new cluster, with the cluster's authority.
 *
 * @throws ServerError when the folder is not empty, or the place is no place for it.
 */
export async function makeFirstReplica(
  options: PlaceOptions & Pick<InitOptions, 'data' | 'faultModel'> & Partial<InitOptions>,
): Promise<ClusterReplica> {
  const { data } = options
  const present = readIdentity(data)
  if (present !== null)
    throw new ServerError(
      `${data} has ${replicaName(present.replica)} of the cluster ${present.clusterId} already. Start it with: parley serve --data ${shellWord(data)}`,
    )
  checkEmpty(data)
  checkFiles({ tlsCert: '', tlsKey: '', ...options })
  const own = { id: 1, ...(await findPlace(options)) }
  const clusterId = toHex(randomBytes(16))
  const nowMs = Date.now()
  const authority = await createAuthority(clusterId, nowMs)
  const certificate = await issue(authority, { clusterId, replica: 1, hosts: hostsOf(own) }, { nowMs })
  makeFolder(data)
  writeCertificates(data, { clusterId, authority, own: certificate })
  rememberOptions(data, options)
  const faultModel = faultModelOf(options.faultModel)
  createReplicaFolder(data, 1, { version: 1, clusterId, replicas: [own], faultModel, complete: true })
  return own
}

/**
 * The addresses that the options mean.
 *
 * @throws ServerError when the host cannot be found, is not this machine, or a port is in use.
 */
export async function findPlace(options: PlaceOptions): Promise<Place> {
  const host = options.host === '' ? ownHost() : options.host
  try {
    await lookup(host)
  } catch (error) {
    throw new ServerError(
      `The name ${host} leads to no address (${problemOf(error)}). Give --host the name or address at which the other replicas find this machine.`,
      { cause: error },
    )
  }
  await checkListen(options)
  const place = {
    http: formatHostPort(host, options.httpPort),
    grpc: formatHostPort(host, options.grpcPort),
    peer: formatHostPort(host, options.peerPort),
  }
  await checkPorts({ replicas: [{ id: 1, ...place }] }, options.listen === '' ? host : options.listen)
  return place
}

/** @throws ServerError when there is something in the folder that no earlier attempt has left. */
export function checkEmpty(folder: string): void {
  let found: string[]
  try {
    found = readdirSync(folder)
  } catch (error) {
    // What is wrong with it is told when it is made.
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
      return
    throw error
  }
  const foreign = found.find((name) => !ownFiles.has(name))
  if (foreign !== undefined)
    throw new ServerError(`${folder} is not empty (${foreign}): name a new folder with --data.`)
}

/** The options to run a replica with that was just made with these. */
export function toServe(options: JoinOptions): ServeOptions {
  // Where it is found has just been written down.
  return { ...options, http: '', grpc: '', peer: '' }
}

/** The first address of this machine that others may reach. */
function ownHost(): string {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
  const outer = all.filter(({ internal, family }) => !internal && family === 'IPv4')
  return outer[0]?.address ?? '127.0.0.1'
}
