import { chownSync, existsSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'

import type { Cancel, Clock } from '../base/clock.ts'
import { parseReplicaName, replicaName } from '../base/ids.ts'
import type { Logger } from '../base/logger.ts'
import type { LogStatus } from '../log/port.ts'
import { writeJson } from '../storage/json-file.ts'

/** `waiting.json`: whom a replica waits for, as long as it does (fault model `fail-stop`). */
interface WaitingFile {
  readonly version: 1
  readonly replica: string
  readonly waitingFor: readonly string[]
  /** The end of its log. */
  readonly term: number
  readonly lastIndex: number
}

/** `recover.json`: the operator's order to go on without some of them. */
interface RecoverFile {
  readonly version: 1
  readonly without: readonly string[]
}

const lookMs = 500

/** Tells an operator, by files in the replica's folder, whom the replica waits for, and takes the order to wait no longer. */
export function watchOutage(options: {
  readonly folder: string
  readonly clock: Clock
  readonly logger: Logger
  readonly status: () => LogStatus
  readonly giveUp: (replicas: readonly number[]) => void
}): Cancel {
  const { folder, clock, logger, status, giveUp } = options
  const waitingPath = join(folder, waitingName)
  const recoverPath = join(folder, recoverName)
  let told = ''
  let cancel: Cancel = () => {}
  rmSync(waitingPath, { force: true })

  function look(): void {
    const { self, waitingFor, available, term, lastIndex } = status()
    const missing = available ? [] : waitingFor.map(replicaName)
    if (missing.join() !== told) {
      told = missing.join()
      const file: WaitingFile = {
        version: 1,
        replica: replicaName(self),
        waitingFor: missing,
        term,
        lastIndex,
      }
      if (missing.length === 0) rmSync(waitingPath, { force: true })
      else {
        writeJson(waitingPath, file)
        logger.warn({ waitingFor: missing }, `waiting for ${missing.join(', ')}: nothing goes on without`)
      }
    }
    if (missing.length > 0 && existsSync(recoverPath)) {
      const order = readJson<RecoverFile>(recoverPath)
      rmSync(recoverPath)
      if (order !== null) giveUp(order.without.flatMap((name) => parseReplicaName(name) ?? []))
    }
    cancel = clock.after(lookMs, look)
  }
  look()
  return () => {
    cancel()
    rmSync(waitingPath, { force: true })
  }
}

/** Whom the replica of `folder` waits for; null when it waits for nobody, or does not run. */
export function readWaiting(folder: string): WaitingFile | null {
  return readJson<WaitingFile>(join(folder, waitingName))
}

/** Lets the replica of `folder` go on without those that it waits for. */
export function orderRecovery(folder: string, { waitingFor }: WaitingFile): void {
  const order: RecoverFile = { version: 1, without: waitingFor }
  const path = join(folder, recoverName)
  const fresh = `${path}.order`
  writeJson(fresh, order)
  // An operator who is root may give orders to a replica that is not.
  if (process.getuid?.() === 0) {
    const { uid, gid } = statSync(folder)
    chownSync(fresh, uid, gid)
  }
  renameSync(fresh, path)
}

/** What is lost when those that are waited for are given up, in lines for people. */
export function lossOf({ replica, waitingFor, term, lastIndex }: WaitingFile): readonly string[] {
  const names = waitingFor.join(' and ')
  return [
    `${replica} has its log up to entry ${lastIndex} of term ${term} and waits for ${names}.`,
    `If ${names} went on when ${replica} was down, everything that was acknowledged since then is lost for good without: messages that people were told are sent, accounts, deletions.`,
    `If ${names} still ${waitingFor.length === 1 ? 'runs' : 'run'} somewhere out of reach, both sides would go on and drift apart: make sure that nothing runs there.`,
    `Never start ${names} again with the old folder afterwards: move it away, and let a new replica join in its place.`,
  ]
}

const waitingName = 'waiting.json'
const recoverName = 'recover.json'

/** Files that this program wrote; null when there is none, or it cannot be read. */
function readJson<File>(path: string): File | null {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as File
  } catch {
    return null
  }
}
