import { toHex } from '../../base/bytes.ts'
import {
  type Client,
  type ClientState,
  describeState,
  type OutboxChange,
  type OutboxItem,
  ParleyError,
} from '../../client/index.ts'
import { type Conversation, Message, type Target } from '../../gen/parley/v1/model.ts'
import type { Event, SendMessageResponse } from '../../gen/parley/v1/service.ts'
import { CliError, exitCodes } from '../io.ts'
import { conversationLabel, Labels, targetLabel } from '../names.ts'
import { deliveryWords, type Look, messageLine } from '../present.ts'
import { exitCodeOf } from '../session.ts'
import { hang, oneRow, plural, printable, rowsOf, wrapWords } from '../text.ts'

/** Where a talk is shown. */
export interface View {
  /** Rows that it has in all. */
  readonly rows: number
  /** Adds lines for good. */
  readonly print: (text: string) => void
  /** Replaces the lines that may still change, and the prompt. */
  readonly show: (live: readonly string[], prompt: string) => void
}

export interface TalkPorts {
  readonly client: Client
  readonly view: View
  readonly look: () => Look
  readonly after: (delayMs: number, callback: () => void) => () => void
  /** The session was ended by the server. */
  readonly onSignedOut: (why: string) => void
}

/** Marks are sent together after so long. */
const markAfterMs = 300
const historyShown = 10

interface Open {
  readonly target: Target
  readonly label: string
  id: number | null
}

/** The state of the interactive client: the open conversation, what comes in, what is being sent. */
export class Talk {
  readonly client: Client
  readonly labels: Labels
  private readonly ports: TalkPorts
  private readonly unread = new Map<number, number>()
  /** Up to where each conversation has left the inbox. */
  private readonly opened = new Map<number, number>()
  private readonly peers = new Map<string, boolean>()
  /**
   * What this device sent, by id, until both its answer and its event have come, and whether it has been printed: when one of them came, whichever was first, so that lines stand
   * in the order of the messages.
   */
  private readonly own = new Map<string, boolean>()
  private readonly dueMarks = new Map<number, { upTo: number; read: boolean }>()
  private cancelMarks: (() => void) | null = null
  private current: Open | null = null
  /** The last one of them that there is: the open one may turn out not to exist. */
  private found: Open | null = null
  private shownState = ''
  private drawPlanned = false
  private stops: (() => void)[] = []
  /** Lines come one after the other even when a label has to be asked for first. */
  private printed: Promise<void> = Promise.resolve()

  constructor(ports: TalkPorts) {
    this.ports = ports
    this.client = ports.client
    this.labels = new Labels(ports.client)
    this.shownState = describeState(this.client.state)
  }

  /** Begins to follow what happens. */
  async start(): Promise<void> {
    // From here on, not from the first answer on: the connection that a new session needs is often still being made.
    this.stops = [this.client.onState((state) => this.stateChanged(state))]
    const position = await this.load()
    this.stops.push(
      this.client.subscribe(position, (events) => this.happened(events)),
      this.client.outbox.onChange((change) => this.outboxChanged(change)),
    )
    this.draw()
  }

  stop(): void {
    this.cancelMarks?.()
    for (const stop of this.stops) stop()
    this.stops = []
  }

  get openLabel(): string | null {
    return this.current?.label ?? null
  }

  get openTarget(): Target | null {
    return this.current?.target ?? null
  }

  /** Opens a conversation: plain lines go there from now on, or, when there is none, where they went before. */
  async open(target: Target): Promise<void> {
    const opened: Open = { target, label: targetLabel(target), id: null }
    this.current = opened
    this.draw()
    try {
      const page = await this.client.call('listMessages', { conversation: target, pageSize: historyShown })
      if (this.current !== opened) return
      this.found = opened
      const last = page.messages.at(-1)
      if (last === undefined) return this.print(this.notice(`${opened.label}: no messages yet`))
      opened.id = last.conversation
      if (!this.labels.has(last.conversation)) await this.labels.learn([last.conversation])
      for (const message of page.messages) this.print(this.line(message))
      this.unread.delete(last.conversation)
      this.mark(last.conversation, page.lastSeq, true)
      this.draw()
    } catch (error) {
      if (this.current !== opened || !(error instanceof ParleyError)) throw error
      throw new CliError(`${opened.label}: ${error.message} ${this.whereAfter(error)}`)
    }
  }

  /** Says where plain lines go after a conversation could not be shown. */
  private whereAfter(error: ParleyError): string {
    // Nobody could be asked: what is written is kept, and whoever is typing it goes on where they believe to be.
    if (exitCodeOf(error) === exitCodes.unavailable) return 'It is open all the same: what you write is kept.'
    this.current = this.found
    this.draw()
    return this.found === null ? 'No conversation is open.' : `You are still in ${this.found.label}.`
  }

  /** Closes the open conversation if it is this one. */
  leave(label: string): void {
    if (this.found?.label === label) this.found = null
    if (this.current?.label === label) this.current = null
    this.draw()
  }

  /** Queues a message; it is shown as pending, then with what became of it. */
  send(to: Target, text: string): void {
    this.client.outbox.add(to, text)
  }

