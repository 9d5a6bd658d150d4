import { crc32 } from 'node:zlib'
import { encode } from '../base/encode.ts'
import { Command } from '../gen/parley/v1/command.ts'
import type { SignedIn } from '../chat/queries.ts'

/** The operations that are commands, in the form in which they go into the log. */
export type CommandOp = NonNullable<Command['op']>

/**
 * Builds the command that a request asks for.
 *
 * @param digested what tells a repetition of the request from another use of its id: `op` without what a repetition may find changed, when it has some.
 */
export function makeCommand(
  id: Uint8Array,
  signedIn: SignedIn | null,
  op: CommandOp,
  digested: CommandOp = op,
): Command {
  const account = signedIn === null ? 0 : signedIn.account
  // The session is left out: a request may be repeated after another sign-in.
  const content = encode(Command, { id, fingerprint: 0, account, session: 0, op: digested })
  return {
    id,
    fingerprint: crc32(content),
    account,
    session: signedIn === null ? 0 : signedIn.session,
    op,
  }
}
