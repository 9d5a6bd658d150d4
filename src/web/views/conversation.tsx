import { useCallback, useEffect, useLayoutEffect, useRef, useState } from 'react'
import type { ReactNode } from 'react'
import type { OutboxItem } from '../../client/index.ts'
import { toHex } from '../../base/bytes.ts'
import { ConversationKind } from '../../gen/parley/v1/model.ts'
import type { Conversation, Message, Target } from '../../gen/parley/v1/model.ts'
import { conversationTarget } from '../app.ts'
import { isRead } from '../store/chat.ts'
import type { Chat } from '../store/chat.ts'
import { emptyTimeline } from '../store/timeline.ts'
import { conversationTitle } from '../store/words.ts'
import { MembersDialog } from './members.tsx'
import { Composer } from './composer.tsx'
import { MessageRow, PendingRow } from './message.tsx'
import { PageHead } from './page.tsx'
import { dayText, Presence } from './parts.tsx'
import { useApp, useAppState, useChat } from './use-app.ts'

/** So many of the newest messages are looked at for what is to be read out. */
const announced = 5

export function ConversationPage({ id, seq }: { readonly id: number; readonly seq: number | null }) {
  const chat = useChat()
  const conversation = chat.conversations.get(id)
  if (conversation === undefined) {
    return (
      <>
        <PageHead title="Conversation" />
        <div className="empty">
          <p>You are not in this conversation, or it does not exist.</p>
        </div>
      </>
    )
  }
  return <OpenConversation conversation={conversation} seq={seq} />
}

/** The page of somebody to whom nothing was written yet. */
export function DirectPage({ name }: { readonly name: string }) {
  const app = useApp()
  const { outbox } = useAppState()
  const pending = outbox.filter(
    (item) =>
      item.to.target?.$case === 'account' && item.to.target.value.toLowerCase() === name.toLowerCase(),
  )
  return (
    <>
      <PageHead title={name} under="Nothing written yet" />
      <div className="timeline" role="region" aria-label={`Messages with ${name}`} tabIndex={0}>
        <div className="filler" />
        <div className="empty">
          <p>This is the beginning of your conversation with {name}.</p>
        </div>
        {pending.map((item) => (
          <PendingRow key={item.key} item={item} />
        ))}
      </div>
      <Composer
        place={`direct-${name}`}
        label={`Message to ${name}`}
        onSend={(text) => app.send(accountTarget(name), text)}
        lastOwn={null}
        editing={null}
        onEdit={() => {}}
      />
    </>
  )
}

function OpenConversation({
  conversation,
  seq,
}: {
  readonly conversation: Conversation
  readonly seq: number | null
}) {
  const app = useApp()
  const { outbox } = useAppState()
  const chat = useChat()
  const [editing, setEditing] = useState<Message | null>(null)
  const [membersOpen, setMembersOpen] = useState(false)
  const timeline = chat.timelines.get(conversation.id) ?? emptyTimeline
  const title = conversationTitle(conversation)
  const pending = pendingOf(outbox, conversation, timeline.messages)
  const lastOwn =
    timeline.messages.findLast((message) => message.sender === chat.me.id && !message.deleted) ?? null
  const peer =
    conversation.kind === ConversationKind.DIRECT ? chat.accounts.get(conversation.peer) : undefined

  return (
    <>
      <PageHead
        title={title}
        under={
          peer === undefined ? (
            conversation.topic || membersText(conversation.members)
          ) : (
            <PeerLine online={peer.online} deleted={peer.deleted} />
          )
        }
        tools={
          conversation.kind !== ConversationKind.DIRECT && (
            <button type="button" className="button tiny" onClick={() => setMembersOpen(true)}>
              {membersText(conversation.members)}
            </button>
          )
        }
      />
      <TimelineView conversation={conversation} seq={seq} pending={pending} onEdit={setEditing} />
      <Composer
        place={`c${conversation.id}`}
        label={`Message to ${title}`}
        onSend={(text) => app.send(conversationTarget(conversation.id), text)}
        lastOwn={lastOwn}
        editing={editing}
        onEdit={setEditing}
      />
      <MembersDialog conversation={conversation} open={membersOpen} onClose={() => setMembersOpen(false)} />
    </>
  )
}

function PeerLine(props: { readonly online: boolean; readonly deleted: boolean }) {
  if (props.deleted) return <>has deleted their account</>
  return (
    <>
      <Presence online={props.online} />{' '}
      {props.online ? 'online' : 'offline: gets your messages at the next sign-in'}
    </>
  )
}

