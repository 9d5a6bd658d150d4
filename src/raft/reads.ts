import type { ReplicaId } from '../base/ids.ts'
import type { Random } from '../base/random.ts'
import type { Index } from './types.ts'

/** A read that waits at the leader, asked by itself or by another replica. */
export interface WaitingRead {
  readonly from: ReplicaId
  readonly id: number
}

/**
 * ReadIndex at the leader (Raft dissertation §6.4): reads wait for a heartbeat round that begins after them and is answered by a quorum; the commit index at its beginning
 * is theirs. One round is under way at a time, and the next one serves all that came in the meantime.
 */
export class ReadRounds {
  private waiting: WaitingRead[] = []
  private current: {
    readonly round: number
    readonly index: Index
    readonly reads: readonly WaitingRead[]
  } | null = null

  add(read: WaitingRead): void {
    this.waiting.push(read)
  }

  /** Whether a round should begin now. */
  get wantsRound(): boolean {
    return this.current === null && this.waiting.length > 0
  }

  get isConfirming(): boolean {
    return this.current !== null
  }

  begin(round: number, commitIndex: Index): void {
    if (!this.wantsRound) return
    this.current = { round, index: commitIndex, reads: this.waiting }
    this.waiting = []
  }

  /** A quorum has answered `round`, or a later one. Returns the reads that may go ahead. */
  confirm(round: number): { readonly index: Index; readonly reads: readonly WaitingRead[] } | null {
    const confirmed = this.current
    if (confirmed === null || round < confirmed.round) return null
    this.current = null
    return confirmed
  }

  /** The leader is none any more, or `from` forgot what it asked. */
  drop(from: ReplicaId | null): readonly WaitingRead[] {
    const stays = (read: WaitingRead) => from !== null && read.from !== from
    const all = [...(this.current?.reads ?? []), ...this.waiting]
    if (this.current !== null) this.current = { ...this.current, reads: this.current.reads.filter(stays) }
    this.waiting = this.waiting.filter(stays)
    return all.filter((read) => !stays(read))
  }
}

/** What a follower asked the leader: about a read, or for a change of the configuration. */
export interface Question {
  readonly kind: 'read' | 'change'
  /** The host's. */
  readonly id: number
}

/** The questions that the leader has not answered. */
export class Questions {
  /** By the number that went over the wire, with the tick of the question. */
  private readonly asked = new Map<number, { readonly question: Question; readonly tick: number }>()
  private nextNumber: number
  private tick = 0

  /** Numbers start at random, so that an answer to a question from before a restart is not taken for one of now. */
  constructor(random: Random) {
    this.nextNumber = random.below(2 ** 32) * 2 ** 20
  }

  get areOpen(): boolean {
    return this.asked.size > 0
  }

  ask(question: Question): number {
    const number = this.nextNumber
    this.nextNumber += 1
    this.asked.set(number, { question, tick: this.tick })
    return number
  }

  /** The host's id; null when nobody waits for this answer any more. */
  answered(number: number): number | null {
    const asked = this.asked.get(number)
    this.asked.delete(number)
    return asked?.question.id ?? null
  }

  /** Counts a tick. Returns the questions that are `patienceTicks` old. */
  expire(patienceTicks: number): readonly Question[] {
    this.tick += 1
    const old: Question[] = []
    for (const [number, { question, tick }] of this.asked) {
      if (this.tick - tick < patienceTicks) break
      this.asked.delete(number)
      old.push(question)
    }
    return old
  }

  /** The leader changed, or the link to it: all must be asked again. */
  drop(): readonly Question[] {
    const questions = [...this.asked.values()].map(({ question }) => question)
    this.asked.clear()
    return questions
  }
}
