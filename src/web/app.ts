import { fromHex, toHex } from '../base/bytes.ts'
import { allDrafts, ParleyError } from '../client/index.ts'
import type {
  Client,
  ClientOptions,
  InputOf,
  OperationName,
  OutboxItem,
  OutboxStorage,
  ResponseOf,
} from '../client/index.ts'
import type { Conversation, Draft, Target } from '../gen/parley/v1/model.ts'
import {
  isRead,
  newChat,
  withAccounts,
  withConversation,
  withDrafts,
  withEvent,
  withoutTimeline,
  withPage,
  withTrimmed,
} from './store/chat.ts'
import type { Chat } from './store/chat.ts'
import { parseRoute, routeHash } from './store/state.ts'
import type { AppState, Notice, Route } from './store/state.ts'
import { UnsavedDrafts } from './unsaved-drafts.ts'
import type { DraftStorage, Saved, UnsavedDraft } from './unsaved-drafts.ts'
import type { UnsentTexts } from './unsent-texts.ts'

/** What the page needs of the browser. */
export interface Browser {
  /** Of the replica that served the page. */
  readonly address: string
  readonly outbox: OutboxStorage
  readonly drafts: DraftStorage
  readonly unsent: UnsentTexts
  readonly createClient: (options: ClientOptions) => Client
  /** Keeps who is signed in across reloads. */
  readSession(): string | null
  writeSession(session: string | null): void
  readHash(): string
  writeHash(hash: string): void
  /** What the session list calls this device. */
  readonly device: string
}

const historyPage = 60
/** How long a notice that asks for nothing stays. */
const noticeMs = 6000
/** Who saves a draft waits so long, then goes on while it is on its way. */
const draftWaitMs = 1500
/** Messages kept of a conversation's history while it is open; older or newer ones are loaded again when they are scrolled to. */
const historyLimit = 600

/** The page's state and everything that can be done to it. Views read the state and call the methods; nothing else talks to the client library. */
export class App {
  readonly unsent: UnsentTexts
  private state: AppState
  private readonly listeners = new Set<() => void>()
  private readonly browser: Browser
  /** The session of this tab; the one that the browser keeps may be another tab's by now. */
  private session: string | null
  private client: Client
  private unsaved: UnsavedDrafts
  private stopStream: () => void = () => {}
  private refreshing = new Set<number>()
  private lastNotice = 0
  private loading = 0
  /** Sent messages that the stream has not brought back yet: they are still shown, so that nothing flickers. */
  private returning: readonly Returning[] = []

  constructor(browser: Browser) {
    this.browser = browser
    this.unsent = browser.unsent
    this.session = browser.readSession()
    this.client = this.makeClient(this.session)
    this.unsaved = this.makeUnsaved(this.client)
    this.state = {
      phase: this.session === null ? 'signIn' : 'starting',
      connection: this.client.state,
      chat: null,
      outbox: [],
      unsavedDrafts: [],
      delivered: new Map(),
      route: parseRoute(browser.readHash()),
      notices: [],
      divider: null,
    }
    if (this.session !== null) void this.load()
  }

  readonly getState = (): AppState => this.state

  readonly listen = (listener: () => void): (() => void) => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Asks for any operation. */
  readonly call = <N extends OperationName>(name: N, input: InputOf<N>): Promise<ResponseOf<N>> =>
    this.client.call(name, input, { read: 'best' })

  /** The browser says that the network is back, or that the page is looked at again. */
  readonly wake = (): void => this.client.wake()

  // Signing in and out

  async lookUpName(name: string): Promise<{ readonly exists: boolean; readonly registrationOpen: boolean }> {
    return this.client.call('lookUpName', { name })
  }

