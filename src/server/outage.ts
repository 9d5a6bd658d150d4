import { existsSync, readFileSync, renameSync, rmSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'

import { pause, type Cancel, type Clock } from '../base/clock.ts'
import { parseReplicaName, replicaName } from '../base/ids.ts'
import type { Logger } from '../base/logger.ts'
import type { LogStatus } from '../log/port.ts'
import { writeJson } from '../storage/json-file.ts'
import { asOwnerOf } from './owner.ts'

/** `waiting.json`: whom a replica waits for, as long as it does (fault model `fail-stop`). */
interface WaitingFile {
  readonly version: 1
  readonly replica: string
  readonly waitingFor: readonly string[]
  /** The end of its log. */
  readonly term: number
  readonly lastIndex: number
}

/** `recover.json`: the operator's order to go on without some of them. It is there only until the replica takes it, or the operator takes it back. */
interface RecoverFile {
  readonly version: 1
  readonly without: readonly string[]
}

/** `recovered.json`: the replica's answer to the last order. */
interface RecoveredFile {
  readonly version: 1
  /** Without those that were not waited for any more. */
  readonly givenUp: readonly string[]
}

const lookMs = 500
/** An order is taken back after so long. */
const takenWithinMs = 10 * lookMs
const askMs = 50

/** Tells an operator, by files in the replica's folder, whom the replica waits for, and takes the order to wait no longer. */
export function watchOutage(options: {
  readonly folder: string
  readonly clock: Clock
  readonly logger: Logger
  readonly status: () => Pick<LogStatus, 'self' | 'waitingFor' | 'available' | 'term' | 'lastIndex'>
  readonly giveUp: (replicas: readonly number[]) => void
}): Cancel {
  const { folder, clock, logger, status, giveUp } = options
  const waitingPath = join(folder, waitingName)
  const recoverPath = join(folder, recoverName)
  const recoveredPath = join(folder, recoveredName)
  let told = ''
  let failure = ''
  let cancel: Cancel = () => {}
  // What an earlier process has left: an order was for what that one waited for.
  for (const path of [waitingPath, recoverPath, recoveredPath]) rmSync(path, { force: true })

  function look(): void {
    const { self, waitingFor, available, term, lastIndex } = status()
    const missing = available ? [] : waitingFor.map(replicaName)
    if (missing.join() !== told) {
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
      told = missing.join()
    }
    if (existsSync(recoverPath)) takeOrder(missing)
  }

  /** A disk without room is no reason to end, least of all now. */
  function lookAgain(): void {
    try {
      look()
      failure = ''
    } catch (error) {
      const words = String(error)
      if (words !== failure)
        logger.warn(
          { error: words },
          'an operator cannot be told whom this replica waits for; it is tried again',
        )
      failure = words
    }
    cancel = clock.after(lookMs, lookAgain)
  }

  function takeOrder(missing: readonly string[]): void {
    try {
      renameSync(recoverPath, recoveredPath)
    } catch (error) {
      if (isMissing(error)) return
      throw error
    }
    const order = readJson<RecoverFile>(recoveredPath)
    // One that is back is not given up: what it alone holds is here again.
    const givenUp = order?.without.filter((name) => missing.includes(name)) ?? []
    if (givenUp.length > 0) giveUp(givenUp.flatMap((name) => parseReplicaName(name) ?? []))
    const answer: RecoveredFile = { version: 1, givenUp }
    writeJson(recoveredPath, answer)
  }

  lookAgain()
  return () => {
    cancel()
    rmSync(waitingPath, { force: true })
  }
}

/** Whom the replica of `folder` waits for; null when it waits for nobody, or does not run. */
export function readWaiting(folder: string): WaitingFile | null {
  return readJson<WaitingFile>(join(folder, waitingName))
}

/**
 * Lets the replica of `folder` go on without those that it waits for. Resolves with whom it gave up, which is nobody when all of them are back; with null when it has not taken
 * the order, which then is taken back.
 */
export async function orderRecovery(
  folder: string,
  { waitingFor }: WaitingFile,
  clock: Pick<Clock, 'monotonicMs' | 'after'>,
): Promise<readonly string[] | null> {
  const recoverPath = join(folder, recoverName)
  const recoveredPath = join(folder, recoveredName)
  rmSync(recoveredPath, { force: true })
  const order: RecoverFile = { version: 1, without: waitingFor }
  asOwnerOf(folder, () => writeJson(recoverPath, order))
  const endMs = clock.monotonicMs() + takenWithinMs
  for (;;) {
    const answer = readJson<RecoveredFile | RecoverFile>(recoveredPath)
    if (answer !== null && 'givenUp' in answer) {
      rmSync(recoveredPath)
      return answer.givenUp
    }
    const lateMs = clock.monotonicMs() - endMs
    // Only one of the two can have the file: either it is taken back, or the replica has taken it.
    if (lateMs >= 0 && tookBack(recoverPath)) return null
    // Its process has ended in between.
    if (lateMs >= lookMs) return waitingFor
    await pause(clock, askMs)
  }
}

function tookBack(path: string): boolean {
  try {
    unlinkSync(path)
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
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
const recoveredName = 'recovered.json'

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}

/** Files that this program wrote; null when there is none, or it cannot be read. */
function readJson<File>(path: string): File | null {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as File
  } catch {
    return null
  }
}
