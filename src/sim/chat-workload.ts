import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Random } from '../base/random.ts'
import type { ChatQueries } from '../chat/queries.ts'
import { createClient } from '../client/client.ts'
import type { Message, Target } from '../gen/parley/v1/model.ts'
import { ChatStore, makeChatRoot, openChatApp, poison, type ChatApp } from './chat-app.ts'
import { createClientNetwork, createEntrance, type ClientNetwork, type Entrance } from './chat-server.ts'
import { createSimClock } from './clock.ts'
import { fork, type App, type Machine, type SimProcess } from './cluster.ts'
import { skewed } from './faults.ts'
import { People, type ChatWorld, type Owned } from './people.ts'
import type { Owner } from './scheduler.ts'
import type { Clients, Workload, WorkloadContext, WorkloadParts } from './workload.ts'

/** People with the real client library, on the real replicas with their chat. */
export function chatWorkload({ random, invariants }: WorkloadParts): ChatWorkload {
  const root = makeChatRoot()
  const apps = new WeakMap<App, ChatApp>()
  const appOf = (machine: Machine): ChatApp | null => {
    const app = machine.process?.app
    return app === null || app === undefined ? null : (apps.get(app) ?? null)
  }
  return {
    appOf,
    newStore: (id) => new ChatStore(join(root, `r${id}`), fork(random)),
    openApp(store, context) {
      if (!(store instanceof ChatStore)) throw new Error('not a chat')
      const app = openChatApp(store, context, invariants)
      apps.set(app, app)
      return app
    },
    begin: (context) => new SimPeople(context, new ChatDoors(context, appOf)),
    close: () => rmSync(root, { recursive: true, force: true }),
  }
}

export interface ChatWorkload extends Workload {
  readonly appOf: (machine: Machine) => ChatApp | null
}

/** People on the simulated network, in virtual time. */
export class SimPeople implements Clients {
  /** What they live in; others may live there too. */
  readonly world: ChatWorld
  private readonly context: WorkloadContext
  private readonly doors: ChatDoors
  private readonly random: Random
  private readonly people: People
  readonly checkEach = null

  constructor(context: WorkloadContext, doors: ChatDoors) {
    this.context = context
    this.doors = doors
    this.random = context.random
    this.world = this.makeWorld()
    const people = 2 + this.random.below(4)
    this.people = new People(this.world, {
      people,
      pauseMs: skewed(this.random, 30 * people, 2000),
      prefix: '',
      rooms: ['lobby', 'everyone'],
      poison,
    })
  }

  get operations(): number {
    return this.people.operations
  }

  get answered(): number {
    return this.people.answered
  }

  get unknown(): number {
    return this.people.unknown
  }

  get idle(): boolean {
    return this.people.idle
  }

  stop(): void {
    this.people.stop()
  }

  finish(): Promise<void> {
    return this.people.finish()
  }

  check(): void {
    this.people.check()
  }

  get limitedCalls(): number {
    return this.people.limitedCalls
  }

  freeze(replica: number, durationMs: number): void {
    this.doors.network.freeze(replica, durationMs)
  }

  reset(replica: number): void {
    this.doors.network.reset(replica)
  }

  private makeWorld(): ChatWorld {
    const { scheduler, trace, invariants } = this.context
    return {
      random: this.random,
      fail: (rule, message) => invariants.fail(rule, message),
      note: (kind, person, value, text) => trace.add(kind, -person, value, text),
      after: (delayMs, callback) => {
        scheduler.at(scheduler.nowMs + delayMs, null, callback)
      },
      open: (options) => this.doors.open(options),
      read: (person, target) => {
        const app = this.doors.anyApp()
        return Promise.resolve(app === null ? null : messagesOf(app.replica.queries, person, target))
      },
    }
  }
}

/** How clients reach the replicas: over a network of their own. */
export class ChatDoors {
  readonly network: ClientNetwork
  private readonly context: WorkloadContext
  private readonly appOf: (machine: Machine) => ChatApp | null
  private readonly random: Random
  private readonly entrances = new WeakMap<SimProcess, Entrance>()

  constructor(context: WorkloadContext, appOf: (machine: Machine) => ChatApp | null) {
    this.context = context
    this.appOf = appOf
    this.random = context.random
    this.network = createClientNetwork({
      scheduler: context.scheduler,
      random: fork(this.random),
      processOf: (replica) => {
        const { machines, running } = context.cluster
        const machine = machines.get(replica)
        // Its operator lets the name of a machine that is gone for good lead to another one: a client that was away meanwhile knows no other.
        const isGone = machine !== undefined && machine.retired !== null
        return (isGone ? running()[0] : machine)?.process ?? null
      },
      entranceOf: (process) => this.entranceOf(process),
    })
  }

  /** A client that connects by itself. */
  open({ name, token, position, storage, random }: Parameters<ChatWorld['open']>[0]): Owned {
    const owner: Owner = { name, alive: true, stalledUntilMs: 0 }
    const addresses = [...this.context.cluster.machines.keys()].map((id) => `sim:${id}`)
    const from = random.below(addresses.length)
    const client = createClient({
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
    return {
      client,
      get alive() {
        return owner.alive
      },
      shut() {
        owner.alive = false
      },
    }
  }

  private entranceOf(process: SimProcess): Entrance | null {
    const known = this.entrances.get(process)
    if (known !== undefined) return known
    const app = this.appOf(process.machine)
    if (app === null || process.machine.process !== process || !app.isUp) return null
    const entrance = createEntrance(app.replica, app.clock, fork(this.random), (rule, message) =>
      this.context.invariants.fail(rule, message),
    )
    this.entrances.set(process, entrance)
    return entrance
  }

  anyApp(): ChatApp | null {
    for (const machine of this.context.cluster.running()) {
      const app = this.appOf(machine)
      if (app !== null) return app
    }
    return null
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
