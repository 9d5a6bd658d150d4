import type { X509Certificate } from 'node:crypto'
import { parseReplicaName, replicaName, type ReplicaId } from '../base/ids.ts'

/** How a replica is named in its certificate: `parley://CLUSTER/r2`. */
export function replicaUri(clusterId: string, replica: ReplicaId): string {
  return `parley://${clusterId}/${replicaName(replica)}`
}

/** The replica of the cluster that a certificate names; null when it names none. Who signed it is not looked at. */
export function replicaOf(certificate: X509Certificate, clusterId: string): ReplicaId | null {
  const prefix = `URI:parley://${clusterId}/`
  for (const name of certificate.subjectAltName?.split(', ') ?? [])
    if (name.startsWith(prefix)) return parseReplicaName(name.slice(prefix.length))
  return null
}

/** SHA-256 of a certificate, 64 hexadecimal digits in lower case. */
export function fingerprintOf(certificate: X509Certificate): string {
  return certificate.fingerprint256.replaceAll(':', '').toLowerCase()
}
