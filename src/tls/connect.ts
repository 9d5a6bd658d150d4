import type { X509Certificate } from 'node:crypto'
import {
  parseServerAddress,
  platformConnect,
  webSocketConnect,
  type Connect,
  type Connection,
} from '../client/index.ts'
import { fingerprintOf } from './names.ts'

/** Why a replica cannot be talked with, in one line for people. */
export class PinError extends Error {
  override readonly name = 'PinError'
}

const handshakeMs = 5000

/**
 * The `connect` of clients outside of browsers: it talks with replicas whose address pins an authority only when a certificate of that authority proves them.
 *
 * @param tell is told in words why a replica that can be reached cannot be talked with.
 */
export function createNodeConnect(tell: (problem: string) => void): Connect {
  /** How to connect under each authority, by its fingerprint. */
  const pinned = new Map<string, Connect>()
  return (address, handlers) => {
    const server = parseServerAddress(address)
    const pin = server?.pin ?? null
    if (server === null || pin === null) return platformConnect(address, handlers)
    const known = pinned.get(pin)
    if (known !== undefined) return known(address, handlers)
    let closed = false
    let connection: Connection | null = null
    connectUnder(server.host, pin).then(
      (connect) => {
        pinned.set(pin, connect)
        if (!closed) connection = connect(address, handlers)
      },
      (error: unknown) => {
        if (error instanceof PinError) tell(error.message)
        if (!closed) handlers.closed()
      },
    )
    return {
      send: (bytes) => connection?.send(bytes),
      close() {
        closed = true
        connection?.close()
      },
    }
  }
}

/**
 * Asks whoever listens at `host` (host:port) for the certificate of its authority, in PEM, and checks its fingerprint.
 *
 * @throws PinError when it has another one or none, or the system's error when nobody can be reached.
 */
export async function fetchAuthority(host: string, pin: string): Promise<string> {
  const chain = await chainOf(host)
  const authority = chain.find((certificate) => fingerprintOf(certificate) === pin)
  if (authority === undefined) {
    const found = chain.at(-1)
    throw new PinError(
      `${host} has another authority than the one of the address: sha256=${found === undefined ? 'none' : fingerprintOf(found)} instead of sha256=${pin}. It belongs to another cluster, or somebody stands in between.`,
    )
  }
  const [own] = chain
  if (own !== undefined) checkTimes(own, host)
  return authority.toString()
}

async function connectUnder(host: string, pin: string): Promise<Connect> {
  // Loaded only by those who pin an authority: every verb of the command line would start more slowly.
  const [{ Agent }, { WebSocket }] = await Promise.all([import('node:https'), import('ws')])
  // Any replica of the cluster will do, under whatever name it was found.
  const agent = new Agent({
    ca: await fetchAuthority(host, pin),
    // What is pinned may be the replica's own certificate, out of a file.
    allowPartialTrustChain: true,
    checkServerIdentity: () => undefined,
  })
  return webSocketConnect((url) => new WebSocket(url, { agent, perMessageDeflate: false }))
}

/** The certificates that a server shows, its own first. Nothing is sent to it. */
async function chainOf(host: string): Promise<readonly X509Certificate[]> {
  const { connect: connectTls } = await import('node:tls')
  const { hostname, port } = new URL(`https://${host}`)
  return new Promise((resolve, reject) => {
    const socket = connectTls({
      host: hostname.replace(/^\[|\]$/g, ''),
      port: Number(port === '' ? 443 : port),
      // Whom it can be trusted to be is looked at by the caller.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
    })
    socket.setTimeout(handshakeMs, () => socket.destroy(new PinError(`${host} does not answer.`)))
    socket.once('secureConnect', () => {
      const chain: X509Certificate[] = []
      let next = socket.getPeerX509Certificate()
      while (next !== undefined && chain.length < 10) {
        chain.push(next)
        const issuer = next.issuerCertificate
        next = issuer?.fingerprint256 === next.fingerprint256 ? undefined : issuer
      }
      socket.destroy()
      resolve(chain)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => {
      socket.destroy()
      reject(
        error.code?.startsWith('ERR_SSL_') === true
          ? new PinError(
              `${host} does not speak TLS, or not in a way that can be understood (${error.code}).`,
            )
          : error,
      )
    })
  })
}

function checkTimes(certificate: X509Certificate, host: string): void {
  const now = Date.now()
  const { validFrom, validTo } = certificate
  if (now < Date.parse(validFrom))
    throw new PinError(
      `The certificate of ${host} is valid from ${validFrom} on, and the clock of this machine says ${new Date(now).toUTCString()}: set the clock that is wrong.`,
    )
  if (now > Date.parse(validTo))
    throw new PinError(
      `The certificate of ${host} was valid until ${validTo}, and the clock of this machine says ${new Date(now).toUTCString()}: set the clock that is wrong.`,
    )
}
