import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { writeJson } from '../storage/json-file.ts'
import type { Authority, Issued } from './authority.ts'

/** What a replica keeps in `certificates.json`, which its owner alone may read: with the authority's key replicas can be made. */
export interface Certificates {
  readonly clusterId: string
  readonly authority: Authority
  readonly own: Issued
}

/** Where the certificates of the replica in `folder` are. */
export function certificatesPath(folder: string): string {
  return join(folder, 'certificates.json')
}

/**
 * Null when there are none: the replica speaks plain text.
 *
 * @throws Error when the file is damaged.
 */
export function readCertificates(folder: string): Certificates | null {
  const path = certificatesPath(folder)
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
  const value = parse(text)
  if (value === null)
    throw new Error(
      `${path} is damaged: put back a copy of it, or remove this replica and join anew with an empty folder`,
    )
  return value
}

/** Replaces the file in one step; durable when it returns. */
export function writeCertificates(folder: string, certificates: Certificates): void {
  writeJson(certificatesPath(folder), { version: 1, ...certificates })
}

function parse(text: string): Certificates | null {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  if (typeof value !== 'object' || value === null) return null
  if (!('clusterId' in value && 'authority' in value && 'own' in value)) return null
  const { clusterId, authority, own } = value
  if (typeof clusterId !== 'string' || !isPair(authority) || !isPair(own)) return null
  return { clusterId, authority, own }
}

function isPair(value: unknown): value is Authority & Issued {
  return (
    typeof value === 'object' &&
    value !== null &&
    'certificate' in value &&
    typeof value.certificate === 'string' &&
    'key' in value &&
    typeof value.key === 'string'
  )
}
