import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { replicaName, type ReplicaId } from '../base/ids.ts'
import type { FaultModel } from '../raft/types.ts'
import { writeJson } from './json-file.ts'
import { logFolder } from './recovery.ts'
import { stateFilePattern } from './state-store.ts'

/** Whose memory a folder holds: `replica.json`. */
export interface Identity<Member> {
  readonly version: 1
  /** 32 hexadecimal digits. */
  readonly clusterId: string
  readonly replica: ReplicaId
  /** How often it has started. */
  readonly incarnation: number
  /** It has made promises to others: a log or a state that is missing now was lost. */
  readonly begun: boolean
  /** The replica set that the cluster was created with; empty for a replica that joined later. */
  readonly replicas: readonly Member[]
  /** Of the cluster, when it was created; absent: `majority`, or it joined later and learns it from the log. */
  readonly faultModel?: FaultModel
  /** Where this replica is found, when it joined later or has moved since the cluster was created. */
  readonly own?: Member
  /** Of a replica that joined later: whom it knew then, so that it can ask whether it is still wanted when nobody asks for it. */
  readonly contacts?: readonly Member[]
  /** It joined to stay a learner: it does not ask for a vote when it has caught up. */
  readonly learner?: boolean
  /** It was removed from its cluster, for good. */
  readonly removed?: boolean
}

export type FolderReason =
  | 'inUse'
  /** There is no `replica.json`. */
  | 'notAReplica'
  | 'otherCluster'
  | 'otherReplica'
  /** The replica had a log and a state, and one of them is gone. */
  | 'stateMissing'
  | 'newerVersion'
  /** `replica.json` cannot be read. */
  | 'damaged'
  | 'removed'

/** A folder that a replica cannot start in. The message is for people, names the folder and says what to do. */
export class FolderError extends Error {
  override readonly name = 'FolderError'
  readonly reason: FolderReason
  /** The process that has the folder, for `inUse`; 0 = not known. */
  readonly pid: number

  constructor(reason: FolderReason, message: string, pid = 0) {
    super(message)
    this.reason = reason
    this.pid = pid
  }
}

/** A folder that this process alone may use, until it ends or releases it. */
export interface Claim {
  release(): void
}

/** A connection that nothing refers to would be closed, and its lock with it. */
const claimed = new Set<DatabaseSync>()

/**
 * Claims a folder. The claim is a lock of the operating system on a database file, so it ends with the process, however that ends.
 *
 * @throws FolderError `inUse`
 */
export function claimFolder(folder: string): Claim {
  const pidPath = join(folder, 'lock.pid')
  const db = new DatabaseSync(join(folder, 'lock'))
  try {
    db.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
  } catch (error) {
    db.close()
    if (!(error instanceof Error && 'errcode' in error && error.errcode === sqliteBusy)) throw error
    const pid = readPid(pidPath)
    throw new FolderError(
      'inUse',
      `${folder} is in use by process ${pid === 0 ? '(not known)' : pid}: a replica runs there already. Stop it first${pid === 0 ? '' : `: kill ${pid}`}`,
      pid,
    )
  }
  writeFileSync(pidPath, `${process.pid}\n`)
  claimed.add(db)
  return {
    release() {
      if (!claimed.delete(db)) return
      db.close()
    },
  }
}

/**
 * Makes the folder of a new replica. One that was made before for the same replica stays as it is.
 *
 * @throws FolderError when it is another's.
 */
export function createIdentity<Member>(
  folder: string,
  identity: Pick<
    Identity<Member>,
    'clusterId' | 'replica' | 'replicas' | 'faultModel' | 'own' | 'contacts' | 'learner'
  >,
): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const present = readIdentity<Member>(folder)
  if (present !== null) return expect(folder, present, identity)
  const { clusterId, replica, replicas, faultModel, own, contacts, learner } = identity
  write(folder, {
    version: 1,
    clusterId,
    replica,
    incarnation: 0,
    begun: false,
    replicas,
    ...(faultModel === undefined ? {} : { faultModel }),
    ...(own === undefined ? {} : { own }),
    ...(contacts === undefined ? {} : { contacts }),
    ...(learner === undefined ? {} : { learner }),
  })
}

export interface OpenedFolder<Member> {
  readonly identity: Identity<Member>
  /** To be called before the first promise to anybody, when log and state are there: from then on they are missed. Durable when it returns. */
  markBegun(): void
  /** It is found elsewhere from now on. Durable when it returns. */
  moveTo(own: Member): void
  /** Its cluster has removed it: it never starts again. */
  markRemoved(): void
  readonly claim: Claim
}

