import { useEffect, useRef, useState } from 'react'
import type { KeyboardEvent } from 'react'
import type { Message } from '../../gen/parley/v1/model.ts'
import { Icon } from './parts.tsx'
import { useApp, useChat } from './use-app.ts'

/** The box in which a message is written, or an own one is edited. */
export function Composer(props: {
  readonly place: string
  readonly label: string
  readonly onSend: (text: string) => void
  readonly lastOwn: Message | null
  readonly editing: Message | null
  readonly onEdit: (message: Message | null) => void
}) {
  const app = useApp()
  const chat = useChat()
  const { editing } = props
  // Another account at the same browser does not get to see it.
  const place = `${chat.me.id} ${props.place}`
  const [text, setText] = useState(app.unsent.get(place))
  const box = useRef<HTMLTextAreaElement>(null)
  const limit = chat.policy?.maxMessageBytes ?? 16_384
  const bytes = text.length * 3 > limit ? new TextEncoder().encode(text).length : 0

  useEffect(() => {
    if (editing !== null) setText(editing.text)
    // On a phone the keyboard would cover half of what one came to read.
    if (editing !== null || !matchMedia('(hover: none)').matches) box.current?.focus({ preventScroll: true })
  }, [editing])

  const change = (value: string) => {
    setText(value)
    if (editing === null) app.unsent.set(place, value)
  }
  const stopEditing = () => {
    props.onEdit(null)
    setText(app.unsent.get(place))
  }
  const submit = () => {
    if (text.trim() === '' || bytes > limit) return
    if (editing === null) {
      props.onSend(text)
      change('')
      return
    }
    const message = { conversation: editing.conversation, seq: editing.seq }
    void app.attempt(() => app.call('editMessage', { message, text })).then((done) => done && stopEditing())
  }
  const onKey = (event: KeyboardEvent) => {
    // While an input method composes a character, Enter belongs to it.
    if (event.nativeEvent.isComposing) return
    if (event.key === 'Enter' && !event.shiftKey) submit()
    else if (event.key === 'Escape' && !event.shiftKey && editing !== null) stopEditing()
    else if (event.key === 'ArrowUp' && text === '' && props.lastOwn !== null) props.onEdit(props.lastOwn)
    else return
    event.preventDefault()
  }

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault()
        submit()
      }}
    >
      <div className="grow stack">
        {editing !== null && (
          <div className="row small">
            <span className="grow muted">Editing your message</span>
            <button type="button" className="button tiny" onClick={stopEditing}>
              Stop editing
            </button>
          </div>
        )}
        <textarea
          ref={box}
          className="input"
          rows={1}
          aria-label={editing === null ? props.label : 'Edited text'}
          placeholder={props.label}
          value={text}
          onChange={(event) => change(event.target.value)}
          onKeyDown={onKey}
        />
        {bytes > limit && (
          <span className="error small" role="alert">
            {bytes} bytes: a message has at most {limit}.
          </span>
        )}
      </div>
      <button
        type="submit"
        className="button primary"
        disabled={text.trim() === '' || bytes > limit}
        aria-label={editing === null ? 'Send' : 'Save'}
      >
        <Icon name="send" />
      </button>
    </form>
  )
}
