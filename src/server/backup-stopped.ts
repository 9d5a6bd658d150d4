import { readdirSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { isOutOfSpace } from '../storage/errors.ts'
import { claimFolder, FolderError } from '../storage/identity.ts'
import { stateFilePattern } from '../storage/state-store.ts'
import { createStateWorker } from '../storage/state-worker.ts'
import type { StateJobResult } from '../storage/types.ts'
import { BackupWriter, type BackupHeader } from './backup-file.ts'
import { systemClock } from './clock.ts'
import { readIdentity } from './folders.ts'
import { ServerError } from './problems.ts'
import { version } from './version.ts'

const pieceBytes = 1024 * 1024

/**
 * Backs up what a replica that does not run had applied.
 *
 * @param stop ends it, with its reason; then nothing is left.
 * @returns null when it runs, or when the folder is that of a whole local cluster: then a replica is to be asked.
 * @throws ServerError
 */
export async function backUpStopped(
  data: string,
  file: string,
  stop: AbortSignal,
): Promise<BackupHeader | null> {
  const folder = resolve(data)
  const identity = readIdentity(folder)
  if (identity === null) return null
  let claim: ReturnType<typeof claimFolder>
  try {
    claim = claimFolder(folder)
  } catch (error) {
    if (error instanceof FolderError && error.reason === 'inUse') return null
    throw error
  }
  // The copy lies beside the backup for a while, and holds as much.
  process.umask(0o077)
  const worker = createStateWorker(systemClock)
  const copyPath = `${resolve(file)}.copy-${process.pid}`
  let writer: BackupWriter | null = null
  // The copy fails then.
  stop.addEventListener('abort', () => void worker.close())
  try {
    stop.throwIfAborted()
    const state = newestState(folder)
    if (state === null) throw new ServerError(`${data} holds no state: this replica has never run.`)
    writer = new BackupWriter(file)
    const copied = await new Promise<StateJobResult>((done) =>
      worker.run({ kind: 'copy', path: state, to: copyPath }, done),
    )
    stop.throwIfAborted()
    if (copied.kind !== 'copied') {
      const error = copied.kind === 'failed' ? copied.error : new Error(`a job ended as ${copied.kind}`)
      throw isOutOfSpace(error) ? Object.assign(new Error(error.message), { code: 'ENOSPC' }) : error
    }
    const { id, index, sizeBytes } = copied.offer
    const header: BackupHeader = {
      clusterId: identity.clusterId,
      faultModel: identity.faultModel ?? 'majority',
      index,
      at: new Date().toISOString(),
      version,
      sizeBytes,
      sha256: id.slice(id.indexOf('-') + 1),
    }
    writer.begin(header)
    while (writer.stateBytes < sizeBytes) {
      writer.write(await worker.read(copyPath, writer.stateBytes, pieceBytes))
      stop.throwIfAborted()
    }
    writer.finish()
    return header
  } finally {
    writer?.abandon()
    await worker.close()
    for (const suffix of ['', '-journal']) rmSync(`${copyPath}${suffix}`, { force: true })
    claim.release()
  }
}

function newestState(folder: string): string | null {
  const numbers = readdirSync(folder)
    .map((name) => stateFilePattern.exec(name))
    .filter((match) => match !== null && match[2] === '')
    .map((match) => Number(match?.[1]))
  return numbers.length === 0 ? null : join(folder, `state-${Math.max(...numbers)}.db`)
}