/**
 * Claims the folder of a replica and raises its incarnation, durably.
 *
 * @param expected whose folder it should be; whoever's it is, by default.
 * @throws FolderError
 */
export function openIdentity<Member>(
  folder: string,
  expected: { readonly clusterId?: string; readonly replica?: ReplicaId } = {},
): OpenedFolder<Member> {
  if (readIdentity(folder) === null)
    throw new FolderError(
      'notAReplica',
      `${folder} is not the data folder of a replica: it has no replica.json`,
    )
  const claim = claimFolder(folder)
  try {
    const before = readIdentity<Member>(folder)
    if (before === null) throw new FolderError('notAReplica', `${folder} has lost its replica.json`)
    expect(folder, before, expected)
    if (before.removed === true)
      throw new FolderError(
        'removed',
        `${replicaName(before.replica)} was removed from its cluster, and ids are never used again: ${folder} is of no more use. A new replica joins with a folder of its own`,
      )
    if (before.begun) checkMemory(folder, before)
    let identity = { ...before, incarnation: before.incarnation + 1 }
    write(folder, identity)
    return {
      identity,
      claim,
      markBegun() {
        if (identity.begun) return
        identity = { ...identity, begun: true }
        write(folder, identity)
      },
      markRemoved() {
        identity = { ...identity, removed: true }
        write(folder, identity)
      },
      moveTo(own) {
        identity = { ...identity, own }
        write(folder, identity)
      },
    }
  } catch (error) {
    claim.release()
    throw error
  }
}

/**
 * Null when the folder is no replica's.
 *
 * @throws FolderError `damaged` or `newerVersion`.
 */
export function readIdentity<Member>(folder: string): Identity<Member> | null {
  const path = join(folder, fileName)
  if (!existsSync(path)) return null
  const value = parse(readFileSync(path, 'utf8'))
  if (value !== null && typeof value['version'] === 'number' && value['version'] > 1)
    throw new FolderError(
      'newerVersion',
      `${path} was written by a newer version of Parley: start that version again`,
    )
  if (value === null || !isIdentity<Member>(value))
    throw new FolderError('damaged', `${path} is damaged: put back a copy of it`)
  return value
}

const fileName = 'replica.json'
const sqliteBusy = 5

function write<Member>(folder: string, identity: Identity<Member>): void {
  writeJson(join(folder, fileName), identity)
}

function expect(
  folder: string,
  found: { readonly clusterId: string; readonly replica: ReplicaId },
  expected: { readonly clusterId?: string; readonly replica?: ReplicaId },
): void {
  if (expected.clusterId !== undefined && expected.clusterId !== found.clusterId)
    throw new FolderError(
      'otherCluster',
      `${folder} belongs to another cluster (${found.clusterId}, not ${expected.clusterId}): use another folder, or move that one away`,
    )
  if (expected.replica !== undefined && expected.replica !== found.replica)
    throw new FolderError(
      'otherReplica',
      `${folder} belongs to ${replicaName(found.replica)}, not to ${replicaName(expected.replica)}: give each replica its own folder`,
    )
}

function checkMemory(folder: string, { replica }: { readonly replica: ReplicaId }): void {
  const missing: string[] = []
  const log = join(folder, logFolder)
  if (!existsSync(log) || readdirSync(log).length === 0) missing.push('log')
  if (!readdirSync(folder).some((name) => stateFilePattern.test(name))) missing.push('state')
  if (missing.length === 0) return
  throw new FolderError(
    'stateMissing',
    `The ${missing.join(' and the ')} of ${replicaName(replica)} ${missing.length === 1 ? 'is' : 'are'} missing from ${folder}. Without them it has forgotten what it promised and must not ` +
      'take part. Put the files back, or remove this replica from the replica set and add a new one with an empty folder',
  )
}

function parse(text: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value)) : null
  } catch {
    return null
  }
}

/** Members are the caller's own; they are taken as they were written. */
function isIdentity<Member>(value: object): value is Identity<Member> {
  return (
    'clusterId' in value &&
    typeof value.clusterId === 'string' &&
    /^[0-9a-f]{32}$/.test(value.clusterId) &&
    'replica' in value &&
    Number.isInteger(value.replica) &&
    'incarnation' in value &&
    Number.isInteger(value.incarnation) &&
    'begun' in value &&
    typeof value.begun === 'boolean' &&
    'replicas' in value &&
    Array.isArray(value.replicas)
  )
}

function readPid(path: string): number {
  try {
    return Number(readFileSync(path, 'utf8'))
  } catch {
    return 0
  }
}
