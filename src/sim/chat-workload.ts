import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { toHex } from '../base/bytes.ts'
import type { Random } from '../base/random.ts'
import type { ChatQueries } from '../chat/queries.ts'
import { createClient } from '../client/client.ts'
import { ParleyError } from '../client/error.ts'
import type { Client, OutboxStorage, StoredItem } from '../client/types.ts'
import type { Message, Target } from '../gen/parley/v1/model.ts'
import type { Event } from '../gen/parley/v1/service.ts'
import { ChatStore, makeChatRoot, openChatApp, poison, type ChatApp } from './chat-app.ts'
import {
  conversationModel,
  draftModel,
  listed,
  listText,
  nameModel,
  type ChatInput,
  type ChatOutput,
} from './chat-model.ts'
import { createClientNetwork, createEntrance, type ClientNetwork, type Entrance } from './chat-server.ts'
import { createSimClock } from './clock.ts'
import { fork, type App, type Machine, type SimProcess } from './cluster.ts'
import { skewed } from './faults.ts'
import { createHistory, type History, type OpenCall } from './history.ts'
import type { Invariants } from './invariants.ts'
import type { SequentialModel } from './linearizability.ts'
import type { Owner } from './scheduler.ts'
import type { Clients, Workload, WorkloadContext, WorkloadParts } from './workload.ts'

/** People with the real client library, on the real replicas with their chat. */
export function chatWorkload({ random, invariants }: WorkloadParts): Workload {
  const root = makeChatRoot()
  const apps = new WeakMap<App, ChatApp>()
  return {
    newStore: (id) => new ChatStore(join(root, `r${id}`), fork(random)),
    openApp(store, context) {
      if (!(store instanceof ChatStore)) throw new Error('not a chat')
      const app = openChatApp(store, context, invariants)
      apps.set(app, app)
      return app
    },
    begin: (context) =>
      new People(context, (machine) => {
        const app = machine.process?.app
        return app === null || app === undefined ? null : (apps.get(app) ?? null)
      }),
    close: () => rmSync(root, { recursive: true, force: true }),
  }
}

const callMs = 6000
const password = 'correct horse'

/** What has happened to a message that somebody wanted to send. */
interface Sent {
  readonly part: string
  readonly target: Target
  readonly seq: number
}

/** One device: a client with a stream. It can be shut and opened again. */
interface Device {
  owner: Owner
  client: Client
  stream: Stream | null
}

/** What one stream of events has shown since it began behind `cursor`. */
interface Stream {
  cursor: number
  lastPosition: number
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

class People implements Clients {
  answered = 0
  unknown = 0
  private readonly context: WorkloadContext
  private readonly appOf: (machine: Machine) => ChatApp | null
  private readonly invariants: Invariants
  private readonly random: Random
  private readonly history: History<ChatInput, ChatOutput>
  private readonly network: ClientNetwork
  private readonly entrances = new WeakMap<SimProcess, Entrance>()
  private readonly people: Person[] = []
  private readonly pauseMs: number
  private moments = 0
  private texts = 0
  private stopping = false
  private settledPeople = 0
  private registrations = 0

  constructor(context: WorkloadContext, appOf: (machine: Machine) => ChatApp | null) {
    this.context = context
    this.appOf = appOf
    this.invariants = context.invariants
    this.random = context.random
    this.history = createHistory(() => {
      this.moments += 1
      return this.moments
    })
    this.network = createClientNetwork({
      scheduler: context.scheduler,
      random: fork(this.random),
      processOf: (replica) => context.cluster.machines.get(replica)?.process ?? null,
      entranceOf: (process) => this.entranceOf(process),
    })
    const people = 2 + this.random.below(4)
    this.pauseMs = skewed(this.random, 30 * people, 2000)
    for (let number = 1; number <= people; number += 1) this.enter(number)
    this.registrar(fork(this.random), 0)
  }

  get operations(): number {
    return this.history.size
  }

