import { createHash, createPrivateKey, randomBytes, X509Certificate } from 'node:crypto'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { toHex } from '../base/bytes.ts'
import { makeUuidV7, replicaName, uuidV7TimeMs } from '../base/ids.ts'
import type { JoinClusterRequest, JoinClusterResponse } from '../gen/parley/v1/service.ts'
import { writeJson } from '../storage/json-file.ts'
import { makeRequest } from '../tls/authority.ts'
import type { JoinToken } from '../tls/join-token.ts'
import { fingerprintOf, replicaOf } from '../tls/names.ts'
import { writeCertificates } from '../tls/store.ts'
import { createJoiningFolder, readIdentity } from './folders.ts'
import { makeFolder } from './make-folder.ts'
import { checkEmpty, findPlace, type Place } from './make-replica.ts'
import type { JoinOptions } from './options.ts'
import { checkListen } from './place.ts'
import { ServerError } from './problems.ts'
import { rememberOptions } from './remembered.ts'
import { checkFiles } from './security.ts'

/** An attempt to join a cluster. */
export type Joining =
  /** The folder has a replica of this cluster: an earlier attempt got so far. */
  | { readonly kind: 'joined'; readonly replica: number }
  | {
      readonly kind: 'asks'
      readonly request: JoinClusterRequest
      /**
       * Takes over the cluster's answer; returns the new replica's number.
       *
       * @throws ServerError when it is not what was asked for.
       */
      readonly finish: (response: JoinClusterResponse) => number
    }

/** What an attempt keeps in `join.json`, so that the next one is the same to the cluster, and gets the same answer. */
interface JoinFile {
  readonly version: 1
  /** SHA-256 of the token's secret. */
  readonly token: string
  readonly id: string
  readonly request: string
  /** PKCS #8, PEM. */
  readonly key: string
}

/** The cluster remembers what it answered for so long, and a bit longer. */
const rememberedMs = 6 * 24 * 60 * 60 * 1000

/**
 * Begins to join, or goes on with an attempt that broke off.
 *
 * @throws ServerError when the folder has something else in it, or the place is no place for a replica.
 */
export async function beginJoining(options: JoinOptions, token: JoinToken): Promise<Joining> {
  const { data } = options
  const present = readIdentity(data)
  if (present !== null) {
    if (present.clusterId === token.clusterId) {
      // Once it has run, serve.toml is its owner's.
      if (!present.begun) {
        // What cannot work is not remembered: the next start would fail of it too.
        checkFiles(options)
        await checkListen(options)
        rememberOptions(data, options)
      }
      return { kind: 'joined', replica: present.replica }
    }
    throw new ServerError(
      `${data} has ${replicaName(present.replica)} of another cluster (${present.clusterId}): name a new folder with --data.`,
    )
  }
  checkEmpty(data)
  checkFiles(options)
  const place = await findPlace(options)
  makeFolder(data)
  const file = await openJoinFile(join(data, 'join.json'), token)
  return {
    kind: 'asks',
    request: {
      id: Buffer.from(file.id, 'hex'),
      secret: token.secret,
      certificateRequest: Buffer.from(file.request, 'base64'),
      httpAddress: place.http,
      grpcAddress: place.grpc,
      peerAddress: place.peer,
    },
    finish: (response) => finish(options, token, place, file.key, response),
  }
}

async function openJoinFile(path: string, token: JoinToken): Promise<JoinFile> {
  const secretHash = createHash('sha256').update(token.secret).digest('hex')
  const present = readJoinFile(path)
  const nowMs = Date.now()
  if (present?.token === secretHash) {
    const beganMs = uuidV7TimeMs(Buffer.from(present.id, 'hex')) ?? 0
    if (Math.abs(nowMs - beganMs) < rememberedMs) return present
  }
  const { request, key } = await makeRequest()
  const file: JoinFile = {
    version: 1,
    token: secretHash,
    id: toHex(makeUuidV7(nowMs, randomBytes(10))),
    request: Buffer.from(request).toString('base64'),
    key,
  }
  writeJson(path, file)
  return file
}

/** Null when there is none that is whole: then the attempt begins anew. */
function readJoinFile(path: string): JoinFile | null {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'))
    return isJoinFile(value) ? value : null
  } catch {
    return null
  }
}

function isJoinFile(value: unknown): value is JoinFile {
  return (
    typeof value === 'object' &&
    value !== null &&
    ['token', 'id', 'request', 'key'].every((name) => typeof Reflect.get(value, name) === 'string')
  )
}

function finish(
  options: JoinOptions,
  token: JoinToken,
  place: Place,
  key: string,
  response: JoinClusterResponse,
): number {
  const { data: folder } = options
  const { replica } = response
  const clusterId = toHex(response.clusterId)
  const certificate = new X509Certificate(response.certificate)
  const authority = new X509Certificate(response.authorityCertificate)
  const isAnswer =
    clusterId === token.clusterId &&
    fingerprintOf(authority) === token.authority &&
    authority.checkPrivateKey(createPrivateKey(response.authorityKey)) &&
    certificate.verify(authority.publicKey) &&
    certificate.checkPrivateKey(createPrivateKey(key)) &&
    replicaOf(certificate, clusterId) === replica
  if (!isAnswer)
    throw new ServerError(
      'The cluster that answered is not the one that the token was made for: nothing was kept.',
    )
  const nowMs = Date.now()
  if (nowMs < Date.parse(certificate.validFrom) || nowMs > Date.parse(certificate.validTo))
    throw new ServerError(
      `The clock of this machine says ${new Date(nowMs).toUTCString()}, and a certificate that the cluster made just now is valid from ${certificate.validFrom} to ${certificate.validTo}: set the clock that is wrong, and say the same again.`,
    )
  writeCertificates(folder, {
    clusterId,
    authority: { certificate: response.authorityCertificate, key: response.authorityKey },
    own: { certificate: response.certificate, key },
  })
  const contacts = response.others.map(({ replica, httpAddress, grpcAddress, peerAddress }) => ({
    id: replica,
    http: httpAddress,
    grpc: grpcAddress,
    peer: peerAddress,
  }))
  rememberOptions(folder, options)
  createJoiningFolder(folder, { clusterId, own: { id: replica, ...place }, contacts })
  rmSync(join(folder, 'join.json'), { force: true })
  return replica
}
