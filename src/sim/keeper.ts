import { ParleyError } from '../client/error.ts'
import type { Client } from '../client/types.ts'
import type { Reason, Message, Target } from '../gen/parley/v1/model.ts'
import type { SendMessageResponse } from '../gen/parley/v1/service.ts'
import { fork } from './cluster.ts'
import { MemoryStorage, type ChatWorld, type Owned } from './people.ts'

/** Of its room: the shortest that can be asked for. */
export const retentionS = 60
const callMs = 6000
const name = 'keeper'
const password = 'correct horse'
const roomName = 'cellar'
const room: Target = { target: { $case: 'room', value: roomName } }

interface Acknowledged {
  readonly id: Uint8Array
  readonly seq: number
  readonly atMs: number
  readonly text: string
}

/** Somebody with a room whose messages expire, who checks that those go that are old enough, and no others. */
export class Keeper {
  operations = 0
  answered = 0
  unknown = 0
  /** Calls that are open. */
  open = 0
  /** Of its session, for another client; null as long as there is none. */
  token: Uint8Array | null = null
  readonly acknowledged: Acknowledged[] = []
  private readonly world: ChatWorld
  private readonly owned: Owned
  private readonly settled: Promise<void>
  private hasRoom = false
  private stopped = false
  private setsRetention = false
  private retentionIsSet = false
  private firstSeen = 1
  private newestMs = 0
  /** Found to be gone; that each was old enough is known when the cluster next tells its time. */
  private readonly gone: Acknowledged[] = []
  /** Those that are or were among them. */
  private readonly goneSeqs = new Set<number>()
  private lastReason: Reason | null = null

  constructor(world: ChatWorld) {
    this.world = world
    this.owned = world.open({
      name,
      token: null,
      position: 0,
      storage: new MemoryStorage(),
      random: fork(world.random),
    })
    this.settled = this.settle(() => this.stopped)
    void this.live()
  }

  get idle(): boolean {
    return this.stopped && this.open === 0
  }

  stop(): void {
    this.stopped = true
  }

  /** Gives the cluster time to remove what it should, or should not. */
  async wait(): Promise<void> {
    await this.settled
    // Stopped before it was known whether it has its room.
    if (!this.hasRoom) await this.settle(() => false)
    if (!this.retentionIsSet) await this.limit()
    await this.untilDone(() => this.keep())
    await this.pause(3000)
    await this.look()
    await this.untilDone(() => this.keep())
  }

  /** Enough time has passed: all that is old must go soon. */
  async finish(): Promise<void> {
    if (!this.retentionIsSet || this.acknowledged.length === 0) return
    await this.untilDone(() => this.keep())
    const lastMs = this.newestMs - retentionS * 1000
    const isLeft = (): boolean =>
      this.acknowledged.some(({ seq, atMs }) => atMs < lastMs && seq >= this.firstSeen)
    for (let tries = 0; isLeft() && tries < mostTries; tries += 1) {
      await this.pause(200)
      await this.look()
    }
    if (isLeft())
      this.world.fail(
        'expired messages go',
        `message ${this.firstSeen} of the room is over its time, and is still there`,
      )
    await this.untilDone(() => this.keep())
  }

  /**
   * All messages of the room must go although nothing is sent any more that could tell the cluster what time it is.
   *
   * @param clusterMs by the clock that the cluster goes by; null = nobody knows.
   */
  async outlive(clusterMs: () => number | null): Promise<void> {
    if (!this.retentionIsSet || this.acknowledged.length === 0) return
    const isOver = (): boolean => (clusterMs() ?? 0) > this.newestMs + retentionS * 1000
    let left: number | null = null
    for (let tries = 0; left !== 0 && tries < mostTries && isOver(); tries += 1) {
      await this.pause(200)
      left = (await this.look())?.length ?? left
    }
    if (left !== null && left > 0 && isOver())
      this.world.fail(
        'expired messages go',
        `${left} messages of the room are over their time, and are still there while nobody sends anything`,
      )
    await this.untilDone(() => this.keep())
  }

  shut(): void {
    this.owned.shut()
  }

  /** The room as `client` sees it now; null when it was not told. */
  async list(client: Client = this.owned.client): Promise<readonly Message[] | null> {
    const messages: Message[] = []
    for (let beforeSeq = 0; ;) {
      const page = await this.tried(() =>
        client.call('listMessages', { conversation: room, beforeSeq, pageSize: 100 }, { timeoutMs: callMs }),
      )
      if (page === null) return null
      messages.unshift(...page.messages)
      const first = page.messages[0]
      if (first === undefined || !page.more) return messages
      beforeSeq = first.seq
    }
  }

