import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { seededRandom } from '../base/random.ts'
import { createClient, memoryStorage } from '../client/index.ts'
import { Account } from '../gen/parley/v1/model.ts'
import type { Reason, Target } from '../gen/parley/v1/model.ts'
import { FakeNetwork } from '../client/testing.ts'
import { App } from './app.ts'
import { UnsentTexts } from './unsent-texts.ts'

const everyone: Target = { target: { $case: 'room', value: 'everyone' } }

/** A browser, and the cluster that it reaches. Each tab that is opened is a page of its own. */
class World {
  readonly network = new FakeNetwork(1)
  session: string | null = null
  private readonly outbox = memoryStorage()
  private clients = 0

  constructor(t: TestContext) {
    // Notices go by themselves, and no test waits for that.
    t.mock.timers.enable({ apis: ['setTimeout'] })
    for (const name of ['ann', 'bob']) this.network.chat.passwords.set(name, 'secret')
  }

  /** What happens to requests of this name from now on; null: they are answered. */
  refuse(name: string, reason: Reason | null): void {
    this.network.replica(1).fault = ({ op }) =>
      op?.$case === name && reason !== null ? { refuse: reason } : null
  }

  openTab(): App {
    const { addresses, clock, connect } = this.network
    return new App({
      address: '',
      outbox: this.outbox,
      drafts: { load: () => [], put: () => assert.fail(), remove: () => assert.fail() },
      unsent: new UnsentTexts({} as Storage),
      createClient: (options) => {
        this.clients += 1
        return createClient({ ...options, addresses, clock, connect, random: seededRandom(this.clients) })
      },
      readSession: () => this.session,
      writeSession: (session) => (this.session = session),
      readHash: () => '',
      writeHash: () => undefined,
      device: 'test',
    })
  }

  async signIn(app: App, name: string): Promise<void> {
    await this.until(app.signIn('logIn', name, 'secret'))
  }

  async until(work: Promise<unknown>): Promise<void> {
    await this.network.clock.pass(1000)
    await work
  }
}

test('what one person left unsent is neither shown to nor sent or discarded by the next one at this browser', async (t) => {
  const world = new World(t)
  const app = world.openTab()
  const shown = () => app.getState().outbox.map((item) => item.text)
  await world.signIn(app, 'ann')
  world.refuse('sendMessage', 'REASON_MESSAGE_TOO_LARGE')
  app.send(everyone, 'from ann')
  await world.network.clock.pass(1000)
  const [item] = app.getState().outbox
  assert.ok(item !== undefined)
  await world.until(app.logOut())

  await world.signIn(app, 'bob')
  assert.deepEqual(shown(), [])
  app.retry(item.key)
  app.discard(item)
  assert.deepEqual(shown(), [])
  await world.until(app.logOut())

  await world.signIn(app, 'ann')
  assert.deepEqual(shown(), ['from ann'])
  assert.deepEqual(app.getState().outbox[0]?.status.kind, 'failed')
})

test('a tab that is signed out forgets its own session, never the one of another tab', async (t) => {
  const world = new World(t)
  const { chat, clock } = world.network
  const reloaded = async (): Promise<string> => {
    const tab = world.openTab()
    await clock.pass(1000)
    const { phase, chat: shown } = tab.getState()
    return shown === null ? phase : `account ${shown.me.id}`
  }
  const [first, second] = [world.openTab(), world.openTab()]
  await world.signIn(first, 'ann')
  await world.signIn(second, 'bob')
  await world.until(first.logOut())
  assert.equal(first.getState().phase, 'signIn')
  assert.equal(await reloaded(), 'account 6')

  // The second learns late that its session is over: until then it could not reach any replica.
  chat.tokens.clear()
  await world.signIn(first, 'ann')
  world.network.replica(1).kill()
  world.network.replica(1).up = true
  await clock.pass(10_000)
  assert.equal(second.getState().phase, 'signIn')
  assert.equal(await reloaded(), 'account 5')

  await world.until(first.logOut())
  assert.equal(await reloaded(), 'signIn')
})

test('what the page must have at first is asked for until it is there, at the start and after events were missed', async (t) => {
  for (const list of ['listConversations', 'listDrafts', 'listAccounts']) {
    const world = new World(t)
    const { chat, clock } = world.network
    await world.signIn(world.openTab(), 'ann')
    world.refuse(list, 'REASON_OVERLOADED')
    const app = world.openTab()
    await clock.pass(60_000)
    world.refuse(list, null)
    await clock.pass(5000)
    assert.equal(app.getState().phase, 'chat', list)

    world.refuse(list, 'REASON_OVERLOADED')
    chat.happen({ $case: 'resync', value: {} })
    await clock.pass(60_000)
    world.refuse(list, null)
    await clock.pass(5000)
    chat.happen({ $case: 'account', value: Account.create({ id: 9, name: 'carol' }) })
    await clock.pass(1000)
    assert.equal(app.getState().chat?.accounts.get(9)?.name, 'carol', list)
    assert.deepEqual(app.getState().notices, [], list)
    t.mock.timers.reset()
  }
})

test('who signs in is shown what the page must have at first as soon as it can be had, or told why it cannot', async (t) => {
  const world = new World(t)
  const { clock } = world.network
  const app = world.openTab()
  world.refuse('listConversations', 'REASON_OVERLOADED')
  void app.signIn('logIn', 'ann', 'secret')
  await clock.pass(60_000)
  assert.deepEqual([app.getState().phase, app.getState().notices], ['starting', []])
  world.refuse('listConversations', 'REASON_INTERNAL')
  await clock.pass(5000)
  assert.deepEqual(
    app.getState().notices.map(({ kind, text }) => [kind, text]),
    [['error', 'internal']],
  )
})

test('a session that ends while the page is loaded leads to the sign-in page', async (t) => {
  const world = new World(t)
  const { chat, clock } = world.network
  await world.signIn(world.openTab(), 'ann')
  world.refuse('listConversations', 'REASON_OVERLOADED')
  const app = world.openTab()
  await clock.pass(60_000)
  chat.tokens.clear()
  world.network.replica(1).kill()
  world.network.replica(1).up = true
  await clock.pass(60_000)
  assert.equal(app.getState().phase, 'signIn')
  assert.deepEqual(
    app.getState().notices.map(({ text }) => text),
    ['You were signed out.'],
  )
})
