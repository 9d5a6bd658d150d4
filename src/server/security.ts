import { X509Certificate } from 'node:crypto'
import { replicaName } from '../base/ids.ts'
import type { Clock } from '../base/clock.ts'
import type { Logger } from '../base/logger.ts'
import { formatServerAddress } from '../client/server-address.ts'
import type { Sockets } from '../peer/links.ts'
import { secureSockets } from '../peer/secure-sockets.ts'
import type { Authority } from '../tls/authority.ts'
import {
  fileCredentials,
  keepReplicaCredentials,
  readPair,
  withAuthority,
  type Credentials,
} from '../tls/credentials.ts'
import { fingerprintOf } from '../tls/names.ts'
import { certificatesPath, readCertificates } from '../tls/store.ts'
import type { ClusterReplica } from './cluster-file.ts'
import { watchExpiry, type Expiry, type Shown } from './expiry.ts'
import type { ServeOptions } from './options.ts'
import { isLoopback, parseHostPort } from './ports.ts'
import { ServerError } from './problems.ts'

type FileOptions = Pick<ServeOptions, 'tlsCert' | 'tlsKey'>

/** How a replica's ports are protected. */
export interface Security {
  /** Under the links with the other replicas; null = plain text. */
  readonly sockets: Sockets | null
  /** Of the ports for clients; null = plain text. */
  readonly tls: Credentials | null
  /** The cluster's authority; null in a cluster without. */
  readonly authority: Authority | null
  /** What people must know at each start, and see in the status; empty when there is nothing. */
  readonly warning: string
  /** Whether the certificates are still good. */
  readonly expiry: Expiry
  /** How clients on this machine reach the replica; it changes with a certificate out of a file. */
  readonly address: string
  close(): void
}

export interface SecurityOptions {
  readonly folder: string
  readonly clusterId: string
  readonly own: ClusterReplica
  readonly options: Pick<ServeOptions, 'insecure' | 'listen' | 'tlsCert' | 'tlsKey'>
  readonly clock: Clock
  readonly logger: Logger
}

/**
 * Finds out how the ports are to be protected: in a cluster that has an authority by its certificates, in one without by listening on loopback alone.
 *
 * @throws ServerError when others could listen in, and nobody said that they may.
 */
export async function openSecurity(parts: SecurityOptions): Promise<Security> {
  const { folder, clusterId, own, options, clock, logger } = parts
  const certificates = readCertificates(folder)
  const files = openFiles(parts)
  const ofFiles = files === null ? [] : [shownToClients(files, options.tlsCert)]
  const open = [...(certificates === null ? [own.peer] : []), own.http, own.grpc, options.listen]
    .filter((address) => address !== '')
    .find((address) => !isLoopback(parseHostPort(address)?.host ?? address))
  const isOpen = open !== undefined
  if (certificates === null) {
    if (isOpen && !options.insecure)
      throw new ServerError(
        `${replicaName(own.id)} would speak plain text at ${open}, where anyone on the network could read and change everything. Make a cluster with "parley init", which speaks TLS; or add --insecure when that network is yours alone.`,
      )
    const expiry = watchExpiry(ofFiles, parts)
    return {
      sockets: null,
      tls: files,
      authority: null,
      warning: isOpen ? openToAll(own.id, files === null ? 'everybody' : 'other replicas') : '',
      expiry,
      get address() {
        return addressOf(own, files?.current.certificate ?? null)
      },
      close() {
        expiry.close()
        files?.close()
      },
    }
  }
  if (certificates.clusterId !== clusterId)
    throw new ServerError(
      `${certificatesPath(folder)} is of another cluster (${certificates.clusterId}, not ${clusterId}): put back the file that belongs here.`,
    )
  const credentials = await keepReplicaCredentials({
    ...certificates,
    folder,
    clusterId,
    replica: own.id,
    hosts: hostsOf(own),
    clock,
    logger,
  })
  const expiry = watchExpiry([...ofFiles, ownCertificate(credentials, own.id)], parts)
  const tls = files ?? (options.insecure ? null : withAuthority(credentials))
  return {
    sockets: secureSockets(credentials),
    tls,
    authority: certificates.authority,
    warning: tls === null && isOpen ? openToAll(own.id, 'clients') : '',
    expiry,
    // A public authority vouches for anybody, so a certificate out of a file is pinned itself.
    get address() {
      const pinned = files?.current.certificate ?? certificates.authority.certificate
      return addressOf(own, tls === null ? null : pinned)
    },
    close() {
      expiry.close()
      credentials.close()
      files?.close()
    },
  }
}

/** The hosts of a replica's addresses, each once. */
export function hostsOf(replica: Omit<ClusterReplica, 'id'>): readonly string[] {
  const hosts = [replica.http, replica.grpc, replica.peer].map(
    (address) => parseHostPort(address)?.host ?? '',
  )
  return [...new Set(hosts)].filter((host) => host !== '')
}

/**
 * Whether a certificate for clients comes out of files, which are read once for that.
 *
 * @throws ServerError when they cannot be used.
 */
export function checkFiles({ tlsCert, tlsKey }: FileOptions): boolean {
  if (tlsCert === '' && tlsKey === '') return false
  if (tlsCert === '' || tlsKey === '')
    throw new ServerError(
      '--tls-cert and --tls-key are given together: a certificate is no use without its key.',
    )
  try {
    readPair(tlsCert, tlsKey)
    return true
  } catch (error) {
    throw new ServerError(error instanceof Error ? `${error.message}.` : String(error), { cause: error })
  }
}

function openFiles({ options, clock, logger }: SecurityOptions): Credentials | null {
  return checkFiles(options) ? fileCredentials(options.tlsCert, options.tlsKey, { clock, logger }) : null
}

function shownToClients(credentials: Credentials, path: string): Shown {
  return {
    credentials,
    name: `the certificate in ${path}`,
    harm: 'clients that check it turn away',
    remedy: 'put a renewed one and its key in its place, which are read within ten seconds',
  }
}

/** It renews itself, so this is seen only when that fails. */
function ownCertificate(credentials: Credentials, replica: number): Shown {
  return {
    credentials,
    name: `the cluster's certificate of ${replicaName(replica)}`,
    harm: 'the other replicas refuse it',
    remedy: 'its log says why it could not be renewed; start it again',
  }
}

function openToAll(replica: number, whom: string): string {
  return `--insecure: ${replicaName(replica)} speaks plain text with ${whom}, so anyone on the network can read and change everything, passwords too`
}

/** @param pinned a certificate in PEM; of several the first counts. */
function addressOf(own: ClusterReplica, pinned: string | null): string {
  if (pinned === null) return own.http
  const pin = fingerprintOf(new X509Certificate(pinned))
  return formatServerAddress({ host: own.http, secure: true, pin })
}
