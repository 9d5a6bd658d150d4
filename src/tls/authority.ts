import 'reflect-metadata'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
  type JsonGeneralName,
} from '@peculiar/x509'
import { KeyObject } from 'node:crypto'
import { isIP } from 'node:net'
import { replicaName, type ReplicaId } from '../base/ids.ts'
import { replicaUri } from './names.ts'

/*
 * Writes certificates. Loading the library takes a tenth of a second, so this file is imported when a certificate is to be written and not before.
 */

/** The cluster's certificate authority: whoever has its key can make replicas of the cluster. */
export interface Authority {
  /** PEM. */
  readonly certificate: string
  /** PKCS #8, PEM. */
  readonly key: string
}

/** A certificate with its key. */
export interface Issued {
  /** PEM. */
  readonly certificate: string
  /** PKCS #8, PEM. */
  readonly key: string
}

export interface Subject {
  /** 32 hexadecimal digits. */
  readonly clusterId: string
  readonly replica: ReplicaId
  /** Names and addresses under which clients reach the replica. */
  readonly hosts: readonly string[]
}

export interface Validity {
  readonly nowMs: number
  /** Default {@link certificateLifetimeMs}. */
  readonly lifetimeMs?: number
}

const dayMs = 24 * 60 * 60 * 1000
/** A replica's certificate lasts so long. It is renewed when a third of that has passed. */
export const certificateLifetimeMs = 30 * dayMs
/** The authority lasts as long as the cluster: its fingerprint stands in every client's address. */
const authorityLifetimeMs = 50 * 365 * dayMs
/** Certificates are valid from so long before they were made on: the clocks of two machines differ. */
export const clockSkewMs = 60 * 60 * 1000

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

/** Makes the authority of a new cluster. */
export async function createAuthority(clusterId: string, nowMs: number): Promise<Authority> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: `CN=Parley cluster ${clusterId}`,
    notBefore: new Date(nowMs - dayMs),
    notAfter: new Date(nowMs + authorityLifetimeMs),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return { certificate: pem(certificate), key: keyPem(keys.privateKey) }
}

/** Makes a key and a certificate for it. */
export async function issue(authority: Authority, subject: Subject, validity: Validity): Promise<Issued> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const certificate = await answerRequest(authority, subject, validity, keys.publicKey)
  return { certificate, key: keyPem(keys.privateKey) }
}

/** Makes a key, and asks for a certificate for it: PKCS #10, DER. The request says nothing about who asks; the authority decides that. */
export async function makeRequest(): Promise<{ readonly request: Uint8Array; readonly key: string }> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: 'CN=Parley',
    keys,
    signingAlgorithm: algorithm,
  })
  return { request: new Uint8Array(request.rawData), key: keyPem(keys.privateKey) }
}

/** The key that a request is for; null when the bytes are none, the key is of another kind, or the asker does not prove to have it. */
export async function readRequest(bytes: Uint8Array): Promise<CryptoKey | null> {
  try {
    const request = new Pkcs10CertificateRequest(Uint8Array.from(bytes))
    const key = await request.publicKey.export(algorithm, ['verify'])
    return (await request.verify()) ? key : null
  } catch {
    // Whatever the library says of bytes that strangers sent: they are no request.
    return null
  }
}

/** A certificate for the key, PEM. */
export async function answerRequest(
  authority: Authority,
  { clusterId, replica, hosts }: Subject,
  { nowMs, lifetimeMs = certificateLifetimeMs }: Validity,
  publicKey: CryptoKey,
): Promise<string> {
  const issuer = new X509Certificate(authority.certificate)
  const key = Buffer.from(authority.key.replace(/-----[A-Z ]+-----|\s/g, ''), 'base64')
  const certificate = await X509CertificateGenerator.create({
    subject: `CN=${replicaName(replica)}, O=Parley cluster ${clusterId}`,
    issuer: issuer.subjectName,
    notBefore: new Date(nowMs - clockSkewMs),
    notAfter: new Date(nowMs + lifetimeMs),
    signingAlgorithm: algorithm,
    publicKey,
    signingKey: await crypto.subtle.importKey('pkcs8', key, algorithm, false, ['sign']),
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
      new SubjectAlternativeNameExtension([
        { type: 'url', value: replicaUri(clusterId, replica) },
        ...[...new Set(['localhost', '127.0.0.1', ...hosts])].map(nameOf),
      ]),
      await SubjectKeyIdentifierExtension.create(publicKey),
      await AuthorityKeyIdentifierExtension.create(issuer),
    ],
  })
  return pem(certificate)
}

function nameOf(host: string): JsonGeneralName {
  return { type: isIP(host) === 0 ? 'dns' : 'ip', value: host }
}

function pem(certificate: X509Certificate): string {
  return `${certificate.toString('pem')}\n`
}

function keyPem(key: CryptoKey): string {
  return String(KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }))
}
