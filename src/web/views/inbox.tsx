import { useState } from 'react'
import type { Message } from '../../gen/parley/v1/model.ts'
import { isRead } from '../store/chat.ts'
import { routeHash } from '../store/state.ts'
import { byActivity, conversationTitle, countText, placeText, senderText } from '../store/words.ts'
import { Page } from './page.tsx'
import { Avatar, clockText, MessageText } from './parts.tsx'
import { useApp, useChat } from './use-app.ts'

const amounts = [1, 2, 5, 10] as const
const mostAtOnce = 500

/** What has arrived and was not opened: it comes out in the order in which it was sent, as many at a time as one likes. */
export function InboxPage() {
  const app = useApp()
  const chat = useChat()
  const [opened, setOpened] = useState<readonly Message[]>([])
  const [busy, setBusy] = useState(false)
  const waiting = byActivity(chat.conversations.values()).filter((conversation) => conversation.unopened > 0)
  const count = Math.min(
    1000,
    waiting.reduce((sum, conversation) => sum + conversation.unopened, 0),
  )

  const open = (amount: number) => {
    setBusy(true)
    void app
      .attempt(async () => {
        const response = await app.call('openInbox', { count: amount })
        setOpened((before) => [...before, ...response.messages])
      })
      .then(() => setBusy(false))
  }
  const remove = (message: Message) =>
    app
      .attempt(() =>
        app.call('deleteMessage', { message: { conversation: message.conversation, seq: message.seq } }),
      )
      .then((done) => done && setOpened((before) => before.filter((other) => other !== message)))

  return (
    <Page title="Inbox">
      <div className="card stack">
        <h2>
          {count === 0
            ? 'You have no new messages'
            : `You have ${countText(count)} new ${count === 1 ? 'message' : 'messages'}`}
        </h2>
        {count > 0 && (
          <div className="row wrap" role="group" aria-label="Open messages">
            <span>Open</span>
            {amounts.map((amount) => (
              <button
                key={amount}
                type="button"
                className="button"
                disabled={busy}
                onClick={() => open(amount)}
              >
                {amount}
              </button>
            ))}
            <button type="button" className="button primary" disabled={busy} onClick={() => open(mostAtOnce)}>
              all
            </button>
          </div>
        )}
        {waiting.length > 0 && (
          <ul className="plain-list">
            {waiting.map((conversation) => (
              <li key={conversation.id} className="list-row">
                <a
                  className="grow ellipsis"
                  href={routeHash({ page: 'conversation', id: conversation.id, seq: null })}
                >
                  {conversationTitle(conversation)}
                </a>
                <span className="badge">{countText(conversation.unopened)}</span>
              </li>
            ))}
          </ul>
        )}
      </div>
      {opened.length > 0 && (
        <section className="stack" aria-label="Opened messages" aria-live="polite">
          {opened.map((message) => {
            const conversation = chat.conversations.get(message.conversation)
            const read = isRead(chat.marks.get(message.conversation), conversation, message, chat.me.id)
            const place = placeText(message, conversation, chat.me.id)
            const mark = read ? 'unread' : 'read'
            return (
              <article key={`${message.conversation}/${message.seq}`} className="card stack">
                <div className="row">
                  <Avatar name={message.senderName} />
                  <div className="grow">
                    <strong>{senderText(message, chat.me.id)}</strong>{' '}
                    <span className="muted small">
                      {place === '' ? '' : `${place}, `}
                      {clockText(message.atMs)}
                    </span>
                  </div>
                  <span className="tag">{read ? 'read' : 'unread'}</span>
                </div>
                <div className="message-text">
                  <MessageText text={message.text} />
                </div>
                <div className="row wrap">
                  <button
                    type="button"
                    className="button tiny"
                    onClick={() =>
                      void app.attempt(() =>
                        app.call('markRead', {
                          conversation: message.conversation,
                          mark: { $case: mark, value: message.seq },
                        }),
                      )
                    }
                  >
                    Mark as {mark}
                  </button>
                  <a
                    className="button tiny"
                    href={routeHash({ page: 'conversation', id: message.conversation, seq: message.seq })}
                  >
                    Show in place
                  </a>
                  <button type="button" className="button tiny danger" onClick={() => void remove(message)}>
                    Delete for me
                  </button>
                </div>
              </article>
            )
          })}
        </section>
      )}
    </Page>
  )
}