  stop(): void {
    this.stopping = true
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

  freeze(replica: number, durationMs: number): void {
    this.network.freeze(replica, durationMs)
  }

  reset(replica: number): void {
    this.network.reset(replica)
  }

  // The life of a person

  private enter(number: number): void {
    const person: Person = {
      name: `person${number}`,
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
    await this.untilDone(person, 'createRoom', (one) => one.call('createRoom', { name: 'lobby' }))
    await this.untilDone(person, 'joinRoom', (one) => one.call('joinRoom', { name: 'lobby' }))
    await this.follow(person, person.devices[0])
    if (person.random.below(2) === 0) {
      this.openDevice(person)
      await this.follow(person, person.devices[1])
    }
    this.settledPeople += 1
    this.live(person)
  }

  private live(person: Person): void {
    const { scheduler } = this.context
    scheduler.at(scheduler.nowMs + person.random.below(2 * this.pauseMs), null, () => {
      if (this.stopping) return
      person.openCalls += 1
      const { owner } = person.devices[0] ?? { owner: null }
      let ended = false
      const end = (): void => {
        if (ended) return
        ended = true
        person.openCalls -= 1
        this.live(person)
      }
      this.act(person).then(end, (error: unknown) => {
        this.invariants.fail(
          'no exception',
          `a client throws: ${String(error)}\n${error instanceof Error ? (error.stack ?? '') : ''}`,
        )
        end()
      })
      // A device that was shut gets no answers.
      const watch = (): void => {
        if (ended) return
        if (owner?.alive === false) return end()
        scheduler.at(scheduler.nowMs + 200, null, watch)
      }
      watch()
    })
  }

  private act(person: Person): Promise<void> {
    const choice = person.random.below(100)
    if (choice < 40) return this.send(person)
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
      person.sent.push({ part, target, seq })
      return String(seq)
    })
  }

  /** Through the outbox, which sends in order for as long as it takes. */
  private queue(person: Person): Promise<void> {
    const { part, target } = this.chooseTarget(person)
    const text = this.newText(person)
    const item = this.clientOf(person).outbox.add(target, text)
    const id = toHex(item.id)
    person.outboxCalls.set(id, this.history.call(person.name, part, { kind: 'send', id, text }))
    if (!text.includes(poison)) {
      let texts = person.queued.get(part)
      if (texts === undefined) {
        texts = []
        person.queued.set(part, texts)
      }
      texts.push(text)
    }
    return Promise.resolve()
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
        this.invariants.fail(
          'read your writes',
          `${person.name} has sent message ${known} of ${part} and is shown ${output.lastSeq}`,
        )
      if (output.readUpTo < (marked.get(output.conversation) ?? 0))
        this.invariants.fail(
          'marks',
          `${person.name} had marked ${part} read further than ${output.readUpTo}`,
        )
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
          messages.map(({ id, text, deleted }) => ({ id: toHex(id), text, deleted })),
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
          this.invariants.fail('inbox', `${person.name} has opened message ${name} twice`)
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
      const response = await this.quietly(() => client.call('listDrafts', {}, { timeoutMs: callMs }))
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
    const name = `guest${person.random.below(5)}`
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
    person.position = Math.max(person.position, device.client.position)
    this.shut(device)
    const opened = this.makeDevice(person, at)
    person.devices[at] = opened
    const { stream } = device
    // Events of one position may be several, and only some of them may have come.
    if (stream !== null) this.subscribe(person, opened, Math.max(stream.cursor, stream.lastPosition - 1))
  }

  /** Names are taken by whoever comes first. */
  private registrar(random: Random, count: number): void {
    const { scheduler } = this.context
    scheduler.at(scheduler.nowMs + random.below(4000), null, () => {
      if (this.stopping || count >= 8) return
      const owner: Owner = { name: `registrar ${count}`, alive: true, stalledUntilMs: 0 }
      const client = this.makeClient(owner, null, 0, new MemoryStorage(), random)
      const name = `guest${random.below(5)}`
      const call = this.history.call('registrar', `name ${name}`, { kind: 'register' })
      this.registrations += 1
      const token = Uint8Array.from({ length: 32 }, () => random.below(256))
      client.call('register', { name, password, token }, { timeoutMs: callMs }).then(
        () => {
          this.answered += 1
          call.answered('registered')
          this.leave(owner, client)
          this.registrar(random, count + 1)
        },
        (error: unknown) => {
          if (error instanceof ParleyError && error.reason === 'REASON_NAME_TAKEN') call.answered('taken')
          else this.failed(call, error, 'register')
          this.leave(owner, client)
          this.registrar(random, count + 1)
        },
      )
    })
  }

  private leave(owner: Owner, client: Client): void {
    this.registrations -= 1
    client.close()
    owner.alive = false
  }

  // Devices

  private openDevice(person: Person): void {
    person.devices.push(this.makeDevice(person, person.devices.length))
  }

