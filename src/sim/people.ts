import { toHex } from '../base/bytes.ts'
import type { Random } from '../base/random.ts'
import { ParleyError } from '../client/error.ts'
import type { Client, OutboxStorage, StoredItem } from '../client/types.ts'
import type { Message, Target } from '../gen/parley/v1/model.ts'
import type { Event } from '../gen/parley/v1/service.ts'
import {
  conversationModel,
  draftModel,
  listed,
  listText,
  nameModel,
  type ChatInput,
  type ChatOutput,
} from './chat-model.ts'
import { fork } from './cluster.ts'
import { createHistory, type History, type OpenCall } from './history.ts'
import type { SequentialModel } from './linearizability.ts'

/*
 * People with the real client library, who note what they did and saw, and check it. The world around them is the simulator's or the real one, so the same people and the same
 * checks put both to the test.
 */

/** What people need of the world around them. */
export interface ChatWorld {
  readonly random: Random
  /** A rule is broken. */
  fail(rule: string, message: string): void
  /** Something that is worth a line in the record of the run. */
  note(kind: 'event' | 'refused', person: number, value: number, text: () => string): void
  after(delayMs: number, callback: () => void): void
  /** Makes a client; it connects by itself. */
  open(options: {
    readonly name: string
    readonly token: Uint8Array | null
    readonly position: number
    readonly storage: OutboxStorage
    readonly random: Random
  }): Owned
  /** All messages of a conversation that the person may read, as the cluster has them now, in order; null when there is nobody to ask. */
  read(person: string, target: Target): Promise<readonly Message[] | null>
}

/** A client on a device that can end at any time. */
export interface Owned {
  readonly client: Client
  readonly alive: boolean
  /** The device ends at once. What was under way gets no answer, or a failure with an unknown outcome. */
  shut(): void
}

export interface PeopleOptions {
  readonly people: number
  /** The mean time between two acts of a person, roughly. */
  readonly pauseMs: number
  /** Begins the names of accounts and of the rooms that are made. */
  readonly prefix: string
  /** Rooms to talk in: the first is talked in more. They are made, but for `everyone`, which is there. */
  readonly rooms: readonly [string, string]
  /** Begins a text, now and then, that makes the state machine throw; null when nothing does. */
  readonly poison: string | null
}

const callMs = 6000
const password = 'correct horse'
/** The room that all accounts are in. */
const everyone = 'everyone'

/** What has happened to a message that somebody wanted to send. */
interface Sent {
  readonly part: string
  readonly target: Target
  readonly seq: number
}

/** One device: a client with a stream. It can be shut and opened again. */
interface Device {
  readonly owned: Owned
  stream: Stream | null
}

/** What one stream of events has shown since it began behind `cursor`, on one device after another. */
interface Stream {
  cursor: number
  lastPosition: number
  /** The device before this one was shown some of what happened at this position, and perhaps not all: it may come again. */
  readonly resumedAt: number
  readonly first: Map<number, number>
  readonly last: Map<number, number>
}

interface Person {
  readonly name: string
  readonly number: number
  readonly random: Random
  readonly devices: Device[]
  token: Uint8Array | null
  position: number
  readonly storage: MemoryStorage
  readonly sent: Sent[]
  /** Texts given to the outbox, by conversation, in order. */
  readonly queued: Map<string, string[]>
  readonly outboxCalls: Map<string, OpenCall<ChatOutput>>
  readonly drafts: { readonly id: Uint8Array; version: number }[]
  readonly opened: Set<string>
  /** Up to where a mark was acknowledged, by conversation. */
  readonly marked: Map<number, number>
  openCalls: number
}

export class People {
  answered = 0
  /** Messages that somebody was told are sent. */
  acknowledged = 0
  unknown = 0
  private readonly world: ChatWorld
  private readonly options: PeopleOptions
  private readonly random: Random
  private readonly history: History<ChatInput, ChatOutput>
  private readonly people: Person[] = []
  /** Texts of messages whose ids the cluster makes. Nobody edits or deletes them, so in the history their texts stand for their ids. */
  private readonly posted = new Set<string>()
  private moments = 0
  private texts = 0
  private stopping = false
  private settledPeople = 0
  private registrations = 0

  constructor(world: ChatWorld, options: PeopleOptions) {
    this.world = world
    this.options = options
    this.random = world.random
    this.history = createHistory(() => {
      this.moments += 1
      return this.moments
    })
    for (let number = 1; number <= options.people; number += 1) this.enter(number)
    this.registrar(fork(this.random), 0)
  }