  print(text: string): void {
    this.ports.view.print(text)
  }

  /** Prints sentences, a line each, broken between words. */
  tell(text: string): void {
    this.print(this.wrapped(text))
  }

  /** Shows what has changed, once for all that happens in one go: a paste may be hundreds of messages. */
  draw(): void {
    if (this.drawPlanned) return
    this.drawPlanned = true
    queueMicrotask(() => {
      this.drawPlanned = false
      this.ports.view.show(
        this.live().map((line) => this.dim(line)),
        this.prompt(),
      )
    })
  }

  /** What is not known to be sent, a line each. */
  waiting(): readonly string[] {
    return this.pending().map((item) => pendingParts(item).join(''))
  }

  /** Of what is not known to be sent the latest, and how many more there are. It takes a third of the screen at most: what is drawn higher than the screen cannot be taken back. */
  private live(): readonly string[] {
    const { columns } = this.ports.look()
    const pending = this.pending()
    const lines: string[] = []
    // One row is for the number of the others.
    let rowsLeft = Math.max(1, Math.floor(this.ports.view.rows / 3) - 1)
    for (const item of pending.toReversed()) {
      if (rowsLeft === 0) break
      const [head, text] = pendingParts(item)
      const whole = hang(`… ${head}`, text, columns)
      const rows = rowsOf(whole, columns)
      lines.unshift(rows <= rowsLeft ? whole : oneRow(`… ${head}${text}`, columns))
      rowsLeft -= rows <= rowsLeft ? rows : 1
    }
    const more = pending.length - lines.length
    return more === 0 ? lines : [`… ${plural(more, 'more message')}`, ...lines]
  }

  private pending(): readonly OutboxItem[] {
    return this.client.outbox.items.filter(({ status }) => status.kind === 'pending')
  }

  private prompt(): string {
    const { colors } = this.ports.look()
    let unread = 0
    for (const [id, count] of this.unread) if (id !== this.current?.id) unread += count
    const state = this.client.state
    const where = state.kind === 'connected' ? '' : colors.yellow(`[${describeState(state)}] `)
    const label = colors.bold(printable(this.current?.label ?? 'parley'))
    return `${where}${label}${unread > 0 ? colors.cyan(` [${unread} unread]`) : ''}> `
  }

  private wrapped(text: string): string {
    const { columns } = this.ports.look()
    const lines = text.split('\n').flatMap((line) => wrapWords(line, columns))
    return lines.join('\n')
  }

  private notice(text: string): string {
    return this.wrapped(this.dim(text))
  }

  private dim(text: string): string {
    return this.ports.look().colors.dim(text)
  }

  private line(message: Message, remarks?: readonly string[]): string {
    const label = this.labels.get(message.conversation)
    return messageLine(message, { reader: this.client, label }, this.ports.look(), remarks)
  }

  /** Reads the conversations; what happens later is told by events from the position that is returned. */
  private async load(): Promise<number> {
    let position: number | null = null
    let pageToken = ''
    this.unread.clear()
    do {
      const page = await this.client.call('listConversations', { pageSize: 500, pageToken })
      // The first page's: what happens between the pages comes again as events.
      position ??= page.position
      pageToken = page.nextPageToken
      for (const conversation of page.conversations) this.note(conversation)
    } while (pageToken !== '')
    return position
  }

  private note(conversation: Conversation): void {
    this.labels.note(conversation)
    this.opened.set(conversation.id, conversation.openedUpTo)
    if (conversation.unread > 0) this.unread.set(conversation.id, conversation.unread)
    if (conversation.kind === 'CONVERSATION_KIND_DIRECT')
      this.peers.set(conversationLabel(conversation).toLowerCase(), true)
  }

  private happened(events: readonly Event[]): void {
    this.printed = this.printed.then(async () => {
      const unknown = events.flatMap(({ event }) =>
        event?.$case === 'message' && !this.labels.has(event.value.conversation)
          ? [event.value.conversation]
          : [],
      )
      // One that cannot be asked for is shown by its number.
      if (unknown.length > 0) await this.labels.learn(unknown).catch(() => undefined)
      const lines: string[] = []
      for (const event of events) {
        const line = this.take(event)
        if (line !== null) lines.push(line)
      }
      if (lines.length > 0) this.print(lines.join('\n'))
      this.draw()
    })
  }

