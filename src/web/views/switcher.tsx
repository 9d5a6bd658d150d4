import { useEffect, useRef, useState } from 'react'
import type { KeyboardEvent } from 'react'
import type { Route } from '../store/state.ts'
import { byActivity, byPresence, conversationTitle, countText } from '../store/words.ts'
import { Modal } from './parts.tsx'
import { useApp, useChat } from './use-app.ts'

interface Choice {
  readonly key: string
  readonly title: string
  readonly note: string
  readonly route: Route
}

/** Ctrl+K: go to a conversation or a person by a few letters. */
export function Switcher(props: { readonly open: boolean; readonly onClose: () => void }) {
  return (
    <Modal title="Go to" open={props.open} onClose={props.onClose}>
      <SwitcherBody onClose={props.onClose} />
    </Modal>
  )
}

function SwitcherBody({ onClose }: { readonly onClose: () => void }) {
  const app = useApp()
  const choices = useChoices()
  const [typed, setTyped] = useState('')
  const [at, setAt] = useState(0)
  const list = useRef<HTMLUListElement>(null)
  const wanted = typed.trim().replace(/^#/, '').toLowerCase()
  const shown = choices.filter((choice) => choice.title.toLowerCase().includes(wanted)).slice(0, 30)
  const chosen = Math.min(at, shown.length - 1)

  useEffect(() => {
    list.current?.children[chosen]?.scrollIntoView({ block: 'nearest' })
  }, [chosen])

  const choose = (choice: Choice | undefined) => {
    if (choice === undefined) return
    onClose()
    app.go(choice.route)
  }
  const onKey = (event: KeyboardEvent) => {
    if (event.key === 'ArrowDown') setAt(Math.min(chosen + 1, shown.length - 1))
    else if (event.key === 'ArrowUp') setAt(Math.max(chosen - 1, 0))
    else if (event.key === 'Enter') choose(shown[chosen])
    else return
    event.preventDefault()
  }
  return (
    <div className="stack">
      <input
        className="input"
        role="combobox"
        aria-label="Conversation, person or page"
        aria-expanded="true"
        aria-controls="switcher-list"
        aria-activedescendant={shown[chosen] === undefined ? undefined : `switch-${chosen}`}
        value={typed}
        onChange={(event) => {
          setTyped(event.target.value)
          setAt(0)
        }}
        onKeyDown={onKey}
        ref={(input) => input?.focus()}
      />
      <ul id="switcher-list" className="plain-list" role="listbox" aria-label="Matches" ref={list}>
        {shown.map((choice, index) => (
          <li
            key={choice.key}
            id={`switch-${index}`}
            role="option"
            aria-selected={index === chosen}
            className="menu-item row"
            data-highlighted={index === chosen ? '' : undefined}
            onPointerDown={(event) => {
              event.preventDefault()
              choose(choice)
            }}
          >
            <span className="grow ellipsis">{choice.title}</span>
            <span className="muted small">{choice.note}</span>
          </li>
        ))}
      </ul>
      {shown.length === 0 && (
        <p className="muted">
          Nothing of that name here. Rooms that you have not joined are on the Rooms page.
        </p>
      )}
    </div>
  )
}

function useChoices(): readonly Choice[] {
  const chat = useChat()
  const conversations = byActivity(chat.conversations.values())
  const talked = new Set(conversations.map((conversation) => conversation.peer))
  return [
    ...conversations.map((conversation): Choice => ({
      key: `c${conversation.id}`,
      title: conversationTitle(conversation),
      note: conversation.unread > 0 ? `${countText(conversation.unread)} unread` : '',
      route: { page: 'conversation', id: conversation.id, seq: null },
    })),
    ...byPresence(chat.accounts.values())
      .filter((account) => account.id !== chat.me.id && !talked.has(account.id))
      .map((account): Choice => ({
        key: `a${account.id}`,
        title: account.name,
        note: account.online ? 'online' : 'offline',
        route: { page: 'direct', name: account.name },
      })),
    ...(['inbox', 'drafts', 'people', 'rooms', 'search', 'cluster', 'settings'] as const).map(
      (page): Choice => ({
        key: page,
        title: page.charAt(0).toUpperCase() + page.slice(1),
        note: 'page',
        route: { page },
      }),
    ),
  ]
}