  get operations(): number {
    return this.history.size
  }

  stop(): void {
    this.stopping = true
  }

  /** Calls that are open and have a deadline. */
  get limitedCalls(): number {
    return this.people.reduce((sum, person) => sum + person.openCalls, this.registrations)
  }

  get idle(): boolean {
    return (
      this.stopping &&
      this.settledPeople === this.people.length &&
      this.registrations === 0 &&
      this.people.every(
        (person) =>
          person.openCalls === 0 &&
          this.clientOf(person).outbox.items.every((item) => item.status.kind === 'failed'),
      )
    )
  }

  /** What was called and answered, line by line, as JSON. */
  *record(): Iterable<string> {
    for (const [part, operation] of this.history.operations()) yield JSON.stringify({ part, ...operation })
  }

  /** Shuts all devices. */
  close(): void {
    for (const person of this.people) for (const device of person.devices) this.shut(device)
  }

  // The life of a person

  private enter(number: number): void {
    const person: Person = {
      name: `${this.options.prefix}person${number}`,
      number,
      random: fork(this.random),
      devices: [],
      token: null,
      position: 0,
      storage: new MemoryStorage(),
      sent: [],
      queued: new Map(),
      outboxCalls: new Map(),
      drafts: [],
      opened: new Set(),
      marked: new Map(),
      openCalls: 0,
    }
    this.people.push(person)
    this.openDevice(person)
    void this.signUp(person)
  }

  private async signUp(person: Person): Promise<void> {
    const client = this.clientOf(person)
    const token = Uint8Array.from({ length: 32 }, () => person.random.below(256))
    const id = client.newId()
    for (;;) {
      const call = this.history.call(person.name, `name ${person.name}`, { kind: 'register' })
      try {
        const response = await client.call(
          'register',
          { id, name: person.name, password, token },
          { timeoutMs: Infinity },
        )
        call.answered('registered')
        person.token = response.token
        break
      } catch (error) {
        this.failed(call, error, 'register')
        await this.sleep(100)
      }
    }
    person.devices.splice(0).forEach((device) => this.shut(device))
    this.openDevice(person)
    for (const name of this.rooms) {
      if (name === everyone) continue
      await this.untilDone(person, 'createRoom', (one) => one.call('createRoom', { name }))
      await this.untilDone(person, 'joinRoom', (one) => one.call('joinRoom', { name }))
    }
    await this.follow(person, person.devices[0])
    if (person.random.below(2) === 0) {
      this.openDevice(person)
      await this.follow(person, person.devices[1])
    }
    this.settledPeople += 1
    this.live(person)
  }

  private live(person: Person): void {
    const { world } = this
    world.after(person.random.below(2 * this.options.pauseMs), () => {
      if (this.stopping) return
      person.openCalls += 1
      const owned = person.devices[0]?.owned
      let ended = false
      const end = (): void => {
        if (ended) return
        ended = true
        person.openCalls -= 1
        this.live(person)
      }
      this.act(person).then(end, (error: unknown) => {
        this.world.fail(
          'no exception',
          `a client throws: ${String(error)}\n${error instanceof Error ? (error.stack ?? '') : ''}`,
        )
        end()
      })
      // A device that was shut gets no answers.
      const watch = (): void => {
        if (ended) return
        if (owned?.alive === false) return end()
        world.after(200, watch)
      }
      watch()
    })
  }

  private act(person: Person): Promise<void> {
    const choice = person.random.below(100)
    if (choice < 36) return this.send(person)
    if (choice < 40) return this.post(person)
    if (choice < 50) return this.queue(person)
    if (choice < 68) return this.list(person)
    if (choice < 73) return this.edit(person)
    if (choice < 77) return this.remove(person)
    if (choice < 82) return this.mark(person)
    if (choice < 87) return this.openInbox(person)
    if (choice < 93) return this.draft(person)
    if (choice < 96) return this.lookUp(person)
    return this.reload(person)
  }

  private async send(person: Person): Promise<void> {
    const { part, target } = this.chooseTarget(person)
    const client = this.clientOf(person)
    const id = client.newId()
    const text = this.newText(person)
    const call = this.history.call(person.name, part, { kind: 'send', id: toHex(id), text })
    await this.tried(call, 'send', async () => {
      const { seq } = await client.call('sendMessage', { id, to: target, text }, { timeoutMs: callMs })
      this.acknowledged += 1
      person.sent.push({ part, target, seq })
      return String(seq)
    })
  }