  async signIn(how: 'logIn' | 'register', name: string, password: string): Promise<void> {
    const { device } = this.browser
    const response =
      how === 'logIn'
        ? await this.client.logIn({ name, password, device })
        : await this.client.register({ name, password, device })
    this.session = toHex(response.token)
    this.browser.writeSession(this.session)
    this.set({ phase: 'starting' })
    await this.load()
    const { chat } = this.state
    if (chat === null) return
    const waiting = [...chat.conversations.values()].reduce((sum, one) => sum + one.unopened, 0)
    if (how === 'register') this.tell('info', `Welcome, ${name}.`)
    else
      this.tell(
        'info',
        `Welcome ${name}, you have ${waiting === 0 ? 'no new messages' : waiting === 1 ? '1 new message' : `${waiting} new messages`}.`,
      )
  }

  async logOut(): Promise<void> {
    try {
      await this.client.logOut()
    } finally {
      this.unsent.clear()
      this.forget()
    }
  }

  async deleteAccount(confirmName: string): Promise<void> {
    await this.client.call('deleteAccount', { confirmName })
    this.unsent.clear()
    this.forget()
    this.tell('info', 'Your account was deleted.')
  }

  // Moving about

  go(route: Route): void {
    this.browser.writeHash(routeHash(route))
    this.showRoute(route)
  }

  readonly hashChanged = (): void => {
    const route = parseRoute(this.browser.readHash())
    if (routeHash(route) !== routeHash(this.state.route)) this.showRoute(route)
  }

  dismiss(notice: number): void {
    this.set({ notices: this.state.notices.filter((other) => other.id !== notice) })
  }

  tell(kind: Notice['kind'], text: string): void {
    this.lastNotice += 1
    const id = this.lastNotice
    this.set({ notices: [...this.state.notices.slice(-3), { id, kind, text }] })
    if (kind === 'info') setTimeout(() => this.dismiss(id), noticeMs)
  }

