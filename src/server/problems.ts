import { AssertionError } from '../base/assert.ts'
import { FolderError } from '../storage/identity.ts'
import { DamagedError } from '../storage/types.ts'
import { OptionError } from './options.ts'

/** What keeps a replica or a cluster from running, in one line for people: what is wrong, and the way out. */
export class ServerError extends Error {
  override readonly name = 'ServerError'
}

/** Of a replica that must not take part any more: it was removed, or has forgotten what it promised. Starting it again does not help. */
export const unwantedCode = 3

/** Whether the folder is that of a replica that was removed. */
export function isUnwanted(error: unknown): boolean {
  return (
    error instanceof ServerError && error.cause instanceof FolderError && error.cause.reason === 'removed'
  )
}

/** One line for people about anything that was thrown. */
export function problemOf(error: unknown): string {
  if (error instanceof ServerError || error instanceof DamagedError || error instanceof OptionError)
    return error.message
  if (error instanceof AssertionError)
    return `a rule of the program is broken (${error.message}): this is a bug in Parley; please report it.`
  if (!(error instanceof Error)) return String(error)
  switch ('code' in error ? error.code : undefined) {
    case 'EADDRINUSE':
      return `Port ${portOf(error)} is in use by another program: stop that one first.`
    case 'EADDRNOTAVAIL':
      return `This machine does not have the address of ${error.message}.`
    case 'EACCES':
      return `No permission: ${error.message}.`
    case 'ENOSPC':
      return `The disk has no space left (${error.message}): make room and start again; nothing is lost.`
    case 'EROFS':
      return `The disk can only be read: ${error.message}.`
    default:
      return error.message
  }
}

function portOf(error: Error): string {
  return 'port' in error ? String(error.port) : (/:([0-9]+)$/.exec(error.message)?.[1] ?? '')
}