/** The history: it loads more at both ends, stays where one reads, and follows the newest message while one is at the end. */
function TimelineView(props: {
  readonly conversation: Conversation
  readonly seq: number | null
  readonly pending: readonly OutboxItem[]
  readonly onEdit: (message: Message) => void
}) {
  const { conversation, seq } = props
  const app = useApp()
  const { divider, delivered } = useAppState()
  const chat = useChat()
  const timeline = chat.timelines.get(conversation.id)
  const box = useRef<HTMLDivElement>(null)
  const atEnd = useRef(seq === null)
  const [away, setAway] = useState(false)
  const busy = useRef(false)
  const anchor = useRef<Anchor | null>(null)
  const look = useRef(() => {})
  const found = useRef<number | null>(null)
  const newest = timeline?.lastSeq ?? 0
  const marks = chat.marks.get(conversation.id)

  const seen = useCallback(() => {
    if (document.visibilityState === 'visible' && document.hasFocus() && atEnd.current)
      app.markSeen(conversation.id)
  }, [app, conversation.id])

  useEffect(() => {
    window.addEventListener('focus', seen)
    document.addEventListener('visibilitychange', seen)
    return () => {
      window.removeEventListener('focus', seen)
      document.removeEventListener('visibilitychange', seen)
    }
  }, [seen])

  // What grew at the end is followed; whatever else came or went, what is on the screen stays where it is.
  useLayoutEffect(() => {
    const element = box.current
    if (element === null || timeline === undefined) return
    const row = seq === null || found.current === seq ? null : element.querySelector(`[data-seq="${seq}"]`)
    if (row !== null) {
      found.current = seq
      row.scrollIntoView({ block: 'center' })
    } else if (atEnd.current && !timeline.moreAfter) {
      element.scrollTop = element.scrollHeight
      app.trim(conversation.id)
    } else if (anchor.current?.row.isConnected === true) {
      element.scrollTop += anchor.current.row.getBoundingClientRect().top - anchor.current.top
    }
    seen()
  }, [app, conversation.id, timeline, newest, props.pending.length, seq, seen])

  // The window, the composer or what is in a row may change their height.
  useEffect(() => {
    const element = box.current
    if (element === null) return
    const observer = new ResizeObserver(() => {
      if (atEnd.current) element.scrollTop = element.scrollHeight
    })
    observer.observe(element)
    return () => observer.disconnect()
  }, [])

  const onScroll = () => {
    const element = box.current
    if (element === null || timeline === undefined) return
    const below = element.scrollHeight - element.scrollTop - element.clientHeight
    atEnd.current = below < 40 && !timeline.moreAfter
    anchor.current = anchorOf(element)
    setAway(below > 600 || timeline.moreAfter)
    if (atEnd.current) seen()
    if (busy.current) return
    const load =
      element.scrollTop < 500 && timeline.moreBefore
        ? app.loadBefore
        : below < 500 && timeline.moreAfter
          ? app.loadAfter
          : null
    if (load === null) return
    busy.current = true
    void app
      .attempt(() => load(conversation.id))
      .then((loaded) => {
        busy.current = false
        // One may have scrolled on meanwhile, up to where nothing moves any more.
        if (loaded) requestAnimationFrame(() => look.current())
      })
  }
  look.current = onScroll

  const toEnd = () => {
    atEnd.current = true
    void app.attempt(async () => {
      await app.openConversation(conversation.id, null)
      const element = box.current
      if (element !== null) element.scrollTop = element.scrollHeight
    })
  }

  const lastOwn = timeline?.messages.findLast((message) => message.sender === chat.me.id)
  const lastOwnSeq = lastOwn?.seq ?? 0
  const fate = lastOwn === undefined ? null : fateText(lastOwn, conversation, chat, delivered)

  const rows: ReactNode[] = []
  let before: Message | null = null
  for (const message of timeline?.messages ?? []) {
    const day = dayText(message.atMs, app.nowMs())
    const newDay = before === null || dayText(before.atMs, app.nowMs()) !== day
    if (newDay) rows.push(<Divider key={`day${message.seq}`} text={day} />)
    if (
      divider?.conversation === conversation.id &&
      message.seq > divider.afterSeq &&
      (before === null || before.seq <= divider.afterSeq)
    ) {
      rows.push(<Divider key="new" text="new" isNew />)
    }
    rows.push(
      <MessageRow
        key={message.seq}
        message={message}
        head={
          newDay ||
          before === null ||
          before.sender !== message.sender ||
          message.atMs - before.atMs > 300_000
        }
        mine={message.sender === chat.me.id}
        read={isRead(marks, conversation, message, chat.me.id)}
        found={message.seq === seq}
        fate={message.seq === lastOwnSeq ? fate : null}
        onEdit={props.onEdit}
      />,
    )
    before = message
  }

  return (
    <div className="timeline-frame">
      <Arrivals conversation={conversation} />
      <div
        className="timeline"
        ref={box}
        onScroll={onScroll}
        role="region"
        aria-label={`Messages in ${conversationTitle(conversation)}`}
        tabIndex={0}
      >
        <div className="filler" />
        {timeline !== undefined && !timeline.moreBefore && (
          <div className="empty">
            This is the beginning of{' '}
            {conversation.kind === ConversationKind.DIRECT && 'your conversation with '}
            {conversationTitle(conversation)}.
          </div>
        )}
        {timeline === undefined && <div className="empty">Loading…</div>}
        {rows}
        {props.pending.map((item) => (
          <PendingRow key={item.key} item={item} />
        ))}
      </div>
      {away && (
        <button type="button" className="button jump" onClick={toEnd}>
          To the newest {conversation.unread > 0 && <span className="badge">{conversation.unread}</span>}
        </button>
      )}
    </div>
  )
}

