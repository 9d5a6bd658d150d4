import { Menu } from '@base-ui/react/menu'
import { memo, useState } from 'react'
import type { OutboxItem } from '../../client/index.ts'
import type { Message } from '../../gen/parley/v1/model.ts'
import { Avatar, clockText, fullTimeText, Icon, MessageText } from './parts.tsx'
import { useApp, useChat } from './use-app.ts'

/** Hundreds of them are on the page: one is drawn again only when it has changed. */
export const MessageRow = memo(function MessageRow(props: {
  readonly message: Message
  /** The first of a run of one sender: with name and time. */
  readonly head: boolean
  readonly mine: boolean
  readonly read: boolean
  readonly found: boolean
  /** What became of it, under the newest own message of a direct conversation. */
  readonly fate: string | null
  readonly onEdit: (message: Message) => void
}) {
  const { message, head } = props
  return (
    <article
      className={`message${head ? ' head' : ''}${props.found ? ' found' : ''}`}
      data-seq={message.seq}
      aria-label={`${message.senderName}, ${clockText(message.atMs)}`}
    >
      {head && (
        <>
          <Avatar name={message.senderName} />
          <div>
            <span className="who">{message.senderName}</span>{' '}
            <time
              className="when"
              dateTime={new Date(message.atMs).toISOString()}
              title={fullTimeText(message.atMs)}
            >
              {clockText(message.atMs)}
            </time>
          </div>
        </>
      )}
      {message.deleted ? (
        <div className="text gone">This message was deleted.</div>
      ) : (
        <div className="text">
          <MessageText text={message.text} />
          {message.editedAtMs > 0 && (
            <span className="when" title={fullTimeText(message.editedAtMs)}>
              {' '}
              (edited)
            </span>
          )}
          {!props.read && <span className="when"> · unread</span>}
        </div>
      )}
      {props.fate !== null && <div className="when">{props.fate}</div>}
      <div className="tools">
        <MessageMenu {...props} />
      </div>
    </article>
  )
})

function MessageMenu(props: {
  readonly message: Message
  readonly mine: boolean
  readonly read: boolean
  readonly onEdit: (message: Message) => void
}) {
  // Hundreds of menus would make a long history slow: each begins as a plain button.
  const [wanted, setWanted] = useState(false)
  const label = `Actions for the message of ${props.message.senderName}`
  if (wanted) return <OpenedMenu {...props} label={label} />
  return (
    <button
      type="button"
      className="button plain tiny"
      aria-haspopup="menu"
      aria-label={label}
      onClick={() => setWanted(true)}
    >
      <Icon name="more" />
    </button>
  )
}

function OpenedMenu(props: {
  readonly message: Message
  readonly mine: boolean
  readonly read: boolean
  readonly label: string
  readonly onEdit: (message: Message) => void
}) {
  const app = useApp()
  const { message, mine, read } = props
  const ref = { conversation: message.conversation, seq: message.seq }
  const mark = (kind: 'read' | 'unread') =>
    app.attempt(() =>
      app.call('markRead', { conversation: message.conversation, mark: { $case: kind, value: message.seq } }),
    )
  const remove = (forAll: boolean) => app.attempt(() => app.call('deleteMessage', { message: ref, forAll }))
  return (
    <Menu.Root defaultOpen>
      <Menu.Trigger className="button plain tiny" aria-label={props.label}>
        <Icon name="more" />
      </Menu.Trigger>
      <Menu.Portal>
        <Menu.Positioner align="end" sideOffset={4}>
          <Menu.Popup className="menu">
            {!message.deleted && (
              <Menu.Item
                className="menu-item"
                onClick={() => void app.attempt(() => navigator.clipboard.writeText(message.text))}
              >
                Copy the text
              </Menu.Item>
            )}
            {mine && !message.deleted && (
              <Menu.Item className="menu-item" onClick={() => props.onEdit(message)}>
                Edit
              </Menu.Item>
            )}
            {!mine && (
              <Menu.Item className="menu-item" onClick={() => void mark(read ? 'unread' : 'read')}>
                {read ? 'Mark as unread' : 'Mark as read'}
              </Menu.Item>
            )}
            <Menu.Item className="menu-item" onClick={() => void remove(false)}>
              Delete for me
            </Menu.Item>
            {mine && !message.deleted && (
              <Menu.Item className="menu-item error" onClick={() => void remove(true)}>
                Delete for all
              </Menu.Item>
            )}
          </Menu.Popup>
        </Menu.Positioner>
      </Menu.Portal>
    </Menu.Root>
  )
}

/** A message that is not known to be sent. */
export function PendingRow({ item }: { readonly item: OutboxItem }) {
  const app = useApp()
  const chat = useChat()
  const { status } = item
  return (
    <article
      className="message head pending"
      aria-label={`${chat.me.name}, ${status.kind === 'pending' ? 'pending' : 'not sent'}`}
    >
      <Avatar name={chat.me.name} />
      <div>
        <span className="who">{chat.me.name}</span>{' '}
        {status.kind === 'pending' ? (
          <span className="when">sending…</span>
        ) : (
          <span className="error small">not sent: {status.message}</span>
        )}
      </div>
      <div className="text">
        <MessageText text={item.text} />
      </div>
      {status.kind === 'failed' && (
        <div className="row">
          <button type="button" className="button tiny" onClick={() => app.retry(item.key)}>
            Try again
          </button>
          <button type="button" className="button tiny danger" onClick={() => app.discard(item)}>
            Discard
          </button>
        </div>
      )}
    </article>
  )
}