  /** Through the outbox, which sends in order for as long as it takes: often some lines one right after another. */
  private async queue(person: Person): Promise<void> {
    const { part, target } = this.chooseTarget(person)
    for (let lines = 1 + person.random.below(5); lines > 0; lines -= 1) {
      this.queueOne(person, part, target)
      await this.sleep(person.random.below(100))
    }
  }

  private queueOne(person: Person, part: string, target: Target): void {
    const text = this.newText(person)
    const item = this.clientOf(person).outbox.add(target, text)
    const id = toHex(item.id)
    person.outboxCalls.set(id, this.history.call(person.name, part, { kind: 'send', id, text }))
    if (this.options.poison !== null && text.includes(this.options.poison)) return
    let texts = person.queued.get(part)
    if (texts === undefined) {
      texts = []
      person.queued.set(part, texts)
    }
    texts.push(text)
  }

  /** A draft to some conversations at once: all its messages are of one position. */
  private async post(person: Person): Promise<void> {
    const targets = new Map<string, Target>()
    for (let times = 1 + person.random.below(4); times > 0; times -= 1) {
      const { part, target } = this.chooseTarget(person)
      targets.set(part, target)
    }
    const client = this.clientOf(person)
    const draftId = client.newId()
    const text = this.newText(person)
    const recipients = [...targets.values()]
    const saved = await this.quietly(() =>
      client.call('saveDraft', { draftId, baseVersion: 0, text, recipients }, { timeoutMs: callMs }),
    )
    if (saved === null) return
    this.posted.add(text)
    const calls = [...targets.keys()].map((part) =>
      this.history.call(person.name, part, { kind: 'send', id: text, text }),
    )
    try {
      const { outcomes } = await client.call('sendDrafts', { draftIds: [draftId] }, { timeoutMs: callMs })
      this.answered += 1
      for (const [i, call] of calls.entries()) {
        const outcome = outcomes[i]?.outcome
        if (outcome?.$case === 'sent') {
          this.acknowledged += 1
          call.answered(String(outcome.value.seq))
        } else call.refused()
      }
    } catch (error) {
      for (const call of calls) this.failed(call, error, 'post')
    }
  }

  private async list(person: Person): Promise<void> {
    const { part, target } = this.chooseTarget(person)
    const local = person.random.below(3) === 0
    const client = this.clientOf(person)
    const known = person.sent.findLast((sent) => sent.part === part)?.seq ?? 0
    const marked = new Map(person.marked)
    const call = local ? null : this.history.call(person.name, part, { kind: 'list' })
    await this.tried(call, 'list', async () => {
      const output = await this.listNow(client, target, local)
      if (output.lastSeq < known)
        this.world.fail(
          'read your writes',
          `${person.name} has sent message ${known} of ${part} and is shown ${output.lastSeq}`,
        )
      if (output.readUpTo < (marked.get(output.conversation) ?? 0))
        this.world.fail('marks', `${person.name} had marked ${part} read further than ${output.readUpTo}`)
      return output.text
    })
  }

  private async listNow(
    client: Client,
    target: Target,
    local: boolean,
  ): Promise<{
    readonly text: string
    readonly lastSeq: number
    readonly conversation: number
    readonly readUpTo: number
  }> {
    try {
      const response = await client.call(
        'listMessages',
        { conversation: target, pageSize: listed },
        { timeoutMs: callMs, read: local ? 'local' : 'linearizable' },
      )
      const { messages, lastSeq, marks } = response
      return {
        text: listText(
          lastSeq,
          messages.map((message) => ({
            id: this.idOf(message),
            text: message.text,
            deleted: message.deleted,
          })),
        ),
        lastSeq,
        conversation: marks?.conversation ?? 0,
        readUpTo: marks?.readUpTo ?? 0,
      }
    } catch (error) {
      if (error instanceof ParleyError && error.reason === 'REASON_CONVERSATION_NOT_FOUND')
        return { text: listText(0, []), lastSeq: 0, conversation: 0, readUpTo: 0 }
      throw error
    }
  }