  private makeDevice(person: Person, at: number): Device {
    const owner: Owner = { name: `${person.name} ${at}`, alive: true, stalledUntilMs: 0 }
    const storage = at === 0 ? person.storage : new MemoryStorage()
    const client = this.makeClient(owner, person.token, person.position, storage, person.random)
    if (at === 0)
      client.outbox.onChange((change) => {
        if (change.kind === 'loaded') return
        const id = toHex(change.item.id)
        const call = person.outboxCalls.get(id)
        if (change.kind === 'sent') {
          this.answered += 1
          call?.answered(String(change.response.seq))
        } else if (change.kind === 'failed') call?.refused()
      })
    return { owner, client, stream: null }
  }

  private makeClient(
    owner: Owner,
    token: Uint8Array | null,
    position: number,
    storage: OutboxStorage,
    random: Random,
  ): Client {
    const addresses = [...this.context.cluster.machines.keys()].map((id) => `sim:${id}`)
    const from = random.below(addresses.length)
    return createClient({
      addresses: [...addresses.slice(from), ...addresses.slice(0, from)],
      ...(token === null ? {} : { token, position }),
      storage,
      connect: this.network.connectFor(owner),
      clock: createSimClock(this.context.scheduler, owner, {
        wallOffsetMs: random.below(100_000) - 50_000,
        rate: 1 + (random.below(201) - 100) / 10_000,
      }),
      random: fork(random),
    })
  }

  private shut(device: Device): void {
    device.owner.alive = false
  }

  private async follow(person: Person, device: Device | undefined): Promise<void> {
    if (device === undefined) return
    const { position } = await this.untilDone(person, 'getMe', (client) => client.call('getMe', {}))
    this.subscribe(person, device, position)
  }

  private subscribe(person: Person, device: Device, cursor: number): void {
    const stream: Stream = { cursor, lastPosition: cursor, first: new Map(), last: new Map() }
    device.stream = stream
    device.client.subscribe(cursor, (events) => {
      for (const event of events) this.happened(person, stream, event)
    })
  }

