import { lookup } from 'node:dns/promises'
import { join } from 'node:path'

import { replicaName } from '../base/ids.ts'
import type { Endpoint } from '../peer/links.ts'
import type { ClusterReplica } from './cluster-file.ts'
import type { Identity } from './folders.ts'
import type { ServeOptions } from './options.ts'
import { formatHostPort, parseHostPort, tryPort } from './ports.ts'
import { problemOf, ServerError } from './problems.ts'

const ports = ['http', 'grpc', 'peer'] as const
type Port = (typeof ports)[number]

/** Where a replica is found, and where it listens for that. */
export interface ServePlace {
  readonly own: ClusterReplica
  readonly listen: Readonly<Record<Port, Endpoint>>
  /** It was found elsewhere before: its folder does not say so yet. */
  readonly isNew: boolean
}

type PlaceOptions = Pick<ServeOptions, 'data' | 'listen' | Port>

/**
 * Where the replica is found: what the options say from now on, or else what it was before. What is new is tried.
 *
 * @throws ServerError that names the flag of an address that is no place for it.
 */
export async function placeOf(options: PlaceOptions, identity: Identity): Promise<ServePlace> {
  const before = identity.own ?? identity.replicas.find(({ id }) => id === identity.replica)
  if (before === undefined)
    throw new ServerError(
      `${options.data} says that it is ${replicaName(identity.replica)}, which is not in its cluster.`,
    )
  const own = {
    id: before.id,
    http: options.http || before.http,
    grpc: options.grpc || before.grpc,
    peer: options.peer || before.peer,
  }
  const endpoint = (port: Port): Endpoint => endpointOf(own, port, options)
  const listen = { http: endpoint('http'), grpc: endpoint('grpc'), peer: endpoint('peer') }
  await checkListen(options)
  const moved = ports.filter((port) => own[port] !== before[port])
  for (const port of moved) await checkPort(own, port, listen)
  return { own, listen, isNew: moved.length > 0 }
}

/** @throws ServerError when `--listen` is not an address of this machine. */
export async function checkListen({ listen }: Pick<ServeOptions, 'listen'>): Promise<void> {
  // Any port will do: it is the address that is tried.
  const problem = listen === '' ? null : await tryPort(listen, 0)
  if (problem !== null)
    throw new ServerError(
      `--listen ${listen}: nothing can listen there (${problem}). It is an address of this machine without a port, such as 0.0.0.0.`,
    )
}

function endpointOf(own: ClusterReplica, port: Port, { data, listen }: PlaceOptions): Endpoint {
  const endpoint = parseHostPort(own[port])
  if (endpoint === null)
    throw new ServerError(
      `${join(data, 'replica.json')} says that ${replicaName(own.id)} is found at ${JSON.stringify(own[port])}, which is not host:port: say where with --${port}.`,
    )
  return listen === '' ? endpoint : { ...endpoint, host: listen }
}

async function checkPort(own: ClusterReplica, port: Port, listen: ServePlace['listen']): Promise<void> {
  const given = `--${port} ${own[port]}`
  const at = listen[port]
  const other = ports.find(
    (one) => one !== port && listen[one].host === at.host && listen[one].port === at.port,
  )
  if (other !== undefined)
    throw new ServerError(`${given}: that is where its --${other} is too. Choose another port.`)
  try {
    // Others look for it there, wherever it listens.
    await lookup(parseHostPort(own[port])?.host ?? '')
  } catch (error) {
    throw new ServerError(`${given}: the name leads to no address (${problemOf(error)}).`, { cause: error })
  }
  const problem = await tryPort(at.host, at.port)
  switch (problem) {
    case null:
      return
    case 'EADDRINUSE':
      throw new ServerError(`${given}: another program uses that port. Stop it, or choose another port.`)
    case 'EADDRNOTAVAIL':
      throw new ServerError(
        `${given}: ${at.host} is not an address of this machine. When it is one that leads here, say with --listen where to listen for it.`,
      )
    default:
      throw new ServerError(
        `${given}: nothing can listen on ${formatHostPort(at.host, at.port)} (${problem}).`,
      )
  }
}
