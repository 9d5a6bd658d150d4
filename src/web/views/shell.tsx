import { useEffect, useRef, useState } from 'react'
import type { ReactNode } from 'react'
import { describeState } from '../../client/index.ts'
import { ConversationKind } from '../../gen/parley/v1/model.ts'
import type { Conversation } from '../../gen/parley/v1/model.ts'
import { routeHash } from '../store/state.ts'
import type { Route } from '../store/state.ts'
import { byActivity, conversationTitle, countText, previewText } from '../store/words.ts'
import { ClusterPage } from './cluster.tsx'
import { ConversationPage, DirectPage } from './conversation.tsx'
import { DraftsPage } from './drafts.tsx'
import { HelpDialog } from './help.tsx'
import { InboxPage } from './inbox.tsx'
import { Avatar, Icon, Presence } from './parts.tsx'
import type { IconName } from './parts.tsx'
import { PeoplePage } from './people.tsx'
import { RoomsPage } from './rooms.tsx'
import { SearchPage } from './search.tsx'
import { SettingsPage } from './settings.tsx'
import { Switcher } from './switcher.tsx'
import { useApp, useAppState, useChat } from './use-app.ts'

const pages: readonly (readonly [IconName & Route['page'], string])[] = [
  ['inbox', 'Inbox'],
  ['drafts', 'Drafts'],
  ['people', 'People'],
  ['rooms', 'Rooms'],
  ['search', 'Search'],
  ['cluster', 'Cluster'],
  ['settings', 'Settings'],
]

export function Shell() {
  const app = useApp()
  const { route } = useAppState()
  const chat = useChat()
  const [dialog, setDialog] = useState<'switcher' | 'help' | null>(null)

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const command = event.ctrlKey || event.metaKey
      if (command && event.key.toLowerCase() === 'k') setDialog('switcher')
      else if (command && event.key === '/') setDialog('help')
      else if (event.altKey && event.shiftKey && (event.key === 'ArrowUp' || event.key === 'ArrowDown')) {
        const next = nextUnread(
          byActivity(app.getState().chat?.conversations.values() ?? []),
          app.getState().route,
          event.key === 'ArrowUp',
        )
        if (next !== null) app.go({ page: 'conversation', id: next.id, seq: null })
      } else if (event.shiftKey && event.key === 'Escape') void app.attempt(() => app.markAllRead())
      else return
      event.preventDefault()
    }
    document.addEventListener('keydown', onKey)
    return () => document.removeEventListener('keydown', onKey)
  }, [app])

  const unread = [...chat.conversations.values()].reduce((sum, conversation) => sum + conversation.unread, 0)
  useEffect(() => {
    document.title = unread > 0 ? `(${countText(unread)}) Parley` : 'Parley'
  }, [unread])

  // On a phone the list and the page take each other's place: what had the focus may be gone.
  const main = useRef<HTMLElement>(null)
  const shownPage = useRef(route)
  useEffect(() => {
    if (shownPage.current === route) return
    shownPage.current = route
    const frame = requestAnimationFrame(() => {
      if (document.activeElement !== null && document.activeElement !== document.body) return
      const page = main.current
      if (page !== null && page.offsetParent !== null) page.focus({ preventScroll: true })
    })
    return () => cancelAnimationFrame(frame)
  }, [route])

  return (
    <div className="shell" data-page={route.page}>
      <Banner />
      <Sidebar onSwitch={() => setDialog('switcher')} />
      <main className="main" ref={main} tabIndex={-1}>
        <PageOf route={route} />
      </main>
      <Switcher open={dialog === 'switcher'} onClose={() => setDialog(null)} />
      <HelpDialog open={dialog === 'help'} onClose={() => setDialog(null)} />
    </div>
  )
}

function PageOf({ route }: { readonly route: Route }): ReactNode {
  switch (route.page) {
    case 'conversation':
      return <ConversationPage key={route.id} id={route.id} seq={route.seq} />
    case 'direct':
      return <DirectPage key={route.name} name={route.name} />
    case 'inbox':
      return <InboxPage />
    case 'drafts':
      return <DraftsPage />
    case 'people':
      return <PeoplePage />
    case 'rooms':
      return <RoomsPage />
    case 'search':
      return <SearchPage />
    case 'settings':
      return <SettingsPage />
    case 'cluster':
      return <ClusterPage />
    case 'home':
      return (
        <div className="empty home">
          <img src="./parley.svg" alt="" />
          <p>
            Choose a conversation, or press <kbd>Ctrl K</kbd> to find one.
          </p>
          <p className="small">
            <kbd>Ctrl /</kbd> shows all keys.
          </p>
        </div>
      )
  }
}

