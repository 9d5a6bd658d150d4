import { createHash, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { crc32 } from 'node:zlib'
import type { JoinDesk } from '../api/service.ts'
import { failed, resultOf, unavailable, type Result } from '../api/calls.ts'
import { invalid, makeError, withMessage } from '../api/errors.ts'
import type { Clock } from '../base/clock.ts'
import { toHex } from '../base/bytes.ts'
import { replicaName } from '../base/ids.ts'
import type { Logger } from '../base/logger.ts'
import { addressBeside } from '../client/server-address.ts'
import { unknownJoinToken } from '../chat/join-tokens.ts'
import type { Command } from '../gen/parley/v1/command.ts'
import type { JoinClusterRequest } from '../gen/parley/v1/service.ts'
import type { Executed, Replica, Unavailable } from '../replica/types.ts'
import type { Authority } from '../tls/authority.ts'
import { fingerprintOf } from '../tls/names.ts'
import { hostsOf } from './security.ts'

export interface JoinDeskOptions {
  readonly replica: Replica
  readonly authority: Authority
  /** How clients reach this replica. */
  readonly address: () => string
  readonly clock: Clock
  readonly logger: Logger
}

/** A token has so many addresses at most: one of them will be there. */
const maxAddresses = 5

/** Lets new replicas in: whoever knows the secret of a token gets an id, a certificate and the key of the authority. */
export function createJoinDesk(options: JoinDeskOptions): JoinDesk {
  const { replica, authority, clock, logger } = options
  const fingerprint = fingerprintOf(new X509Certificate(authority.certificate))
  const { clusterId } = replica.state

  async function admit(request: JoinClusterRequest, timeoutMs: number): Promise<Result> {
    const strange = await turnAway(request, timeoutMs)
    if (strange !== null) return strange
    const addresses = {
      peer: request.peerAddress,
      http: request.httpAddress,
      grpc: request.grpcAddress,
    }
    const hosts = hostsOf(addresses)
    // They become names in a certificate.
    if (!hosts.every((host) => isIP(host) !== 0 || /^[A-Za-z0-9._-]{1,253}$/.test(host)))
      return failed(invalid([{ field: 'http_address', description: 'must name a host' }]))
    const { answerRequest, readRequest } = await import('../tls/authority.ts')
    const key = await readRequest(request.certificateRequest)
    if (key === null)
      return failed(
        invalid([{ field: 'certificate_request', description: 'must be PKCS #10 for a key on P-256' }]),
      )
    const used = await useToken(request, timeoutMs)
    if (used !== null) return used
    const added = await replica.change({ kind: 'add', replica: 0, addresses }, timeoutMs)
    if (!added.ok) return failed(makeError(added.reason, { message: added.message }))
    const id = added.replica
    const { faultModel, replicas } = replica.status()
    const subject = { clusterId: toHex(clusterId), replica: id, hosts }
    logger.info({ joined: replicaName(id), ...addresses }, 'a new replica was let in')
    return {
      $case: 'joinCluster',
      value: {
        clusterId,
        replica: id,
        certificate: await answerRequest(authority, subject, { nowMs: clock.wallMs() }, key),
        authorityCertificate: authority.certificate,
        authorityKey: authority.key,
        faultModel,
        others: replicas
          .filter((other) => other.id !== id)
          .map(({ id, httpAddress, grpcAddress, peerAddress }) => ({
            replica: id,
            httpAddress,
            grpcAddress,
            peerAddress,
          })),
      },
    }
  }

  /** Strangers cost no place in the log: null for who shows the secret of some token, whatever became of it. */
  async function turnAway({ secret }: JoinClusterRequest, timeoutMs: number): Promise<Result | null> {
    const why = await new Promise<Unavailable | null>((resolve) =>
      replica.whenReadable({ local: false, timeoutMs }, resolve),
    )
    if (why !== null) return unavailable(why)
    return replica.queries.isJoinToken(hashOf(secret)) ? null : failed(unknownJoinToken)
  }

  /** Null when the token was good; the answer when it was not. */
  async function useToken({ id, secret }: JoinClusterRequest, timeoutMs: number): Promise<Result | null> {
    const secretHash = hashOf(secret)
    const command: Command = {
      id,
      fingerprint: crc32(secretHash),
      account: 0,
      session: 0,
      op: { $case: 'useJoinToken', value: { secretHash } },
    }
    const executed = await new Promise<Executed>((resolve) => replica.execute(command, timeoutMs, resolve))
    if (executed.kind !== 'applied') return resultOf(executed)
    const { outcome } = executed.outcome
    if (outcome?.$case === 'done') return null
    return outcome?.$case === 'rejected' ? failed(withMessage(outcome.value)) : resultOf(executed)
  }

  return {
    authority: Buffer.from(fingerprint, 'hex'),
    addresses() {
      // Others have certificates of the same authority, but not when this one shows another.
      const address = options.address()
      const others = address.endsWith(fingerprint)
        ? replica.state.addresses.map((other) => addressBeside(address, other))
        : []
      return [...new Set([address, ...others])].slice(0, maxAddresses)
    },
    admit,
  }
}

function hashOf(secret: Uint8Array): Uint8Array {
  return createHash('sha256').update(secret).digest()
}
