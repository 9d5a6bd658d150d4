import { AssertionError } from '../base/assert.ts'
import { FolderError } from '../storage/identity.ts'
import { HaltError } from '../raft/halt.ts'
import { DamagedError } from '../storage/types.ts'
import { OptionError } from './options.ts'

/** What keeps a replica or a cluster from running, in one line for people: what is wrong, and the way out. */
export class ServerError extends Error {
  override readonly name = 'ServerError'
}

/** Of a replica that must not take part any more: it was removed, or has forgotten what it promised. Starting it again does not help. */
export const unwantedCode = 3

/** Whether the folder is that of a replica that was removed, or that has diverged from the others. */
export function isUnwanted(error: unknown): boolean {
  return (
    error instanceof ServerError &&
    ((error.cause instanceof FolderError && error.cause.reason === 'removed') ||
      (error.cause instanceof HaltError && !error.cause.mayStartAgain))
  )
}

/** One line for people about anything that was thrown. */
export function problemOf(error: unknown): string {
  if (error instanceof ServerError || error instanceof DamagedError || error instanceof OptionError)
    return error.message
  if (error instanceof AssertionError)
    return `a rule of the program is broken (${error.message}): this is a bug in Parley; please report it.`
  if (error instanceof HaltError) return haltWords[error.reason]
  if (!(error instanceof Error)) return String(error)
  switch ('code' in error ? error.code : undefined) {
    case 'EADDRINUSE':
      return `Port ${portOf(error)} is in use by another program: stop that one first.`
    case 'EADDRNOTAVAIL':
      return `This machine does not have the address of ${error.message}.`
    case 'EACCES':
      return `No permission: ${error.message}.`
    case 'EMFILE':
    case 'ENFILE':
      return 'Too many files and connections are open for this machine: raise the limit ("ulimit -n") and start again.'
    case 'ENOSPC':
      return `The disk has no space left (${error.message}): make room and start again; nothing is lost.`
    case 'EROFS':
      return `The disk can only be read: ${error.message}.`
    default:
      return error.message
  }
}

const haltWords: Readonly<Record<HaltError['reason'], string>> = {
  diverged:
    'it and the others have gone on without each other, though the fault model fail-stop rests on that not happening. Nothing was overwritten; both sides keep their files. See "Diverged" in docs/OPERATIONS.md.',
  takenForDead:
    'the other replicas have taken it for dead and gone on without it. It has lost nothing that they have not: start it again, and it is taken in as before.',
}

function portOf(error: Error): string {
  return 'port' in error ? String(error.port) : (/:([0-9]+)$/.exec(error.message)?.[1] ?? '')
}
