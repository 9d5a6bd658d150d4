import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { replicaName } from '../base/ids.ts'
import type { FaultModel } from '../raft/types.ts'
import { writeJson } from '../storage/json-file.ts'

/** What `parley up` remembers of a local cluster, in `cluster.json`. */
export interface ClusterFile {
  readonly version: 1
  /** 32 hexadecimal digits. */
  readonly clusterId: string
  readonly replicas: readonly ClusterReplica[]
  /** Absent: `majority`. */
  readonly faultModel?: FaultModel
  /** All data folders have been made. Until then nothing was promised to anybody and `up` may go on with making them. */
  readonly complete: boolean
}

export interface ClusterReplica {
  readonly id: number
  /** `host:port` each. */
  readonly http: string
  readonly grpc: string
  readonly peer: string
}

export const clusterFileName = 'cluster.json'

/** Where `replica` of the cluster in `folder` keeps its data. */
export function replicaFolder(folder: string, replica: number): string {
  return join(folder, replicaName(replica))
}

/** Null when there is none. Throws with what is wrong when it cannot be read. */
export function readClusterFile(folder: string): ClusterFile | null {
  const path = join(folder, clusterFileName)
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
  const value = parse(text)
  if (value === null)
    throw new Error(`${path} is damaged: put back a copy, or move the folder away to begin anew`)
  return value
}

/** Replaces the file in one step. */
export function writeClusterFile(folder: string, file: ClusterFile): void {
  mkdirSync(folder, { recursive: true })
  writeJson(join(folder, clusterFileName), file)
}

function parse(text: string): ClusterFile | null {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  return isClusterFile(value) ? value : null
}

function isClusterFile(value: unknown): value is ClusterFile {
  return (
    isRecord(value) &&
    value['version'] === 1 &&
    typeof value['clusterId'] === 'string' &&
    /^[0-9a-f]{32}$/.test(value['clusterId']) &&
    typeof value['complete'] === 'boolean' &&
    Array.isArray(value['replicas']) &&
    value['replicas'].length > 0 &&
    value['replicas'].every(isClusterReplica)
  )
}

function isClusterReplica(value: unknown): value is ClusterReplica {
  return (
    isRecord(value) &&
    Number.isInteger(value['id']) &&
    ['http', 'grpc', 'peer'].every((name) => typeof value[name] === 'string')
  )
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