  /** Runs what a button asks for, and tells when it did not work. */
  async attempt(work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work()
      return true
    } catch (error) {
      this.tell('error', errorText(error))
      return false
    }
  }

  // Conversations

  /** Loads the newest page of a conversation, or the one around `seq`, when it is not there yet. */
  async openConversation(id: number, seq: number | null): Promise<void> {
    const chat = this.chat()
    const timeline = chat.timelines.get(id)
    if (timeline !== undefined && seq === null && !timeline.moreAfter) return
    if (timeline !== undefined && seq !== null && seq >= timeline.firstSeq && seq <= timeline.lastSeq) return
    const target = conversationTarget(id)
    if (seq === null) {
      const page = await this.call('listMessages', { conversation: target, pageSize: historyPage })
      this.update((now) =>
        withPage(
          withoutTimeline(now, id),
          id,
          { ...page, moreBefore: page.more, moreAfter: false },
          page.position,
        ),
      )
      return
    }
    const before = await this.call('listMessages', {
      conversation: target,
      beforeSeq: seq + 1,
      pageSize: historyPage / 2,
    })
    const after = await this.call('listMessages', {
      conversation: target,
      afterSeq: seq,
      pageSize: historyPage / 2,
    })
    this.update((now) =>
      withPage(
        withPage(
          withoutTimeline(now, id),
          id,
          { ...before, moreBefore: before.more, moreAfter: true },
          before.position,
        ),
        id,
        { ...after, moreBefore: true, moreAfter: after.more },
        after.position,
      ),
    )
  }

  readonly loadBefore = async (id: number): Promise<void> => {
    const timeline = this.chat().timelines.get(id)
    if (timeline === undefined || !timeline.moreBefore) return
    const page = await this.call('listMessages', {
      conversation: conversationTarget(id),
      beforeSeq: timeline.firstSeq,
      pageSize: historyPage,
    })
    this.update((now) =>
      withTrimmed(
        withPage(now, id, { ...page, moreBefore: page.more, moreAfter: true }, page.position),
        id,
        'oldest',
        historyLimit,
      ),
    )
  }

  readonly loadAfter = async (id: number): Promise<void> => {
    const timeline = this.chat().timelines.get(id)
    if (timeline === undefined || !timeline.moreAfter) return
    const page = await this.call('listMessages', {
      conversation: conversationTarget(id),
      afterSeq: timeline.lastSeq,
      pageSize: historyPage,
    })
    this.update((now) =>
      withTrimmed(
        withPage(now, id, { ...page, moreBefore: true, moreAfter: page.more }, page.position),
        id,
        'newest',
        historyLimit,
      ),
    )
  }

  /** Drops the oldest part of a long history: its end is being looked at. */
  trim(id: number): void {
    const loaded = this.chat().timelines.get(id)?.messages.length ?? 0
    if (loaded > 2 * historyLimit) this.update((now) => withTrimmed(now, id, 'newest', historyLimit))
  }

  send(to: Target, text: string): void {
    this.client.outbox.add(to, text)
  }

  retry(key: string): void {
    this.client.outbox.retry(key)
  }

  discard(item: OutboxItem): void {
    if (!this.client.outbox.discard(item.key))
      this.tell('info', 'That message was under way: it may have been sent.')
  }

  /** Everything up to the newest message has been seen. */
  markSeen(id: number): void {
    const conversation = this.chat().conversations.get(id)
    if (conversation === undefined || conversation.lastSeq === 0) return
    if (conversation.readUpTo >= conversation.lastSeq && conversation.openedUpTo >= conversation.lastSeq)
      return
    void this.call('markRead', {
      conversation: id,
      mark: { $case: 'upTo', value: conversation.lastSeq },
    }).catch(() => {
      // It is tried again when the conversation is looked at next; reading does not wait for it.
    })
  }

  async markAllRead(): Promise<void> {
    for (const conversation of this.chat().conversations.values()) {
      if (conversation.unread > 0 || conversation.unopened > 0) {
        await this.call('markRead', {
          conversation: conversation.id,
          mark: { $case: 'upTo', value: conversation.lastSeq },
        })
      }
    }
  }

  /** The page of a conversation, found by what a person typed; a direct conversation that was never used has a page too. */
  async find(target: Target): Promise<Route> {
    try {
      const { conversation, position } = await this.call('getConversation', { conversation: target })
      if (conversation === undefined) throw new Error('the answer holds no conversation')
      if (conversation.member) this.update((chat) => withConversation(chat, conversation, position))
      return { page: 'conversation', id: conversation.id, seq: null }
    } catch (error) {
      const unused = error instanceof ParleyError && error.reason === 'REASON_CONVERSATION_NOT_FOUND'
      if (unused && target.target?.$case === 'account') return { page: 'direct', name: target.target.value }
      throw error
    }
  }

  /**
   * Makes a draft, or changes it. `waiting`: the cluster has not taken it yet; it is kept on this device until it has.
   *
   * @throws what the cluster refuses it for.
   */
  async saveDraft(
    draft: Pick<Draft, 'id' | 'version'>,
    text: string,
    recipients: readonly Target[],
  ): Promise<Exclude<Saved, { readonly kind: 'refused' }>> {
    const key = toHex(draft.id)
    const account = this.chat().me.id
    const saved = await Promise.race([
      this.unsaved.save({ key, account, baseVersion: draft.version, text, recipients, refused: null }),
      new Promise<Saved>((resolve) => {
        setTimeout(() => resolve({ kind: 'waiting' }), draftWaitMs)
      }),
    ])
    if (saved.kind === 'refused') throw saved.error
    return saved
  }

  newDraftId(): Uint8Array {
    return this.client.newId()
  }

  discardDraft({ key }: UnsavedDraft): void {
    this.unsaved.discard(key)
  }

  /** host:port of the replicas that are known. */
  addresses(): readonly string[] {
    return this.client.addresses
  }

  /** Milliseconds since 1970 as the cluster believes. */
  nowMs(): number {
    return this.client.nowMs()
  }

  reloadAccounts(pattern: string): Promise<void> {
    return this.readAccounts(pattern, this.call)
  }

  // Inside

  /** Asks until it is answered or refused for good, or the session ends: for what the page cannot do without. */
  private readonly callPatiently: App['call'] = (name, input) =>
    this.client.call(name, input, { read: 'best', timeoutMs: Infinity })

  private chat(): Chat {
    if (this.state.chat === null) throw new Error('nobody is signed in')
    return this.state.chat
  }

  private set(part: Partial<AppState>): void {
    this.state = { ...this.state, ...part }
    for (const listener of this.listeners) listener()
  }

  private update(change: (chat: Chat) => Chat): void {
    const { chat: before, route } = this.state
    if (before === null) return
    const chat = change(before)
    if (chat === before) return
    this.returning = this.returning.filter((one) => !hasArrived(one, chat))
    this.set({ chat, outbox: this.outboxItems() })
    // One has come into the conversation at whose page one is.
    if (
      route.page === 'conversation' &&
      !before.conversations.has(route.id) &&
      chat.conversations.has(route.id)
    )
      this.showRoute(route)
    this.afterChange(chat)
  }

  /** What a change of the chat calls for. */
  private afterChange(chat: Chat): void {
    if (chat.ended !== null) {
      this.forget()
      this.tell('info', 'You were signed out.')
      return
    }
    if (chat.resync) {
      void this.load()
      return
    }
    for (const id of chat.stale) void this.refresh(id)
  }

  private async refresh(id: number): Promise<void> {
    if (this.refreshing.has(id)) return
    this.refreshing.add(id)
    try {
      const { conversation, position } = await this.call('getConversation', {
        conversation: conversationTarget(id),
      })
      if (conversation !== undefined) this.update((chat) => withConversation(chat, conversation, position))
    } catch (error) {
      // A conversation that was left or never existed is not there any more; for the rest the next event, or a reconnect, asks again.
      if (error instanceof ParleyError && error.reason === 'REASON_CONVERSATION_NOT_FOUND') {
        this.update((chat) =>
          withEvent(chat, { position: 0, event: { $case: 'conversationLeft', value: { conversation: id } } }),
        )
      }
    } finally {
      this.refreshing.delete(id)
    }
  }

  private makeClient(token: string | null): Client {
    const client = this.browser.createClient({
      addresses: [this.browser.address],
      storage: this.browser.outbox,
      ...(token === null ? {} : { token: fromHex(token) }),
    })
    client.onState((connection) => {
      if (client !== this.client) return
      this.set({ connection })
      if (connection.kind === 'signedOut' && this.state.phase !== 'signIn') {
        this.forget()
        this.tell('info', 'You were signed out.')
      }
    })
    client.outbox.onChange((change) => {
      if (client !== this.client) return
      if (change.kind === 'sent') this.sent(change.item, change.response)
      this.set({ outbox: this.outboxItems() })
    })
    return client
  }

  private makeUnsaved(client: Client): UnsavedDrafts {
    return new UnsavedDrafts({
      storage: this.browser.drafts,
      save: (input) => client.call('saveDraft', input, { timeoutMs: Infinity }),
      onChange: () => {
        if (client === this.client) this.set({ unsavedDrafts: this.unsaved.items })
      },
    })
  }

  private outboxItems(): readonly OutboxItem[] {
    return [...this.returning.map((one) => one.item), ...this.client.outbox.items]
  }

  /** A first message to somebody makes the conversation: go on there. */
  private sent(item: OutboxItem, response: ResponseOf<'sendMessage'>): void {
    const { route, chat } = this.state
    const { conversation, seq } = response
    const sent: Returning = { item, conversation, seq }
    if (chat !== null && !hasArrived(sent, chat)) this.returning = [...this.returning, sent]
    this.set({ delivered: new Map(this.state.delivered).set(toHex(item.id), response.delivered) })
    const here =
      route.page === 'direct' &&
      item.to.target?.$case === 'account' &&
      item.to.target.value.toLowerCase() === route.name.toLowerCase()
    if (here)
      void this.refresh(conversation).then(() =>
        this.go({ page: 'conversation', id: conversation, seq: null }),
      )
  }

  /** Reads everything that the page shows at first, and follows it from there. */
  private async load(): Promise<void> {
    this.loading += 1
    const loading = this.loading
    this.stopStream()
    try {
      const me = await this.callPatiently('getMe', {})
      if (me.account === undefined) throw new Error('the answer holds no account')
      let chat: Chat = { ...newChat(me.account, me.session, me.position), policy: me.policy ?? null }
      let token = ''
      do {
        const page = await this.callPatiently('listConversations', { pageSize: 200, pageToken: token })
        for (const conversation of page.conversations)
          chat = withConversation(chat, conversation, page.position)
        token = page.nextPageToken
      } while (token !== '')
      chat = withDrafts(chat, await allDrafts({ call: this.callPatiently }))
      if (loading !== this.loading) return
      this.returning = this.returning.filter((one) => !hasArrived(one, chat))
      this.set({ chat, phase: 'chat', outbox: this.outboxItems() })
      this.stopStream = this.client.subscribe(me.position, (events) =>
        this.update((now) => events.reduce(withEvent, now)),
      )
      this.unsaved.begin(me.account.id)
      this.showRoute(this.state.route)
      await this.readAccounts('', this.callPatiently)
    } catch (error) {
      if (loading === this.loading) this.tell('error', errorText(error))
    }
  }

  private async readAccounts(pattern: string, call: App['call']): Promise<void> {
    const accounts = await this.allPages(async (pageToken) => {
      const page = await call('listAccounts', { pattern, pageSize: 500, pageToken })
      return { items: page.accounts, next: page.nextPageToken }
    }, 4)
    this.update((chat) => withAccounts(chat, accounts))
  }

  private showRoute(route: Route): void {
    const conversation =
      route.page === 'conversation' ? this.state.chat?.conversations.get(route.id) : undefined
    this.set({ route, divider: conversation === undefined ? null : newDivider(this.chat(), conversation) })
    // The page itself says when one is not in the conversation.
    if (route.page === 'conversation' && conversation !== undefined) {
      void this.attempt(() => this.openConversation(route.id, route.seq))
    }
  }

  private forget(): void {
    this.loading += 1
    this.stopStream()
    if (this.browser.readSession() === this.session) this.browser.writeSession(null)
    this.session = null
    const old = this.client
    this.client = this.makeClient(null)
    this.unsaved = this.makeUnsaved(this.client)
    old.close()
    this.returning = []
    this.set({
      phase: 'signIn',
      chat: null,
      outbox: [],
      unsavedDrafts: [],
      delivered: new Map(),
      connection: this.client.state,
      route: { page: 'home' },
      divider: null,
    })
    this.browser.writeHash('#/')
  }

  private async allPages<T>(
    load: (pageToken: string) => Promise<{ readonly items: readonly T[]; readonly next: string }>,
    mostPages: number,
  ): Promise<readonly T[]> {
    const all: T[] = []
    let token = ''
    for (let pages = 0; pages < mostPages; pages += 1) {
      const page = await load(token)
      all.push(...page.items)
      token = page.next
      if (token === '') break
    }
    return all
  }
}

interface Returning {
  readonly item: OutboxItem
  readonly conversation: number
  readonly seq: number
}

function hasArrived(sent: Returning, chat: Chat): boolean {
  return (chat.conversations.get(sent.conversation)?.lastSeq ?? 0) >= sent.seq
}

export function conversationTarget(id: number): Target {
  return { target: { $case: 'conversation', value: id } }
}

/** What went wrong, for people. */
export function errorText(error: unknown): string {
  if (error instanceof ParleyError && error.violations.length > 0) {
    return error.violations.map((violation) => violation.description).join('; ')
  }
  return error instanceof Error ? error.message : String(error)
}

function newDivider(chat: Chat, conversation: Conversation): AppState['divider'] {
  const marks = chat.marks.get(conversation.id)
  if (conversation.unread === 0) return null
  const last = conversation.lastMessage
  const readAll =
    last !== undefined &&
    isRead(marks, conversation, last, chat.me.id) &&
    conversation.readUpTo >= conversation.lastSeq
  return readAll ? null : { conversation: conversation.id, afterSeq: conversation.readUpTo }
}
