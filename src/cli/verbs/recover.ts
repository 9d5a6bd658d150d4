import { replicaName } from '../../base/ids.ts'
import { shellWord } from '../../base/shell-word.ts'
import type { GetStatusResponse } from '../../gen/parley/v1/service.ts'
import { localReplicas, openAuthority, type Authority } from '../authority.ts'
import { CliError, exitCodes, UsageError } from '../io.ts'
import { type Context, type Report, verb } from '../verb.ts'

export const recover = verb(
  {
    name: 'recover',
    summary: 'show what a replica waits for after an outage, or go on without it (fault model fail-stop)',
    arguments: [],
    options: [
      ['--data <dir>', 'the data folder of a replica that runs and waits'],
      ['--force', 'give up the replicas that it waits for, and lose what they alone hold'],
    ],
    examples: ['parley recover --data data/r1', 'parley recover --data data/r1 --force'],
  },
  ({ options: { data, force } }) => {
    if (typeof data !== 'string' || data === '')
      throw new UsageError('which replica? Name its data folder: parley recover --data DIR/r1')
    return { data, force: force === true }
  },
  async ({ data, force }, context) => {
    const { io } = context
    if (localReplicas(io, data).length > 0)
      throw new UsageError(`${data} holds several replicas. Name the folder of one: ${data}/r1, for instance`)
    const { lossOf, orderRecovery, readWaiting } = await import('../../server/outage.ts')
    // What a process that was killed has left there says nothing: one that runs must answer.
    const authority = await openAuthority(context, data)
    try {
      const waiting = readWaiting(data)
      if (waiting === null) throw new CliError(waitsForNobody(authority.status))
      const loss = lossOf(waiting)
      if (!force) {
        const way = `Start ${listed(waiting.waitingFor)} again, and nothing is lost. Only if that cannot be: parley recover --data ${shellWord(data)} --force`
        return { data: { ...waiting, forced: false }, lines: [...loss, way] }
      }
      for (const line of loss) io.err(line)
      const givenUp = await orderRecovery(data, waiting, { monotonicMs: io.nowMs, after: io.after })
      if (givenUp === null)
        throw new CliError(
          `${waiting.replica} has not taken the order, which was taken back: nothing is given up. Does it hang? Its log may say why.`,
          exitCodes.unavailable,
        )
      return outcome(waiting.replica, givenUp, waiting, await untilGoingOn(authority, context))
    } finally {
      authority.close()
    }
  },
)

/** Why there is nothing to give up at this replica, and where to look. */
function waitsForNobody({ replica, leader, faultModel }: GetStatusResponse): string {
  if (faultModel !== 'fail-stop')
    return 'In the fault model majority no replica can be given up: a majority must come back. See "Losing the quorum" in docs/OPERATIONS.md.'
  const name = replicaName(replica)
  if (leader !== 0 && leader !== replica)
    return `${name} waits for no other replica. Should ${replicaName(leader)}, which leads, wait for one, "parley recover" is for its folder. See: parley status`
  return `${name} waits for no other replica, so there is nothing to give up. See: parley status`
}

/** What has come of the order when the replica is asked last. */
function outcome(
  name: string,
  givenUp: readonly string[],
  waiting: object,
  { quorum, waitingFor }: GetStatusResponse,
): Report {
  const others = waitingFor.map(replicaName)
  const taken =
    givenUp.length === 0
      ? `Nobody was given up: all that ${name} waited for are back.`
      : `${name} has given up ${listed(givenUp)}`
  const now = quorum
    ? 'goes on'
    : others.length > 0
      ? `waits for ${listed(others)} now`
      : 'does not go on yet. See: parley status'
  return {
    data: { ...waiting, forced: true, givenUp, quorum, waitingFor: others },
    lines: [givenUp.length === 0 ? `${taken} It ${now}.` : `${taken}, and ${now}.`],
    exitCode: quorum ? exitCodes.ok : exitCodes.unavailable,
  }
}

const lookMs = 100
/** Those that are left elect a leader within a second or two. */
const goingOnWithinMs = 10_000

/** How the cluster stands when it goes on, or when it should. */
async function untilGoingOn({ client }: Authority, { io }: Context): Promise<GetStatusResponse> {
  const endMs = io.nowMs() + goingOnWithinMs
  for (;;) {
    const status = await client.call('getStatus', {})
    if (status.quorum || io.nowMs() >= endMs) return status
    await new Promise<void>((resolve) => void io.after(lookMs, resolve))
  }
}

function listed(names: readonly string[]): string {
  return names.join(' and ')
}
