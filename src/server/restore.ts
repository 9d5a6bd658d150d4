import {
  closeSync,
  constants,
  copyFileSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

import { shellWord } from '../base/shell-word.ts'
import { prepareRestored } from '../chat/restored.ts'
import { beginLog, setPoint } from '../log/begin.ts'
import type { SnapshotPoint } from '../raft/types.ts'
import { createNodeDisk } from '../storage/node-disk.ts'
import { flushFolder } from '../storage/state-jobs.ts'
import { openBackup, type BackupHeader } from './backup-file.ts'
import { systemClock } from './clock.ts'
import { clusterFileName, replicaFolder, type ClusterFile } from './cluster-file.ts'
import { checkPorts, createCluster, faultModelOf, planCluster } from './create-cluster.ts'
import { initialConfiguration, readIdentity } from './folders.ts'
import { makeFolder } from './make-folder.ts'
import { makeFirstReplica } from './make-replica.ts'
import type { RestoreOptions } from './options.ts'
import { isLoopback } from './ports.ts'
import { ServerError } from './problems.ts'

export interface Restored {
  readonly header: BackupHeader
  readonly clusterId: string
  readonly replicas: number
  readonly faultModel: string
  readonly accounts: number
  readonly messages: number
  /** The command that starts it. */
  readonly start: string
}

/**
 * Makes a new cluster that begins with what a backup holds. It has a new id, so that its replicas and those of the old one never take each other for their own.
 *
 * Everything is made beside the folder, which gets its name when all of it is there. A folder that is there already may be where a disk is mounted, or in one that this user
 * may not write to: then everything is made within it, and moved to its place at the end.
 *
 * @param onProgress told what part is done, from 0 to 1.
 * @param stop ends it, with its reason.
 * @throws ServerError that says what is wrong. Whatever it throws, then there is no new folder.
 */
export async function restore(
  options: RestoreOptions,
  file: string,
  onProgress: (part: number) => void,
  stop: AbortSignal,
): Promise<Restored> {
  const advance = (part: number): void => {
    stop.throwIfAborted()
    onProgress(part)
  }
  const folder = resolve(options.data)
  const isThere = checkEmpty(folder)
  const isLocal = isLoopback(options.host)
  if (!isLocal && options.replicas > 1)
    throw new ServerError(
      `A cluster on several machines begins with one replica: use --replicas 1 with --host ${options.host}, and let the others join with "parley token create" and "parley join".`,
    )
  const backup = openBackup(file)
  const building = isThere ? join(folder, '.restoring') : `${folder}.restoring-${process.pid}`
  const state = `${building}.state`
  try {
    makeFolder(isThere ? folder : dirname(folder))
    mkdirSync(building, { mode: 0o700 })
    await backup.extract(state, (doneBytes) => advance((doneBytes / backup.header.sizeBytes) * 0.7))
    const { accounts, messages } = prepare(state, options.logOutAll)
    const cluster = isLocal ? await makeLocal(building, options) : await makeFirst(building, options)
    const folders = isLocal ? cluster.replicas.map(({ id }) => replicaFolder(building, id)) : [building]
    const point = { index: backup.header.index, term: 0, configuration: initialConfiguration(cluster) }
    begin(state, point)
    for (const [i, own] of folders.entries()) {
      copyFileSync(state, join(own, 'state-1.db'), constants.COPYFILE_FICLONE)
      flushFile(join(own, 'state-1.db'))
      await beginLog(createNodeDisk(own), systemClock, point)
      flushFolder(own)
      advance(0.7 + (0.3 * (i + 1)) / folders.length)
    }
    flushFolder(building)
    if (isThere) moveUp(building, folder)
    else renameSync(building, folder)
    flushFolder(isThere ? folder : dirname(folder))
    return {
      header: backup.header,
      clusterId: cluster.clusterId,
      replicas: cluster.replicas.length,
      faultModel: cluster.faultModel ?? 'majority',
      accounts,
      messages,
      start: `parley ${isLocal ? 'up' : 'serve'} --data ${shellWord(options.data)}`,
    }
  } catch (error) {
    rmSync(building, { recursive: true, force: true })
    throw error
  } finally {
    rmSync(state, { force: true })
    backup.close()
  }
}

async function makeLocal(building: string, options: RestoreOptions): Promise<ClusterFile> {
  const cluster = planCluster({ ...options, faultModel: faultModelOf(options.faultModel) })
  await checkPorts(cluster, options.host)
  return createCluster(building, cluster)
}

/** With an authority of its own: others can join it over TLS. */
async function makeFirst(building: string, options: RestoreOptions): Promise<ClusterFile> {
  const own = await makeFirstReplica({ ...options, data: building })
  const { clusterId = '', faultModel = 'majority' } = readIdentity(building) ?? {}
  return { version: 1, clusterId, replicas: [own], faultModel, complete: true }
}

/** Takes out what belonged to the old replicas and their processes. */
function prepare(path: string, logOutAll: boolean): { readonly accounts: number; readonly messages: number } {
  const db = new DatabaseSync(path)
  try {
    db.exec('PRAGMA journal_mode = DELETE')
    const found = db.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
    if (found !== 'ok') throw new ServerError(`What is in the backup is damaged: ${String(found)}.`)
    return prepareRestored(db, logOutAll)
  } finally {
    db.close()
  }
}

function begin(path: string, point: SnapshotPoint): void {
  const db = new DatabaseSync(path)
  try {
    setPoint(db, point)
    db.exec('VACUUM')
  } finally {
    db.close()
  }
}

/** Returns whether the folder is there. */
function checkEmpty(folder: string): boolean {
  let names: readonly string[]
  try {
    names = readdirSync(folder)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false
    throw error
  }
  const [found] = names
  if (found !== undefined)
    throw new ServerError(
      `${folder} is not empty (${found}): a backup is restored into a new folder only. Choose another one with --data.`,
    )
  return true
}

/** What says that the folder is that of a cluster, or of a replica, comes last: nothing starts without it. */
function moveUp(from: string, to: string): void {
  const names = readdirSync(from)
  const isLast = (name: string): boolean => name === clusterFileName || name === 'replica.json'
  for (const name of names) if (!isLast(name)) renameSync(join(from, name), join(to, name))
  flushFolder(to)
  for (const name of names) if (isLast(name)) renameSync(join(from, name), join(to, name))
  rmdirSync(from)
}

function flushFile(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
