import { connect, createServer, type TLSSocket } from 'node:tls'
import { replicaOf } from '../tls/names.ts'
import type { Proof, Sockets } from './context.ts'

/** What a replica proves itself with, and checks others by. */
export interface PeerCredentials {
  /** 32 hexadecimal digits. */
  readonly clusterId: string
  /** The certificate of the cluster's authority, PEM. */
  readonly authority: string
  /** The own certificate, which is renewed now and then. */
  readonly current: { readonly certificate: string; readonly key: string }
  /** Calls `listener` each time after it was renewed. */
  onRenewed(listener: () => void): void
}

/** A handshake that takes longer is cut off: whoever dialled has given up by then. */
const handshakeMs = 2000

/**
 * Connections on which both sides have shown a certificate of the cluster's authority: TLS 1.3. A wrong certificate does not break off the handshake but is refused in a frame
 * of the greeting, so that people are told the reason on both sides.
 */
export function secureSockets(credentials: PeerCredentials): Sockets {
  const secrets = () => ({
    ca: credentials.authority,
    cert: credentials.current.certificate,
    key: credentials.current.key,
    minVersion: 'TLSv1.3' as const,
  })
  return {
    connect(endpoint, ready) {
      const socket = connect({
        ...endpoint,
        ...secrets(),
        rejectUnauthorized: false,
        // Replicas are told apart by their certificates and not by names of hosts.
        checkServerIdentity: () => undefined,
      })
      socket.once('secureConnect', () => ready(proofOf(socket, 'whoever answers', credentials.clusterId)))
      return socket
    },
    createServer(accepted) {
      const server = createServer(
        {
          ...secrets(),
          requestCert: true,
          rejectUnauthorized: false,
          handshakeTimeout: handshakeMs,
          noDelay: true,
        },
        (socket) => accepted(socket, proofOf(socket, 'whoever dialled', credentials.clusterId)),
      )
      // Strangers who do not get through the handshake cannot be told anything, and are nothing to people.
      server.on('tlsClientError', (_error, socket) => socket.destroy())
      credentials.onRenewed(() => server.setSecureContext(secrets()))
      return server
    },
  }
}

function proofOf(socket: TLSSocket, who: string, clusterId: string): Proof {
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) return { kind: 'refused', reason: `${who} has no certificate` }
  if (!socket.authorized)
    return { kind: 'refused', reason: `${who} ${words(String(socket.authorizationError))}` }
  const replica = replicaOf(certificate, clusterId)
  if (replica === null)
    return { kind: 'refused', reason: `${who} has a certificate that is not a replica's of this cluster` }
  return { kind: 'replica', replica }
}

/** @param code what OpenSSL found wrong. */
function words(code: string): string {
  switch (code) {
    case 'CERT_NOT_YET_VALID':
      return 'has a certificate that is not valid yet: the clock of one of the two machines is wrong'
    case 'CERT_HAS_EXPIRED':
      return 'has a certificate that is out of date: the clock of one of the two machines is wrong'
    default:
      return `has a certificate that is not of this cluster's authority (${code})`
  }
}