  private take({ event }: Event): string | null {
    switch (event?.$case) {
      case 'message':
        return this.takeMessage(event.value)
      case 'messageEdited':
        return this.line(event.value)
      case 'messageDeleted':
        return this.notice(
          `${printable(this.labels.get(event.value.conversation))}/${event.value.seq} was deleted`,
        )
      case 'marks': {
        const { conversation, openedUpTo, unreadCount } = event.value
        this.opened.set(conversation, Math.max(openedUpTo, this.opened.get(conversation) ?? 0))
        if (unreadCount === 0) this.unread.delete(conversation)
        else this.unread.set(conversation, unreadCount)
        return null
      }
      case 'conversation': {
        const known = this.labels.has(event.value.id)
        const isRoom = event.value.kind === 'CONVERSATION_KIND_ROOM'
        if (isRoom) this.labels.note(event.value)
        return known || !isRoom
          ? null
          : this.notice(`You are in ${printable(conversationLabel(event.value))}.`)
      }
      case 'conversationLeft': {
        const label = this.labels.get(event.value.conversation)
        this.leave(label)
        return this.notice(`You have left ${printable(label)}.`)
      }
      case 'account': {
        const { name, online, deleted } = event.value
        const isOpen = this.current?.target.target?.$case === 'account'
        if (!isOpen || this.current?.label.toLowerCase() !== name.toLowerCase()) return null
        const what = deleted ? 'has deleted their account' : online ? 'is here' : 'is gone'
        return this.notice(`${printable(name)} ${what}`)
      }
      case 'resync':
        this.load().then(
          () => this.draw(),
          () => undefined,
        )
        return this.notice('Messages were missed: see /inbox and /read.')
      default:
        return null
    }
  }

  private takeMessage(message: Message): string | null {
    const mine = message.sender === this.client.account?.id
    const { conversation, seq } = message
    const isOpen =
      this.current !== null &&
      (this.current.id === conversation || this.current.label === this.labels.get(conversation))
    if (isOpen && this.current !== null) this.current.id = conversation
    // What waits in the inbox from before stays there: only who has seen everything before has seen everything with this.
    if ((this.opened.get(conversation) ?? 0) >= seq - 1) this.mark(conversation, seq, isOpen || mine)
    else if (isOpen) this.mark(conversation, seq, true)
    if (!isOpen && !mine) this.unread.set(conversation, (this.unread.get(conversation) ?? 0) + 1)
    const id = toHex(message.id)
    const isPrinted = this.own.get(id)
    if (!mine || isPrinted === undefined) return this.line(message)
    if (isPrinted) {
      this.own.delete(id)
      return null
    }
    this.own.set(id, true)
    return this.line(message, [this.ports.look().colors.green('✓')])
  }

  private mark(conversation: number, upTo: number, read: boolean): void {
    this.opened.set(conversation, Math.max(upTo, this.opened.get(conversation) ?? 0))
    const due = this.dueMarks.get(conversation)
    this.dueMarks.set(conversation, {
      upTo: Math.max(upTo, due?.upTo ?? 0),
      read: read || due?.read === true,
    })
    this.cancelMarks ??= this.ports.after(markAfterMs, () => this.sendMarks())
  }

  private sendMarks(): void {
    this.cancelMarks = null
    for (const [conversation, { upTo, read }] of this.dueMarks)
      this.client.request(
        'markRead',
        { conversation, mark: { $case: read ? 'upTo' : 'openedUpTo', value: upTo } },
        {},
        // A mark that is lost is made good by the next one.
        () => undefined,
      )
    this.dueMarks.clear()
  }

  private outboxChanged(change: OutboxChange): void {
    switch (change.kind) {
      case 'added':
      case 'retried':
        this.own.set(toHex(change.item.id), false)
        break
      case 'sent': {
        const { item, response } = change
        this.printed = this.printed.then(() => {
          const id = toHex(item.id)
          if (this.own.get(id) === true) {
            this.own.delete(id)
            return
          }
          this.own.set(id, true)
          this.print(this.sentLine(item.to, item.text, response))
        })
        break
      }
      case 'failed': {
        const { id, to, text, key, status } = change.item
        const why = status.kind === 'failed' ? status.message : ''
        const { colors, columns } = this.ports.look()
        const head = `${colors.red('✗')} ${printable(targetLabel(to))}  you: `
        this.print(hang(head, `${printable(text)} ${colors.red(`not sent: ${printable(why)}`)}`, columns))
        this.own.delete(toHex(id))
        this.client.outbox.discard(key)
        break
      }
      case 'discarded':
      case 'loaded':
      case 'accountChanged':
        break
    }
    this.draw()
  }

  private sentLine(to: Target, text: string, response: SendMessageResponse): string {
    const look = this.ports.look()
    const direct = to.target?.$case === 'account'
    const label = this.labels.has(response.conversation)
      ? this.labels.get(response.conversation)
      : targetLabel(to)
    const words = deliveryWords(direct, response.delivered)
    const mark = direct && !response.delivered ? this.dim(`✓ ${words}`) : look.colors.green('✓')
    const { seq, atMs } = response
    const message = Message.create({ seq, atMs, text, sender: this.client.account?.id ?? 0 })
    return messageLine(message, { reader: this.client, label }, look, [mark])
  }

  private stateChanged(state: ClientState): void {
    if (state.kind === 'signedOut') {
      this.ports.onSignedOut(describeState(state))
      return
    }
    // The number of queued messages shows in the live lines.
    const words = describeState(state.kind === 'noQuorum' ? { ...state, queued: 0 } : state)
    if (words !== this.shownState) this.print(this.notice(words))
    this.shownState = words
    this.draw()
  }
}

function pendingParts({ to, text }: OutboxItem): readonly [head: string, text: string] {
  return [`${printable(targetLabel(to))}  you: `, printable(text)]
}
