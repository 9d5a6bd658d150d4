import { replicaName } from '../base/ids.ts'
import type { JoinClusterRequest, JoinClusterResponse, ReplicaStatus } from '../gen/parley/v1/service.ts'
import { parseJoinToken } from '../tls/join-token.ts'
import type { JoinToken } from '../tls/join-token.ts'
import { beginJoining } from './join-cluster.ts'
import type { ServerIo } from './io.ts'
import { toServe } from './make-replica.ts'
import type { JoinOptions } from './options.ts'
import { problemOf, ServerError } from './problems.ts'
import { runServe, type Running } from './serve.ts'
import { buildWebApp } from './web-build.ts'

/** What `parley join --json` prints, one object to a line. */
type JoinEvent =
  | { readonly event: 'joined'; readonly replica: number; readonly data: string }
  | { readonly event: 'catchingUp'; readonly replica: number; readonly percent: number }
  | { readonly event: 'member'; readonly replica: number }

/** How the cluster is asked. */
export interface Cluster {
  /** Asks to be let in. */
  join(request: JoinClusterRequest): Promise<JoinClusterResponse>
  /** The newest entry that the rest of the cluster has committed; 0 when nobody can be asked. */
  commitIndex(): Promise<number>
  close(): void
}

const lookMs = 250
/** Progress is told in steps, since the log writes lines in between. */
const stepPercent = 10

/**
 * Makes a replica of the cluster that the token is for, and runs it until it is told to stop.
 *
 * @param connect is given the addresses of replicas.
 * @returns the exit code. The caller ends the process with it.
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
      `This is ${name} now; its data is in ${options.data}, and the key of the cluster's authority too: guard that folder. From now on: parley serve --data ${options.data}${options.listen === '' ? '' : ` --listen ${options.listen}`}`,
    )
    await buildWebApp(io.err).catch((error: unknown) =>
      io.err(`The web app could not be built (${problemOf(error)}); everything else works without it.`),
    )
    const asked = cluster
    return await runServe(toServe(options), json ? { ...io, out: io.err } : io, (running) => {
      const watch = new Watch(running, asked, (percent) => {
        if (json) tell({ event: 'catchingUp', replica, percent }, '')
        else io.err(`${name} catches up ${bar(percent)} ${percent} %`)
      })
      void watch.ended.then(() => {
        asked.close()
        tell({ event: 'member', replica }, `${name} has caught up and has a vote.`)
      })
    })
  } catch (error) {
    io.err(problemOf(error))
    return 1
  } finally {
    cluster?.close()
  }
}

async function join(token: JoinToken, options: JoinOptions, cluster: Cluster): Promise<number> {
  const joining = await beginJoining(options, token)
  if (joining.kind === 'joined') return joining.replica
  return joining.finish(await cluster.join(joining.request))
}

/** Looks how far a learner is, until it has its vote. */
class Watch {
  /** It has its vote. */
  readonly ended: Promise<void>
  private readonly running: Running
  private readonly cluster: Cluster
  private readonly show: (percent: number) => void
  private shown = -1

  constructor(running: Running, cluster: Cluster, show: (percent: number) => void) {
    this.running = running
    this.cluster = cluster
    this.show = show
    this.ended = new Promise((resolve) => void this.look(resolve))
  }

  private async look(done: () => void): Promise<void> {
    const status = this.running.replica.status()
    const own = status.replicas.find(({ id }) => id === status.replica)
    if (own?.voter === true) {
      done()
      return
    }
    const percent = own === undefined ? 0 : await this.percentOf(own)
    // It does not seem to go back when the cluster goes on meanwhile.
    if (this.shown < 0 || percent >= this.shown + stepPercent) {
      this.shown = percent
      this.show(percent)
    }
    setTimeout(() => void this.look(done), lookMs).unref()
  }

  private async percentOf({ copyDoneBytes, copyBytes, appliedIndex }: ReplicaStatus): Promise<number> {
    // A copy of the state comes first, when the log alone would take longer or reaches not far enough back.
    if (copyBytes > 0) return Math.min(99, Math.floor((99 * copyDoneBytes) / copyBytes))
    const commitIndex = await this.cluster.commitIndex()
    return commitIndex === 0 ? 0 : Math.min(99, Math.floor((99 * appliedIndex) / commitIndex))
  }
}

function bar(percent: number): string {
  const full = Math.round(percent / 5)
  return `[${'#'.repeat(full)}${'-'.repeat(20 - full)}]`
}
