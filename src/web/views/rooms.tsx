import { useEffect, useState } from 'react'
import type { Conversation } from '../../gen/parley/v1/model.ts'
import { Page } from './page.tsx'
import { ActionForm, Field, Modal } from './parts.tsx'
import { useApp, useChat } from './use-app.ts'

export function RoomsPage() {
  const app = useApp()
  const chat = useChat()
  const [typed, setTyped] = useState('')
  const [rooms, setRooms] = useState<readonly Conversation[] | null>(null)
  const [making, setMaking] = useState(false)
  const wanted = typed.trim().replace(/^#/, '')

  useEffect(() => {
    let current = true
    void app.attempt(async () => {
      const page = await app.call('listRooms', { pattern: wanted === '' ? '' : `*${wanted}*`, pageSize: 200 })
      if (current) setRooms(page.rooms)
    })
    return () => {
      current = false
    }
    // The list is asked for again when one of one's own rooms has come or gone.
  }, [app, wanted, chat.conversations.size])

  const join = (room: Conversation) =>
    app.attempt(async () => {
      if (!room.member) await app.call('joinRoom', { name: room.name })
      app.go(await app.find({ target: { $case: 'room', value: room.name } }))
    })

  return (
    <Page
      title="Rooms"
      tools={
        <button type="button" className="button primary" onClick={() => setMaking(true)}>
          New room
        </button>
      }
    >
      <Field label="Find" type="search" value={typed} onChange={setTyped} />
      {rooms === null && <p className="muted">Loading…</p>}
      {rooms?.length === 0 && (
        <div className="empty">
          {wanted === '' ? 'No rooms yet. Make the first one.' : `No room has "${wanted}" in its name.`}
        </div>
      )}
      <ul className="plain-list">
        {rooms?.map((room) => (
          <li key={room.id} className="list-row">
            <div className="grow">
              <div className="ellipsis">
                <strong>#{room.name}</strong> {room.private && <span className="tag">private</span>}
              </div>
              <div className="muted small ellipsis">
                {room.members === 1 ? '1 member' : `${room.members} members`}
                {room.topic !== '' && ` · ${room.topic}`}
              </div>
            </div>
            <button type="button" className="button tiny" onClick={() => void join(room)}>
              {room.member ? 'Open' : 'Join'}
            </button>
          </li>
        ))}
      </ul>
      <Modal title="New room" open={making} onClose={() => setMaking(false)}>
        <NewRoom onDone={() => setMaking(false)} />
      </Modal>
    </Page>
  )
}

function NewRoom({ onDone }: { readonly onDone: () => void }) {
  const app = useApp()
  const [name, setName] = useState('')
  const [topic, setTopic] = useState('')
  const [isPrivate, setPrivate] = useState(false)
  return (
    <ActionForm
      label="Make the room"
      disabled={name.trim() === ''}
      action={async () => {
        const room = name.trim().replace(/^#/, '')
        await app.call('createRoom', { name: room, topic: topic.trim(), private: isPrivate })
        app.go(await app.find({ target: { $case: 'room', value: room } }))
        onDone()
      }}
    >
      <Field
        label="Name"
        value={name}
        onChange={setName}
        autoFocus
        hint="1 to 50 characters: letters without accents, digits, _ and -"
      />
      <Field label="Topic" value={topic} onChange={setTopic} hint="What it is about; may stay empty" />
      <label className="row">
        <input type="checkbox" checked={isPrivate} onChange={(event) => setPrivate(event.target.checked)} />
        Private: not listed, entered by invitation only
      </label>
    </ActionForm>
  )
}
