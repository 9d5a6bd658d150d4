import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

import { replicaName } from '../base/ids.ts'
import { writeJson, type ClusterFile, type ClusterReplica } from './cluster-file.ts'
import { ServerError } from './problems.ts'

/** A folder that this process alone may use, until it ends or releases it. */
export interface Claim {
  release(): void
}

/** Who a replica is: `replica.json` in its folder. */
export interface Identity {
  readonly version: 1
  readonly clusterId: string
  readonly replica: number
  /** How often it has started. */
  readonly incarnation: number
  /** It has had a log: one that is missing now was lost. */
  readonly begun: boolean
  /** The replica set that the cluster was created with. */
  readonly replicas: readonly ClusterReplica[]
}

/**
 * Claims a folder. The claim is a lock of the operating system on a database file, so it ends with the process, however that ends.
 *
 * @param inUse the line for people when process `pid` has it.
 * @throws ServerError with that line.
 */
export function claimFolder(folder: string, inUse: (pid: number) => string): Claim {
  const pidPath = join(folder, 'lock.pid')
  const db = new DatabaseSync(join(folder, 'lock'))
  try {
    db.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
  } catch {
    db.close()
    throw new ServerError(inUse(readPid(pidPath)))
  }
  writeFileSync(pidPath, `${process.pid}\n`)
  held.add(db)
  return {
    release() {
      held.delete(db)
      db.close()
    },
  }
}

/** A connection that nothing refers to would be closed, and its lock with it. */
const held = new Set<DatabaseSync>()

/** Makes the folder of a replica of a new cluster. One that was made before stays as it is. */
export function createReplicaFolder(folder: string, replica: number, cluster: ClusterFile): void {
  if (readIdentity(folder) !== null) return
  mkdirSync(folder, { recursive: true })
  writeIdentity(folder, {
    version: 1,
    clusterId: cluster.clusterId,
    replica,
    incarnation: 0,
    begun: false,
    replicas: cluster.replicas,
  })
}

/**
 * Claims the folder of a replica and raises its incarnation, durably.
 *
 * @throws ServerError when the folder is in use, or is not a replica's, or has lost its memory.
 */
export function openReplicaFolder(folder: string): { readonly identity: Identity; readonly claim: Claim } {
  const unclaimed = readIdentity(folder)
  if (unclaimed === null)
    throw new ServerError(`${folder} is not the data folder of a replica: "parley up" makes such folders.`)
  const claim = claimFolder(
    folder,
    (pid) =>
      `${folder} is in use by process ${pid}: a replica runs there already. Stop it first: kill ${pid}`,
  )
  const before = readIdentity(folder) ?? unclaimed
  const logFolder = join(folder, 'log')
  if (before.begun && (!existsSync(logFolder) || readdirSync(logFolder).length === 0)) {
    claim.release()
    throw new ServerError(
      `The log of ${replicaName(before.replica)} is missing from ${folder}. Without it the replica has forgotten what it promised and must not take part. Put the files back.`,
    )
  }
  const identity = { ...before, incarnation: before.incarnation + 1 }
  writeIdentity(folder, identity)
  return { identity, claim }
}

/** Notes that the replica has a log now. */
export function markBegun(folder: string, identity: Identity): void {
  if (!identity.begun) writeIdentity(folder, { ...identity, begun: true })
}

function writeIdentity(folder: string, identity: Identity): void {
  writeJson(join(folder, 'replica.json'), identity)
}

/**
 * Null when the folder is no replica's.
 *
 * @throws ServerError when the file cannot be read.
 */
export function readIdentity(folder: string): Identity | null {
  const path = join(folder, 'replica.json')
  if (!existsSync(path)) return null
  try {
    // Written by `writeIdentity` only, and in one step.
    const identity = JSON.parse(readFileSync(path, 'utf8')) as Identity
    if (identity.version === 1 && Number.isInteger(identity.incarnation)) return identity
  } catch {
    // Said below.
  }
  throw new ServerError(`${path} is damaged: put back a copy of it.`)
}

function readPid(path: string): number {
  try {
    return Number(readFileSync(path, 'utf8'))
  } catch {
    return 0
  }
}