  /** A message of `client` in the room; null when it was not told. */
  send(client: Client, id: Uint8Array, text: string): Promise<SendMessageResponse | null> {
    return this.tried(() => client.call('sendMessage', { id, to: room, text }, { timeoutMs: callMs }))
  }

  private async live(): Promise<void> {
    await this.settled
    while (!this.stopped) {
      await this.pause(300 + this.world.random.below(3000))
      if (this.stopped) return
      if (!this.retentionIsSet) await this.limit()
      await this.keep()
      if (this.world.random.below(2) === 0) await this.look()
    }
  }

  /** Signs in and makes its room. */
  private async settle(isOver: () => boolean): Promise<void> {
    const { client } = this.owned
    while (!this.hasRoom && !isOver()) {
      if (this.token === null) {
        const known = this.lastReason === 'REASON_NAME_TAKEN'
        const made = await this.tried(() => client[known ? 'logIn' : 'register']({ name, password }))
        this.token = made?.token ?? null
      } else {
        const made = await this.tried(() =>
          client.call('createRoom', { name: roomName }, { timeoutMs: callMs }),
        )
        this.hasRoom = made !== null || this.lastReason === 'REASON_ROOM_NAME_TAKEN'
      }
      if (!this.hasRoom) await this.pause(500)
    }
  }

  /** Refused as long as a replica does not know what a retention is. */
  private async limit(): Promise<void> {
    this.setsRetention = true
    const { client } = this.owned
    const set = await this.tried(() =>
      client.call('setRoomRetention', { name: roomName, retentionS }, { timeoutMs: callMs }),
    )
    if (set !== null) this.retentionIsSet = true
  }

  private async keep(): Promise<boolean> {
    const { client } = this.owned
    const text = `kept ${this.acknowledged.length} ${this.operations}`
    const id = client.newId()
    const sent = await this.send(client, id, text)
    if (sent === null) return false
    if (sent.atMs < this.newestMs)
      this.world.fail(
        'time goes on',
        `message ${sent.seq} of the room has an earlier time than one before it`,
      )
    this.newestMs = sent.atMs
    this.acknowledged.push({ id, seq: sent.seq, atMs: sent.atMs, text })
    for (const { seq, atMs } of this.gone.splice(0))
      if (atMs + retentionS * 1000 > sent.atMs)
        this.world.fail(
          'only what is old expires',
          `message ${seq} of the room was gone ${sent.atMs - atMs} ms after it was sent, at most`,
        )
    return true
  }

  /** What is there; null when it was not told. */
  private async look(): Promise<readonly Message[] | null> {
    const known = this.acknowledged.length
    const messages = await this.list()
    if (messages === null) return null
    const first = messages[0]?.seq ?? Infinity
    if (first < this.firstSeen)
      this.world.fail('what has expired stays away', `message ${first} of the room is back`)
    for (const [at, message] of messages.entries())
      if (message.seq !== first + at)
        this.world.fail('no gap', `message ${first + at} of the room is missing between others`)
    for (const one of this.acknowledged.slice(0, known)) {
      const found = messages[one.seq - first]
      if (found !== undefined && (found.text !== one.text || found.atMs !== one.atMs))
        this.world.fail('no acknowledged message lost', `message ${one.seq} of the room is another one now`)
      if (found !== undefined || this.goneSeqs.has(one.seq)) continue
      this.goneSeqs.add(one.seq)
      if (!this.setsRetention || one.seq > first)
        this.world.fail('no acknowledged message lost', `message ${one.seq} of the room is gone`)
      this.gone.push(one)
    }
    // An empty room: all that was known of is gone.
    const lastKnown = this.acknowledged[known - 1]?.seq ?? 0
    this.firstSeen = first === Infinity ? Math.max(this.firstSeen, lastKnown + 1) : first
    return messages
  }

  private async tried<T>(call: () => Promise<T>): Promise<T | null> {
    this.operations += 1
    this.open += 1
    try {
      const answer = await call()
      this.answered += 1
      return answer
    } catch (error) {
      if (!(error instanceof ParleyError)) throw error
      this.lastReason = error.reason
      if (error.outcome === 'unknown') this.unknown += 1
      this.world.note('refused', 0, 0, () => `keeper: ${error.reason}`)
      return null
    } finally {
      this.open -= 1
    }
  }

  private async untilDone(work: () => Promise<boolean>): Promise<void> {
    while (!(await work())) await this.pause(500)
  }

  private pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.world.after(delayMs, () => resolve()))
  }
}

const mostTries = 100