function Banner() {
  const { connection, outbox } = useAppState()
  const waiting = outbox.filter((item) => item.status.kind === 'pending').length
  const good = connection.kind === 'connected'
  return (
    <div className={good ? 'banner' : 'banner warn'} role="status">
      <span className={good ? 'dot on' : 'dot'} aria-hidden="true" />
      <span>
        {describeState(connection)}
        {!good &&
          connection.kind !== 'noQuorum' &&
          waiting > 0 &&
          `, ${waiting === 1 ? '1 message' : `${waiting} messages`} queued`}
      </span>
    </div>
  )
}

function Sidebar({ onSwitch }: { readonly onSwitch: () => void }) {
  const { route } = useAppState()
  const chat = useChat()
  const conversations = byActivity(chat.conversations.values())
  const unopened = conversations.reduce((sum, conversation) => sum + conversation.unopened, 0)
  const drafts = chat.drafts.size
  return (
    <nav className="side" aria-label="Conversations and pages">
      {route.page === 'home' && <h1 className="hidden-visually">Parley</h1>}
      <div className="side-head">
        <span className="grow ellipsis">
          <strong>{chat.me.name}</strong>
        </span>
        <button type="button" className="button tiny" onClick={onSwitch}>
          Find <kbd>Ctrl K</kbd>
        </button>
      </div>
      <div className="side-nav">
        <ul>
          {pages.map(([page, label]) => (
            <li key={page}>
              <a
                className="side-link"
                href={routeHash({ page } as Route)}
                aria-current={route.page === page ? 'page' : undefined}
              >
                <Icon name={page} />
                <span className="grow">{label}</span>
                {page === 'inbox' && unopened > 0 && <span className="badge">{countText(unopened)}</span>}
                {page === 'drafts' && drafts > 0 && <span className="muted small">{drafts}</span>}
              </a>
            </li>
          ))}
        </ul>
      </div>
      <div className="side-list">
        <ul>
          {conversations.map((conversation) => (
            <li key={conversation.id}>
              <ConversationLink conversation={conversation} />
            </li>
          ))}
        </ul>
      </div>
    </nav>
  )
}

function ConversationLink({ conversation }: { readonly conversation: Conversation }) {
  const { route } = useAppState()
  const chat = useChat()
  const current = route.page === 'conversation' && route.id === conversation.id
  const title = conversationTitle(conversation)
  const direct = conversation.kind === ConversationKind.DIRECT
  return (
    <a
      className={conversation.unread > 0 ? 'side-link unread' : 'side-link'}
      href={routeHash({ page: 'conversation', id: conversation.id, seq: null })}
      aria-current={current ? 'page' : undefined}
    >
      <span className="face">
        {direct ? (
          <>
            <Avatar name={title} />
            <Presence online={chat.accounts.get(conversation.peer)?.online ?? false} />
          </>
        ) : (
          <span className="avatar room" aria-hidden="true">
            {conversation.name.slice(0, 2).toUpperCase()}
          </span>
        )}
      </span>
      <span className="grow">
        <span className="title ellipsis line">{title}</span>
        <span className="muted small ellipsis line">{previewText(conversation.lastMessage, chat.me.id)}</span>
      </span>
      {conversation.unread > 0 && (
        <span className="badge">
          {countText(conversation.unread)}
          <span className="hidden-visually"> unread</span>
        </span>
      )}
    </a>
  )
}

function nextUnread(
  conversations: readonly Conversation[],
  route: Route,
  upwards: boolean,
): Conversation | null {
  const at =
    route.page === 'conversation'
      ? conversations.findIndex((conversation) => conversation.id === route.id)
      : -1
  const order = [...conversations.slice(at + 1), ...conversations.slice(0, Math.max(at, 0))]
  if (upwards) order.reverse()
  return order.find((conversation) => conversation.unread > 0) ?? null
}
