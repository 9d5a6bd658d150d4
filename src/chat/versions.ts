import type { Command } from '../gen/parley/v1/command.ts'

/** The first version (src/base/version.ts) in which all replicas apply the command in the same way. It must not get into the log before they all know that version. */
export function versionOf(op: Command['op']): number {
  switch (op?.$case) {
    case 'raiseVersion':
      return op.value.version
    case 'setPolicy':
      // Clients of an earlier version do not know the field, and may ask for all fields to be set.
      return (op.value.policy?.retentionS ?? 0) > 0 || op.value.fields.includes('retention_s') ? 2 : 1
    case 'setRoomRetention':
    case 'expireMessages':
    case 'createJoinToken':
    case 'revokeJoinToken':
    case 'useJoinToken':
      return 2
    default:
      return 1
  }
}

/** The log holds a command of a later version of Parley: a replica that does not know it must stop, since it would drift away from the others. */
export class NewerVersionError extends Error {
  override readonly name = 'NewerVersionError'
}