  private happened(person: Person, stream: Stream, event: Event): void {
    const { position } = event
    this.context.trace.add(
      'event',
      -person.number,
      position,
      () => `${event.event?.$case ?? 'nothing'} at ${position}`,
    )
    if (position < stream.lastPosition)
      this.invariants.fail(
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
    if (before === undefined) stream.first.set(conversation, seq)
    else if (seq !== before + 1)
      this.invariants.fail(
        'delivered once, in order, without a gap',
        `${person.name} gets message ${seq} of conversation ${conversation} after message ${before}`,
      )
    stream.last.set(conversation, seq)
  }

  private clientOf(person: Person): Client {
    const device = person.devices[0]
    if (device === undefined) throw new Error('a person has a device')
    return device.client
  }

  private entranceOf(process: SimProcess): Entrance | null {
    const known = this.entrances.get(process)
    if (known !== undefined) return known
    const app = this.appOf(process.machine)
    if (app === null || process.machine.process !== process || !app.isUp) return null
    const entrance = createEntrance(app.replica, app.clock, fork(this.random))
    this.entrances.set(process, entrance)
    return entrance
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
    this.context.trace.add('refused', 0, what.length, () => `${what}: ${error.reason} (${error.outcome})`)
    const { reason } = error
    if (
      reason === 'REASON_INTERNAL' ||
      reason === 'REASON_ID_REUSED' ||
      reason === 'REASON_INVALID_ARGUMENT' ||
      reason === 'REASON_NOT_SIGNED_IN' ||
      reason === 'REASON_UNIMPLEMENTED'
    )
      this.invariants.fail('errors', `${what} fails with ${reason}: ${error.message}`)
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
    const room = choice === 2 ? 'lobby' : 'everyone'
    return { part: `room ${room}`, target: { target: { $case: 'room', value: room } } }
  }

  private newText(person: Person): string {
    this.texts += 1
    const bytes = person.random.below(20) === 0 ? person.random.below(3000) : 0
    return `${person.random.below(60) === 0 ? poison : 'text'} ${this.texts}${' long'.repeat(bytes / 5)}`
  }

  private sleep(delayMs: number): Promise<void> {
    const { scheduler } = this.context
    return new Promise((resolve) => scheduler.at(scheduler.nowMs + delayMs, null, () => resolve()))
  }

  // The end

  async finish(): Promise<void> {
    const app = this.anyApp()
    if (app === null) return
    const truth = new Map<string, readonly Message[]>()
    for (const person of this.people)
      for (const target of this.targetsOf(person))
        truth.set(target.part, messagesOf(app.replica.queries, person.name, target.target))
    for (const person of this.people)
      for (const { part, target } of this.targetsOf(person)) {
        const call = this.history.call(person.name, part, { kind: 'list' })
        await this.tried(
          call,
          'list',
          async () => (await this.listNow(this.clientOf(person), target, false)).text,
        )
      }
    for (
      let wait = 0;
      wait < 100 && this.people.some((person) => this.behind(person, truth) !== null);
      wait += 1
    )
      await this.sleep(200)
    for (const person of this.people) {
      const behind = this.behind(person, truth)
      if (behind !== null) this.invariants.fail('delivered once, in order, without a gap', behind)
      this.checkOutbox(person, truth)
    }
    for (const [part, messages] of truth) checkOnce(this.invariants, part, messages)
    this.history.resolve((part, input) => {
      if (input.kind !== 'send') return undefined
      const message = truth.get(part)?.find((one) => toHex(one.id) === input.id)
      return message === undefined ? null : String(message.seq)
    })
  }

  check(): void {
    const models: readonly (readonly [string, SequentialModel<unknown, ChatInput, ChatOutput>])[] = [
      ['name ', nameModel as SequentialModel<unknown, ChatInput, ChatOutput>],
      ['draft ', draftModel as SequentialModel<unknown, ChatInput, ChatOutput>],
      ['', conversationModel as SequentialModel<unknown, ChatInput, ChatOutput>],
    ]
    const found = this.history.check((part) => {
      const model = models.find(([prefix]) => part.startsWith(prefix))
      return model?.[1] ?? null
    })
    if (found === null || found.verdict.kind !== 'violated') return
    const lines = [
      ...found.verdict.explained.slice(-5).map((operation) => `explained: ${JSON.stringify(operation)}`),
      ...found.verdict.stuck.map((operation) => `stuck: ${JSON.stringify(operation)}`),
    ]
    this.invariants.fail('linearizability', `${found.part}:\n${lines.join('\n')}`)
  }

  private anyApp(): ChatApp | null {
    for (const machine of this.context.cluster.running()) {
      const app = this.appOf(machine)
      if (app !== null) return app
    }
    return null
  }

  private targetsOf(person: Person): readonly { readonly part: string; readonly target: Target }[] {
    const rooms = ['lobby', 'everyone'].map((room) => ({
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
        this.invariants.fail(
          'outbox',
          `${person.name} queued ${texts.length} messages for ${part}, and ${found.length} are there`,
        )
      for (const [i, message] of found.entries())
        if (!message.deleted && message.editedAtMs === 0 && message.text !== texts[i])
          this.invariants.fail(
            'outbox',
            `${person.name} queued ${texts[i]} for ${part}, and ${message.text} is in its place`,
          )
    }
  }
}

function messagesOf(queries: ChatQueries, name: string, target: Target): readonly Message[] {
  const account = queries.accountByName(name)?.id
  if (account === undefined) return []
  const conversation = queries.conversation(account, target)
  if (conversation === null) return []
  const messages: Message[] = []
  for (;;) {
    const page = queries.messages(account, conversation.id, {
      beforeSeq: 0,
      afterSeq: messages.at(-1)?.seq ?? 0,
      pageSize: 500,
    })
    if (page === null || page.messages.length === 0) return messages
    // After 0 means from the end, so the first page may be the last one.
    if (messages.length === 0 && (page.messages[0]?.seq ?? 1) > 1)
      return [...earlier(queries, account, conversation.id, page.messages[0]?.seq ?? 1), ...page.messages]
    messages.push(...page.messages)
    if (!page.more) return messages
  }
}

function earlier(
  queries: ChatQueries,
  account: number,
  conversation: number,
  beforeSeq: number,
): readonly Message[] {
  const page = queries.messages(account, conversation, { beforeSeq, afterSeq: 0, pageSize: 500 })
  if (page === null || page.messages.length === 0) return []
  const first = page.messages[0]?.seq ?? 1
  return first > 1 ? [...earlier(queries, account, conversation, first), ...page.messages] : page.messages
}

/** Numbered without a gap, each id once. */
function checkOnce(invariants: Invariants, part: string, messages: readonly Message[]): void {
  const ids = new Set<string>()
  for (const [i, message] of messages.entries()) {
    if (message.seq !== i + 1)
      return invariants.fail(
        'numbered without a gap',
        `message ${message.seq} of ${part} is in place ${i + 1}`,
      )
    const id = toHex(message.id)
    if (ids.has(id)) return invariants.fail('exactly once', `message ${id} of ${part} is there twice`)
    ids.add(id)
  }
}

/** What a device keeps of its outbox when it is shut. */
class MemoryStorage implements OutboxStorage {
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
