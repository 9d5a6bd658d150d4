import type { Command } from '../gen/parley/v1/command.ts'

const noId = new Uint8Array(0)

/** A command of the cluster itself: nobody's, and without an idempotency id. */
export function clusterCommand(op: Command['op']): Command {
  return { id: noId, fingerprint: 0, account: 0, session: 0, op }
}