  private async edit(person: Person): Promise<void> {
    const found = await this.findOwn(person)
    if (found === null) return
    const { part, conversation, seq } = found
    const text = this.newText(person)
    const call = this.history.call(person.name, part, { kind: 'edit', seq, text })
    await this.tried(call, 'edit', async () => {
      await this.clientOf(person).call(
        'editMessage',
        { message: { conversation, seq }, text },
        { timeoutMs: callMs },
      )
      return 'edited'
    })
  }

  private async remove(person: Person): Promise<void> {
    const found = await this.findOwn(person)
    if (found === null) return
    const { part, conversation, seq } = found
    const call = this.history.call(person.name, part, { kind: 'delete', seq })
    await this.tried(call, 'delete', async () => {
      await this.clientOf(person).call(
        'deleteMessage',
        { message: { conversation, seq }, forAll: true },
        { timeoutMs: callMs },
      )
      return 'deleted'
    })
  }

  /** A message of one's own with the number of its conversation. */
  private async findOwn(
    person: Person,
  ): Promise<{ readonly part: string; readonly conversation: number; readonly seq: number } | null> {
    const sent = person.sent[person.random.below(Math.max(1, person.sent.length))]
    if (sent === undefined) return null
    const response = await this.quietly(() =>
      this.clientOf(person).call(
        'getConversation',
        { conversation: sent.target },
        { timeoutMs: callMs, read: 'local' },
      ),
    )
    const conversation = response?.conversation?.id ?? 0
    return conversation === 0 ? null : { part: sent.part, conversation, seq: sent.seq }
  }

  private async mark(person: Person): Promise<void> {
    const found = await this.findOwn(person)
    if (found === null) return
    const { conversation, seq } = found
    await this.quietly(async () => {
      await this.clientOf(person).call(
        'markRead',
        { conversation, mark: { $case: 'upTo', value: seq } },
        { timeoutMs: callMs },
      )
      person.marked.set(conversation, Math.max(person.marked.get(conversation) ?? 0, seq))
    })
  }

  private async openInbox(person: Person): Promise<void> {
    await this.quietly(async () => {
      const { messages } = await this.clientOf(person).call(
        'openInbox',
        { count: 1 + person.random.below(10) },
        { timeoutMs: callMs },
      )
      for (const { conversation, seq } of messages) {
        const name = `${conversation}/${seq}`
        if (person.opened.has(name))
          this.world.fail('inbox', `${person.name} has opened message ${name} twice`)
        person.opened.add(name)
      }
    })
  }

  private async draft(person: Person): Promise<void> {
    const client = this.clientOf(person)
    const choice = person.random.below(4)
    const known = person.drafts[person.random.below(person.drafts.length + 1)]
    if (choice === 0) {
      const calls = person.drafts.map(({ id }) => ({
        id,
        call: this.history.call(person.name, `draft ${toHex(id)}`, { kind: 'get' }),
      }))
      const response = await this.quietly(() =>
        client.call('listDrafts', { pageSize: 500 }, { timeoutMs: callMs }),
      )
      for (const { id, call } of calls) {
        if (response === null) call.refused()
        else call.answered(response.drafts.find((draft) => toHex(draft.id) === toHex(id))?.text ?? '')
      }
    } else if (choice === 1 && known !== undefined) {
      const call = this.history.call(person.name, `draft ${toHex(known.id)}`, { kind: 'discard' })
      person.drafts.splice(person.drafts.indexOf(known), 1)
      await this.tried(call, 'discard', async () => {
        await client.call('deleteDrafts', { draftIds: [known.id] }, { timeoutMs: callMs })
        return ''
      })
    } else {
      const draft = known ?? { id: client.newId(), version: 0 }
      if (known === undefined) person.drafts.push(draft)
      const text = this.newText(person)
      const call = this.history.call(person.name, `draft ${toHex(draft.id)}`, { kind: 'save', text })
      await this.tried(call, 'save', async () => {
        const response = await client.call(
          'saveDraft',
          { draftId: draft.id, baseVersion: draft.version, text, recipients: [] },
          { timeoutMs: callMs },
        )
        draft.version = response.draft?.version ?? 0
        return text
      })
    }
  }

  private async lookUp(person: Person): Promise<void> {
    const name = `${this.options.prefix}guest${person.random.below(5)}`
    const call = this.history.call(person.name, `name ${name}`, { kind: 'lookUp' })
    await this.tried(call, 'lookUp', async () => {
      const { exists } = await this.clientOf(person).call('lookUpName', { name }, { timeoutMs: callMs })
      return String(exists)
    })
  }

