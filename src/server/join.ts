import { replicaName } from '../base/ids.ts'
import { shellWord } from '../base/shell-word.ts'
import type { JoinClusterRequest, JoinClusterResponse } from '../gen/parley/v1/service.ts'
import { parseJoinToken } from '../tls/join-token.ts'
import type { JoinToken } from '../tls/join-token.ts'
import { beginJoining } from './join-cluster.ts'
import type { ServerIo } from './io.ts'
import { toServe } from './make-replica.ts'
import type { JoinOptions } from './options.ts'
import { problemOf, ServerError } from './problems.ts'
import { runServe } from './serve.ts'
import { buildWebAppApart } from './web-build.ts'

/** What `parley join --json` prints, one object to a line. */
type JoinEvent =
  | { readonly event: 'joined'; readonly replica: number; readonly data: string }
  | { readonly event: 'member'; readonly replica: number }

/** How the cluster is asked. */
export interface Cluster {
  /** Asks to be let in. */
  join(request: JoinClusterRequest): Promise<JoinClusterResponse>
  /** Shows how the replica catches up; resolves with whether it has its vote, when it has or when the process is asked to stop. */
  follow(replica: number): Promise<boolean>
  close(): void
}

/**
 * Makes a replica of the cluster that the token is for, and runs it until it is told to stop.
 *
 * @param connect is given the addresses of replicas.
 * @returns the exit code. The caller ends the process with it.
 * @throws ServerError when the replica cannot be made, or what `connect` was refused with.
 */
export async function runJoin(
  word: string,
  options: JoinOptions,
  json: boolean,
  io: ServerIo,
  connect: (addresses: readonly string[]) => Cluster,
): Promise<number> {
  const tell = (event: JoinEvent, text: string): void => io.out(json ? JSON.stringify(event) : text)
  let cluster: Cluster | null = null
  try {
    const token = parseJoinToken(word)
    if (token === null)
      throw new ServerError(
        'That is no join token, or a part of it is missing: copy all of what "parley init" or "parley token create" printed.',
      )
    cluster = connect(token.addresses)
    const replica = await join(token, options, cluster)
    const name = replicaName(replica)
    tell(
      { event: 'joined', replica, data: options.data },
      `This is ${name} now; its data is in ${options.data}, and the key of the cluster's authority too: guard that folder. From now on: parley serve --data ${shellWord(options.data)}`,
    )
    await buildWebAppApart(io.err).catch((error: unknown) =>
      io.err(`The web app could not be built (${problemOf(error)}); everything else works without it.`),
    )
    const asked = cluster
    return await runServe(toServe(options), json ? { ...io, out: io.err } : io, () => {
      void asked.follow(replica).then((isVoter) => {
        asked.close()
        if (isVoter) tell({ event: 'member', replica }, `${name} has caught up and has a vote.`)
      })
    })
  } finally {
    cluster?.close()
  }
}

async function join(token: JoinToken, options: JoinOptions, cluster: Cluster): Promise<number> {
  const joining = await beginJoining(options, token)
  if (joining.kind === 'joined') return joining.replica
  return joining.finish(await cluster.join(joining.request))
}
