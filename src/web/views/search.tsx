import { useEffect, useRef, useState } from 'react'
import { findMessages } from '../../client/index.ts'
import type { Message } from '../../gen/parley/v1/model.ts'
import { routeHash } from '../store/state.ts'
import { placeText, senderText } from '../store/words.ts'
import { Page } from './page.tsx'
import { ActionForm, Field, timeText } from './parts.tsx'
import { useApp, useChat } from './use-app.ts'

interface Found {
  readonly query: string
  readonly messages: readonly Message[]
  readonly next: string
}

export function SearchPage() {
  const app = useApp()
  const chat = useChat()
  const [typed, setTyped] = useState('')
  const [found, setFound] = useState<Found | null>(null)

  // The newest search: it ends those before it, and leaving the page ends it.
  const newest = useRef(0)
  useEffect(
    () => () => {
      newest.current += 1
    },
    [],
  )

  const search = async (query: string, before: Found | null) => {
    newest.current += 1
    const number = newest.current
    const isWanted = () => number === newest.current
    const page = await findMessages(
      app,
      { query, pageToken: before?.next ?? '' },
      { least: 1, most: 30 },
      isWanted,
    )
    if (!isWanted()) return
    setFound({ query, messages: [...(before?.messages ?? []), ...page.messages], next: page.nextPageToken })
  }

  return (
    <Page title="Search">
      <ActionForm label="Search" disabled={typed.trim() === ''} action={() => search(typed.trim(), null)}>
        <Field
          label="Words"
          type="search"
          value={typed}
          onChange={setTyped}
          autoFocus
          hint={
            'All words must appear; "words in quotes" in that order. Only your own conversations are searched.'
          }
        />
      </ActionForm>
      <section aria-label="Results" aria-live="polite">
        {found?.messages.length === 0 && <div className="empty">Nothing found for {found.query}.</div>}
        <ul className="plain-list">
          {found?.messages.map((message) => {
            const conversation = chat.conversations.get(message.conversation)
            const place = placeText(message, conversation, chat.me.id)
            return (
              <li key={`${message.conversation}/${message.seq}`} className="list-row results">
                <div className="grow">
                  <div className="muted small">
                    {senderText(message, chat.me.id)}
                    {place === '' ? '' : ` ${place}`}, {timeText(message.atMs)}
                  </div>
                  <div className="message-text">{message.text}</div>
                </div>
                <a
                  className="button tiny"
                  href={routeHash({ page: 'conversation', id: message.conversation, seq: message.seq })}
                >
                  Show in place
                </a>
              </li>
            )
          })}
        </ul>
        {found !== null && found.next !== '' && (
          <button
            type="button"
            className="button"
            onClick={() => void app.attempt(() => search(found.query, found))}
          >
            More
          </button>
        )}
      </section>
    </Page>
  )
}