  /** The device is shut at once, as when a page is reloaded, and goes on from what it had kept. */
  private async reload(person: Person): Promise<void> {
    const at = person.random.below(person.devices.length)
    const device = person.devices[at]
    if (device === undefined) return
    person.position = Math.max(person.position, device.owned.client.position)
    this.shut(device)
    const opened = this.makeDevice(person, at)
    person.devices[at] = opened
    const { stream } = device
    if (stream === null) return
    const { cursor, first, last, lastPosition } = stream
    // Events of one position may be several, and only some of them may have come.
    const from = Math.max(cursor, lastPosition - 1)
    this.subscribe(person, opened, {
      cursor,
      first,
      last,
      lastPosition: from,
      resumedAt: Math.max(stream.resumedAt, lastPosition),
    })
  }

  /** Names are taken by whoever comes first. */
  private registrar(random: Random, count: number): void {
    this.world.after(random.below(4000), () => {
      if (this.stopping || count >= 8) return
      const storage = new MemoryStorage()
      const owned = this.world.open({
        name: `registrar ${count}`,
        token: null,
        position: 0,
        storage,
        random,
      })
      const name = `${this.options.prefix}guest${random.below(5)}`
      const call = this.history.call('registrar', `name ${name}`, { kind: 'register' })
      this.registrations += 1
      const token = Uint8Array.from({ length: 32 }, () => random.below(256))
      owned.client.call('register', { name, password, token }, { timeoutMs: callMs }).then(
        () => {
          this.answered += 1
          call.answered('registered')
          this.leave(owned)
          this.registrar(random, count + 1)
        },
        (error: unknown) => {
          if (error instanceof ParleyError && error.reason === 'REASON_NAME_TAKEN') call.answered('taken')
          else this.failed(call, error, 'register')
          this.leave(owned)
          this.registrar(random, count + 1)
        },
      )
    })
  }

  private leave(owned: Owned): void {
    this.registrations -= 1
    owned.client.close()
    owned.shut()
  }

  // Devices

  private openDevice(person: Person): void {
    person.devices.push(this.makeDevice(person, person.devices.length))
  }

  private makeDevice(person: Person, at: number): Device {
    const storage = at === 0 ? person.storage : new MemoryStorage()
    const { token, position, random } = person
    const owned = this.world.open({ name: `${person.name} ${at}`, token, position, storage, random })
    if (at === 0)
      owned.client.outbox.onChange((change) => {
        if (change.kind === 'loaded' || change.kind === 'accountChanged') return
        const id = toHex(change.item.id)
        const call = person.outboxCalls.get(id)
        if (change.kind === 'sent') {
          this.answered += 1
          this.acknowledged += 1
          call?.answered(String(change.response.seq))
        } else if (change.kind === 'failed') call?.refused()
      })
    return { owned, stream: null }
  }

  private shut(device: Device): void {
    device.owned.shut()
  }

  private async follow(person: Person, device: Device | undefined): Promise<void> {
    if (device === undefined) return
    const { position } = await this.untilDone(person, 'getMe', (client) => client.call('getMe', {}))
    this.subscribe(person, device, {
      cursor: position,
      lastPosition: position,
      resumedAt: 0,
      first: new Map(),
      last: new Map(),
    })
  }

  private subscribe(person: Person, device: Device, stream: Stream): void {
    device.stream = stream
    device.owned.client.subscribe(stream.lastPosition, (events) => {
      for (const event of events) this.happened(person, stream, event)
    })
  }

  private happened(person: Person, stream: Stream, event: Event): void {
    const { position } = event
    this.world.note(
      'event',
      person.number,
      position,
      () => `${event.event?.$case ?? 'nothing'} at ${position}`,
    )
    if (position < stream.lastPosition)
      this.world.fail(
        'events in order',
        `${person.name} gets a ${event.event?.$case ?? ''} of ${position} after ${stream.lastPosition}`,
      )
    stream.lastPosition = position
    if (event.event?.$case === 'resync') {
      stream.cursor = position
      stream.first.clear()
      stream.last.clear()
      return
    }
    if (event.event?.$case !== 'message') return
    const { conversation, seq } = event.event.value
    const before = stream.last.get(conversation)
    if (before !== undefined && seq <= before && position <= stream.resumedAt) return
    if (before === undefined) stream.first.set(conversation, seq)
    else if (seq !== before + 1)
      this.world.fail(
        'delivered once, in order, without a gap',
        `${person.name} gets message ${seq} of conversation ${conversation} after message ${before}`,
      )
    stream.last.set(conversation, seq)
  }