/** Screen readers read out what arrives while the conversation is open, and only that: the history that is loaded stands outside of this. */
function Arrivals({ conversation }: { readonly conversation: Conversation }) {
  const chat = useChat()
  const [openedAtSeq] = useState(conversation.lastSeq)
  const messages = chat.timelines.get(conversation.id)?.messages ?? []
  const arrived = messages
    .slice(-announced)
    .filter((message) => message.seq > openedAtSeq && message.sender !== chat.me.id && !message.deleted)
  return (
    <div
      className="hidden-visually"
      role="log"
      aria-live="polite"
      aria-relevant="additions"
      aria-label={`New messages in ${conversationTitle(conversation)}`}
    >
      {arrived.map((message) => (
        <p key={message.seq}>
          {message.senderName}: {message.text}
        </p>
      ))}
    </div>
  )
}

/** What is known of the newest own message of a direct conversation. */
function fateText(
  message: Message,
  conversation: Conversation,
  chat: Chat,
  delivered: ReadonlyMap<string, boolean>,
): string | null {
  const known = delivered.get(toHex(message.id))
  if (known === undefined || message.deleted || conversation.kind !== ConversationKind.DIRECT) return null
  const peer = chat.accounts.get(conversation.peer)
  // Whoever has signed in since has got it.
  if (known || peer?.online === true) return 'delivered'
  return peer?.deleted === true ? null : 'will be delivered when they sign in'
}

function Divider(props: { readonly text: string; readonly isNew?: boolean }) {
  return (
    <div
      className={props.isNew === true ? 'divider new' : 'divider'}
      role="separator"
      aria-label={props.text}
    >
      {props.text}
    </div>
  )
}

interface Anchor {
  readonly row: Element
  readonly top: number
}

/** A message that is on the screen, and where. */
function anchorOf(element: HTMLElement): Anchor | null {
  const { top, bottom } = element.getBoundingClientRect()
  for (const row of element.querySelectorAll('.message')) {
    const place = row.getBoundingClientRect()
    if (place.bottom > top) return place.top < bottom ? { row, top: place.top } : null
  }
  return null
}

/** What waits for this conversation, without what the stream has brought back already. */
function pendingOf(
  outbox: readonly OutboxItem[],
  conversation: Conversation,
  messages: readonly Message[],
): readonly OutboxItem[] {
  const here = outbox.filter((item) => isFor(item.to, conversation))
  if (here.length === 0) return here
  const arrived = new Set(messages.slice(-200).map((message) => toHex(message.id)))
  return here.filter((item) => !arrived.has(toHex(item.id)))
}

function isFor(to: Target, conversation: Conversation): boolean {
  const target = to.target
  switch (target?.$case) {
    case 'conversation':
      return target.value === conversation.id
    case 'account':
      return (
        conversation.kind === ConversationKind.DIRECT &&
        target.value.toLowerCase() === conversation.name.toLowerCase()
      )
    case 'room':
      return (
        conversation.kind !== ConversationKind.DIRECT &&
        target.value.toLowerCase() === conversation.name.toLowerCase()
      )
    case undefined:
      return false
  }
}

function accountTarget(name: string): Target {
  return { target: { $case: 'account', value: name } }
}

function membersText(count: number): string {
  return count === 1 ? '1 member' : `${count} members`
}
