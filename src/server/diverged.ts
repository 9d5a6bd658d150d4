import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { HaltError } from '../raft/halt.ts'
import { writeJson } from '../storage/json-file.ts'
import { ServerError } from './problems.ts'

const fileName = 'diverged.json'

/** Remembers that this replica and others have gone on without each other: it must not start again by itself, or it could go on alone. */
export function markDiverged(folder: string, reason: string): void {
  writeJson(join(folder, fileName), { version: 1, reason })
}

/** @throws ServerError when the replica of this folder has diverged. */
export function checkNotDiverged(folder: string): void {
  const path = join(folder, fileName)
  if (!existsSync(path)) return
  throw new ServerError(
    `The replica of ${folder} and the others have gone on without each other, though the fault model fail-stop rests on that not happening. Nothing was overwritten: what only this replica has is in this folder. To take part again with what the others have: move the folder away and let a new replica join. To take this replica's side instead: stop all others for good, and remove ${path}.`,
    { cause: new HaltError('diverged', path) },
  )
}
