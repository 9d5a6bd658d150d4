import { accessSync, constants, existsSync, mkdirSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'

import { ServerError } from './problems.ts'

/**
 * Makes a data folder, and those above it that are missing.
 *
 * @throws ServerError when it cannot be made or written to, with the reason.
 */
export function makeFolder(folder: string): void {
  const missing: string[] = []
  for (let at = resolve(folder); !existsSync(at); at = dirname(at)) missing.unshift(at)
  try {
    // One by one: `recursive` reports ENOENT where a disk can only be read, and never ends in some places, as /proc.
    for (const one of missing) mkdirSync(one, { mode: 0o700 })
  } catch (error) {
    throw new ServerError(
      `The folder ${folder} cannot be made: ${reasonOf(error)}. Choose another one with --data.`,
      {
        cause: error,
      },
    )
  }
  checkWritable(folder)
}

/** @throws ServerError when nothing can be written to the folder, which exists. */
export function checkWritable(folder: string): void {
  if (!statSync(folder).isDirectory())
    throw new ServerError(`${folder} is a file, not a folder. Choose another one with --data.`)
  try {
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch (error) {
    throw new ServerError(`Nothing can be written to the folder ${folder}: ${reasonOf(error)}.`, {
      cause: error,
    })
  }
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : ''
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return 'this user may not'
    case 'EROFS':
      return 'the disk can only be read'
    case 'EEXIST':
    case 'ENOTDIR':
      return 'a part of its path is a file'
    case 'ENOENT':
      return 'no folders can be made there'
    case 'ENAMETOOLONG':
      return 'its name is too long'
    case 'ENOSPC':
    case 'EDQUOT':
      return 'the disk has no space left'
    default:
      return String(error)
  }
}