  private clientOf(person: Person): Client {
    const device = person.devices[0]
    if (device === undefined) throw new Error('a person has a device')
    return device.owned.client
  }

  // Calls

  private async tried(
    call: OpenCall<ChatOutput> | null,
    what: string,
    work: () => Promise<ChatOutput>,
  ): Promise<void> {
    try {
      const output = await work()
      this.answered += 1
      call?.answered(output)
    } catch (error) {
      this.failed(call, error, what)
    }
  }

  private failed(call: OpenCall<ChatOutput> | null, error: unknown, what: string): void {
    if (!(error instanceof ParleyError)) throw error
    this.expect(error, what)
    if (error.outcome === 'notDone' || what === 'list' || what === 'lookUp') call?.refused()
    else this.unknown += 1
  }

  /** Null when it failed in a way that may happen. */
  private async quietly<T>(work: () => Promise<T>): Promise<T | null> {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof ParleyError)) throw error
      this.expect(error, 'a call')
      return null
    }
  }

  private async untilDone<T>(person: Person, what: string, work: (client: Client) => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work(this.clientOf(person))
      } catch (error) {
        if (!(error instanceof ParleyError)) throw error
        if (error.reason === 'REASON_ROOM_NAME_TAKEN' || error.reason === 'REASON_ALREADY_A_MEMBER')
          return null as T
        this.expect(error, what)
        await this.sleep(100)
      }
    }
  }

  /** Some failures no fault explains. */
  private expect(error: ParleyError, what: string): void {
    this.world.note('refused', 0, what.length, () => `${what}: ${error.reason} (${error.outcome})`)
    const { reason } = error
    if (
      reason === 'REASON_INTERNAL' ||
      reason === 'REASON_ID_REUSED' ||
      reason === 'REASON_INVALID_ARGUMENT' ||
      reason === 'REASON_NOT_SIGNED_IN' ||
      reason === 'REASON_UNIMPLEMENTED'
    )
      this.world.fail('errors', `${what} fails with ${reason}: ${error.message}`)
  }

  private chooseTarget(person: Person): { readonly part: string; readonly target: Target } {
    const choice = person.random.below(4)
    const others = this.people.filter((other) => other !== person && other.token !== null)
    const other = others[person.random.below(Math.max(1, others.length))]
    if (choice < 2 && other !== undefined)
      return {
        part: `direct ${[person.name, other.name].sort().join(' ')}`,
        target: { target: { $case: 'account', value: other.name } },
      }
    const room = this.rooms[choice === 2 ? 0 : 1] ?? everyone
    return { part: `room ${room}`, target: { target: { $case: 'room', value: room } } }
  }

  private get rooms(): readonly string[] {
    return this.options.rooms.map((room) => (room === everyone ? room : this.options.prefix + room))
  }

  private newText(person: Person): string {
    this.texts += 1
    const bytes = person.random.below(20) === 0 ? person.random.below(3000) : 0
    return `${person.random.below(60) === 0 ? (this.options.poison ?? 'text') : 'text'} ${this.texts}${' long'.repeat(bytes / 5)}`
  }

  private sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.world.after(delayMs, resolve))
  }

  // The end

  async finish(): Promise<void> {
    for (const person of this.people)
      for (const { part, target } of this.targetsOf(person)) {
        const call = this.history.call(person.name, part, { kind: 'list' })
        await this.tried(
          call,
          'list',
          async () => (await this.listNow(this.clientOf(person), target, false)).text,
        )
      }
    const truth = await this.truth()
    if (truth === null) return
    for (const person of this.people) {
      const behind = this.behind(person, truth)
      if (behind !== null) this.world.fail('delivered once, in order, without a gap', behind)
      this.checkOutbox(person, truth)
    }
    for (const [part, messages] of truth) checkOnce(this.world, part, messages)
    this.history.resolve((part, input) => {
      if (input.kind !== 'send') return undefined
      const message = truth.get(part)?.find((one) => this.idOf(one) === input.id)
      return message === undefined ? null : String(message.seq)
    })
  }

  private idOf({ id, text }: Message): string {
    return this.posted.has(text) ? text : toHex(id)
  }

  /** What each conversation holds, once all streams have shown it; or what it holds when they have had long enough. Null when no replica runs. */
  private async truth(): Promise<ReadonlyMap<string, readonly Message[]> | null> {
    for (let wait = 0; ; wait += 1) {
      const truth = new Map<string, readonly Message[]>()
      for (const person of this.people)
        for (const { part, target } of this.targetsOf(person)) {
          if (truth.has(part)) continue
          const messages = await this.world.read(person.name, target)
          if (messages === null) return null
          truth.set(part, messages)
        }
      // Read again each time, since a send whose outcome nobody knows may still take effect.
      if (wait === 100 || this.people.every((person) => this.behind(person, truth) === null)) return truth
      await this.sleep(200)
    }
  }

  /** Checks that what was answered is linearizable. Returns the conversations, names and drafts for which the search was given up. */
  check(): readonly string[] {
    const models: readonly (readonly [string, SequentialModel<unknown, ChatInput, ChatOutput>])[] = [
      ['name ', nameModel as SequentialModel<unknown, ChatInput, ChatOutput>],
      ['draft ', draftModel as SequentialModel<unknown, ChatInput, ChatOutput>],
      ['', conversationModel as SequentialModel<unknown, ChatInput, ChatOutput>],
    ]
    const { violation, undecided } = this.history.check((part) => {
      const model = models.find(([prefix]) => part.startsWith(prefix))
      return model?.[1] ?? null
    })
    if (violation !== null) this.world.fail('linearizability', violation)
    return undecided
  }

  private targetsOf(person: Person): readonly { readonly part: string; readonly target: Target }[] {
    const rooms = this.rooms.map((room) => ({
      part: `room ${room}`,
      target: { target: { $case: 'room', value: room } } as const,
    }))
    const direct = this.people
      .filter((other) => other !== person)
      .map((other) => ({
        part: `direct ${[person.name, other.name].sort().join(' ')}`,
        target: { target: { $case: 'account', value: other.name } } as const,
      }))
    return [...rooms, ...direct]
  }

  /** What a stream should have shown and has not; null when it has shown all. */
  private behind(person: Person, truth: ReadonlyMap<string, readonly Message[]>): string | null {
    for (const { stream } of person.devices) {
      if (stream === null) continue
      for (const { part } of this.targetsOf(person)) {
        const due = (truth.get(part) ?? []).filter((message) => message.position > stream.cursor)
        const first = due[0]
        const last = due.at(-1)
        if (first === undefined || last === undefined) continue
        const seen = [stream.first.get(first.conversation), stream.last.get(first.conversation)]
        if (seen[0] !== first.seq || seen[1] !== last.seq)
          return `${person.name} was to get messages ${first.seq} to ${last.seq} of ${part} and got ${seen.join(' to ')}`
      }
    }
    return null
  }

  private checkOutbox(person: Person, truth: ReadonlyMap<string, readonly Message[]>): void {
    for (const [part, texts] of person.queued) {
      const ids = new Set(person.outboxCalls.keys())
      const found = (truth.get(part) ?? []).filter((message) => ids.has(toHex(message.id)))
      if (found.length !== texts.length)
        this.world.fail(
          'outbox',
          `${person.name} queued ${texts.length} messages for ${part}, and ${found.length} are there`,
        )
      for (const [i, message] of found.entries())
        if (!message.deleted && message.editedAtMs === 0 && message.text !== texts[i])
          this.world.fail(
            'outbox',
            `${person.name} queued ${texts[i]} for ${part}, and ${message.text} is in its place`,
          )
    }
  }
}

/** Numbered without a gap, each id once. */
function checkOnce(world: ChatWorld, part: string, messages: readonly Message[]): void {
  const ids = new Set<string>()
  for (const [i, message] of messages.entries()) {
    if (message.seq !== i + 1)
      return world.fail('numbered without a gap', `message ${message.seq} of ${part} is in place ${i + 1}`)
    const id = toHex(message.id)
    if (ids.has(id)) return world.fail('exactly once', `message ${id} of ${part} is there twice`)
    ids.add(id)
  }
}

/** What a device keeps of its outbox when it is shut. */
export class MemoryStorage implements OutboxStorage {
  private readonly items = new Map<string, StoredItem>()

  load(): Promise<readonly StoredItem[]> {
    return Promise.resolve([...this.items.values()])
  }

  put(item: StoredItem): Promise<void> {
    this.items.set(item.key, item)
    return Promise.resolve()
  }

  remove(key: string): Promise<void> {
    this.items.delete(key)
    return Promise.resolve()
  }
}
