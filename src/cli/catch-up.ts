import { replicaName } from '../base/ids.ts'
import { addressBeside, type Client } from '../client/index.ts'
import type { GetStatusResponse, ReplicaStatus } from '../gen/parley/v1/service.ts'
import { byteWords, oneRow } from './text.ts'
import type { Io } from './io.ts'

/** How far a replica is with what the others have. */
export interface CatchUp {
  /** 0 to 1. */
  readonly fraction: number
  readonly words: string
}

/** @param status as the leader, or the replica itself, tells it: no other knows. */
export function catchUpOf(replica: ReplicaStatus, status: GetStatusResponse): CatchUp {
  const { copyDoneBytes, copyBytes, lastIndex } = replica
  if (copyBytes > 0)
    return {
      fraction: copyDoneBytes / copyBytes,
      words: `${byteWords(copyDoneBytes)} of ${byteWords(copyBytes)} of the state`,
    }
  const leader = status.replicas.find(({ id }) => id === status.leader)
  const commit = leader?.commitIndex ?? 0
  const fraction = commit === 0 ? 0 : Math.min(1, lastIndex / commit)
  return { fraction, words: `${lastIndex} of ${commit} entries of the log` }
}

/** `[######----]  60 %`. */
export function bar(fraction: number, width = 30): string {
  const done = Math.floor(fraction * width)
  return `[${'#'.repeat(done)}${'-'.repeat(width - done)}] ${String(Math.floor(fraction * 100)).padStart(3)} %`
}

/** Asks the leader for the status, over a connection of its own: the others do not know how far each replica is. */
export class LeaderView {
  private readonly io: Pick<Io, 'createClient'>
  private readonly client: Client
  private readonly known: string
  private leader: { readonly address: string; readonly client: Client } | null = null

  /** @param known an address of the cluster: the leader is reached in the same way. */
  constructor(io: Pick<Io, 'createClient'>, client: Client, known: string) {
    this.io = io
    this.client = client
    this.known = known
  }

  async status(): Promise<GetStatusResponse> {
    const status = await this.client.call('getStatus', {})
    const leader = status.replicas.find(({ id }) => id === status.leader)
    if (leader === undefined || leader.id === status.replica || leader.httpAddress === '') return status
    const address = addressBeside(this.known, leader.httpAddress)
    if (this.leader?.address !== address) {
      this.close()
      this.leader = { address, client: this.io.createClient({ addresses: [address], discover: false }) }
    }
    try {
      return await this.leader.client.call('getStatus', {}, { timeoutMs: 2000 })
    } catch {
      // It has just gone, or cannot be reached from here.
      return status
    }
  }

  close(): void {
    this.leader?.client.close()
    this.leader = null
  }
}

const lookMs = 250

/** Shows how the replica catches up, until `isDone` or the process is asked to stop. Returns whether it is done. */
export async function followCatchUp(
  io: Io,
  view: LeaderView,
  replica: number,
  isDone: (known: ReplicaStatus) => boolean,
): Promise<boolean> {
  const lines = new StatusLine(io)
  const stopped = io.stopped.then(() => true)
  const pause = (): Promise<boolean> => new Promise((resolve) => io.after(lookMs, () => resolve(false)))
  do {
    const status = await view.status()
    const known = status.replicas.find(({ id }) => id === replica)
    if (known === undefined) return false
    const { fraction, words } = catchUpOf(known, status)
    if (isDone(known)) {
      lines.show(`${replicaName(replica)} ${bar(1)}`)
      return true
    }
    const what = known.reachable ? words : 'not reachable yet'
    lines.show(`${replicaName(replica)} ${bar(fraction)}  ${what}`)
  } while (!(await Promise.race([pause(), stopped])))
  return false
}

/** One line on stderr that changes; without a terminal, nothing. */
export class StatusLine {
  private readonly io: Io
  private isShown = false

  constructor(io: Io) {
    this.io = io
  }

  show(text: string): void {
    if (!this.io.canAsk) return
    // Over the line before, which was one row.
    this.io.err(`${this.isShown ? '\u001B[1A\u001B[2K' : ''}${oneRow(text, this.io.columns())}`)
    this.isShown = true
  }
}
