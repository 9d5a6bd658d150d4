import assert from 'node:assert/strict'
import { createClient, ParleyError } from '../../src/client/index.ts'
import type { CallOptions, Client } from '../../src/client/index.ts'
import type { Message, Target } from '../../src/gen/parley/v1/model.ts'
import type { Event } from '../../src/gen/parley/v1/service.ts'
import { createNodeConnect } from '../../src/tls/connect.ts'

/** A message that somebody was told is sent. */
interface Sent {
  readonly conversation: number
  readonly seq: number
  readonly text: string
}

interface Talker {
  readonly name: string
  readonly client: Client
  /** In the order in which they were acknowledged to this talker. */
  readonly acknowledged: Sent[]
  /** What arrived on the talker's stream, in order. */
  readonly received: Message[]
  resyncs: number
  sent: number
}

const password = 'a password for tests'
const room = 'ledger'
/** Addresses may pin an authority. */
const connect = createNodeConnect(() => undefined)

/**
 * Accounts that send without pause to one room and to each other, remember what was acknowledged and what arrived, and check afterwards that every replica has exactly that.
 */
export class Ledger {
  private readonly addresses: readonly string[]
  private readonly talkers: Talker[] = []
  private roomId = 0
  private running = false
  private loops: Promise<void>[] = []
  private failure: unknown = null

  constructor(addresses: readonly string[]) {
    this.addresses = addresses
  }

  get acknowledgedCount(): number {
    return this.talkers.reduce((sum, talker) => sum + talker.acknowledged.length, 0)
  }

  get roomConversation(): number {
    return this.roomId
  }

  /** Makes the accounts and the room; each talker starts at another replica. */
  async open(talkers: number): Promise<void> {
    for (let i = 0; i < talkers; i += 1) {
      const first = i % this.addresses.length
      const client = createClient({
        addresses: [...this.addresses.slice(first), ...this.addresses.slice(0, first)],
        timeoutMs: 60_000,
        connect,
      })
      const name = `talker${i}`
      await client.register({ name, password })
      const talker: Talker = { name, client, acknowledged: [], received: [], resyncs: 0, sent: 0 }
      if (i === 0) this.roomId = (await client.call('createRoom', { name: room })).conversation?.id ?? 0
      else await client.call('joinRoom', { name: room })
      const me = await client.call('getMe', {})
      client.subscribe(me.position, (events) => take(talker, events))
      this.talkers.push(talker)
    }
  }

  /** Every talker keeps `outstanding` messages on the way until {@link stop}. Every tenth goes to another talker, the others to the room. */
  start(outstanding = 4): void {
    assert.equal(this.running, false)
    this.running = true
    this.loops = this.talkers.flatMap((talker, at) =>
      Array.from({ length: outstanding }, () => this.talk(talker, at)),
    )
  }

  /** Waits until so many more messages have been acknowledged: proof that the cluster serves. */
  async progress(more: number): Promise<void> {
    const target = this.acknowledgedCount + more
    await until(
      () => this.acknowledgedCount >= target || this.failure !== null,
      `${more} more acknowledged messages`,
      60_000,
    )
    if (this.failure !== null) throw this.failure
  }

  async stop(): Promise<void> {
    this.running = false
    await Promise.all(this.loops)
    if (this.failure !== null) throw this.failure
  }

  /**
   * Every acknowledged message is there once, in order, on each of these replicas, with the number that was told; what was never answered is there once or not at all;
   * and each talker's stream brought every message of the room once and in order.
   */
  async check(addresses: readonly string[]): Promise<void> {
    const reader = this.talkers[0]
    assert.ok(reader !== undefined)
    const histories: string[] = []
    let newest = 0
    for (const address of addresses) {
      const client = createClient({
        addresses: [address],
        discover: false,
        read: 'local',
        timeoutMs: 60_000,
        connect,
      })
      try {
        // The log-in goes through the log: once this replica has answered it, it has everything that was acknowledged before.
        await client.logIn({ name: reader.name, password, device: address })
        const history = await readAll(client, this.roomId)
        this.checkHistory(history, address)
        histories.push(history.map(line).join('\n'))
        newest = history.length
      } finally {
        client.close()
      }
    }
    for (const history of histories)
      assert.ok(history === histories[0], 'all replicas hold the same messages')
    for (const talker of this.talkers) {
      const own = () => talker.received.filter((message) => message.conversation === this.roomId)
      await until(
        () => own().length >= newest || talker.resyncs > 0,
        `${talker.name} receives all ${newest} messages of the room`,
        30_000,
      )
      assert.equal(talker.resyncs, 0, `${talker.name} was told to read anew`)
      own().forEach((message, index) =>
        assert.equal(message.seq, index + 1, `${talker.name} receives each message once and in order`),
      )
    }
  }

  /** Ends the clients; calls that are under way fail. */
  [Symbol.dispose](): void {
    this.running = false
    for (const talker of this.talkers) talker.client.close()
  }

  private checkHistory(history: readonly Message[], address: string): void {
    history.forEach((message, index) =>
      assert.equal(message.seq, index + 1, `messages are numbered without a gap on ${address}`),
    )
    const texts = new Set<string>()
    for (const message of history) {
      assert.ok(!texts.has(message.text), `"${message.text}" is there twice on ${address}`)
      texts.add(message.text)
    }
    for (const talker of this.talkers) {
      for (const sent of talker.acknowledged) {
        if (sent.conversation !== this.roomId) continue
        assert.equal(history[sent.seq - 1]?.text, sent.text, `message ${sent.seq} on ${address}`)
      }
    }
  }

  private async talk(talker: Talker, at: number): Promise<void> {
    while (this.running && this.failure === null) {
      talker.sent += 1
      const text = `${talker.name} says ${talker.sent}`
      const other = this.talkers[(at + 1) % this.talkers.length]
      const direct = talker.sent % 10 === 0 && other !== undefined && other !== talker
      const to = direct
        ? ({ $case: 'account', value: other.name } as const)
        : ({ $case: 'room', value: room } as const)
      try {
        const response = await talker.client.call('sendMessage', { to: { target: to }, text })
        talker.acknowledged.push({ conversation: response.conversation, seq: response.seq, text })
      } catch (error) {
        // An unknown outcome is an honest answer; the message may be there or not, once.
        if (error instanceof ParleyError && error.outcome === 'unknown') continue
        if (this.running) this.failure ??= error
      }
    }
  }
}

/** All messages of a conversation, in order. */
export async function readAll(
  client: Client,
  conversation: number | Target,
  options: CallOptions = {},
): Promise<readonly Message[]> {
  const target: Target =
    typeof conversation === 'number'
      ? { target: { $case: 'conversation', value: conversation } }
      : conversation
  const pages: (readonly Message[])[] = []
  for (let beforeSeq = 0; ;) {
    const request = { conversation: target, beforeSeq, pageSize: 500 }
    const page = await client.call('listMessages', request, options)
    pages.unshift(page.messages)
    if (!page.more) return pages.flat()
    beforeSeq = page.firstSeq
  }
}

/** Waits until `condition` holds. It is looked at every few milliseconds; the limit only ends a test that would hang. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  limitMs: number,
): Promise<void> {
  const end = performance.now() + limitMs
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`waited ${limitMs} ms in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

function take(talker: Talker, events: readonly Event[]): void {
  for (const { event } of events) {
    if (event?.$case === 'message') talker.received.push(event.value)
    else if (event?.$case === 'resync') talker.resyncs += 1
  }
}

function line(message: Message): string {
  return `${message.seq} ${message.sender} ${message.atMs} ${message.text}`
}
