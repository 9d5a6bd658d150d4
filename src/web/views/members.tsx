import { useEffect, useState } from 'react'
import { ConversationKind } from '../../gen/parley/v1/model.ts'
import type { Account, Conversation } from '../../gen/parley/v1/model.ts'
import { conversationTarget } from '../app.ts'
import { conversationTitle } from '../store/words.ts'
import { ActionForm, Field, Modal, Presence } from './parts.tsx'
import { RoomRetention } from './retention.tsx'
import { useApp } from './use-app.ts'

export function MembersDialog(props: {
  readonly conversation: Conversation
  readonly open: boolean
  readonly onClose: () => void
}) {
  const { conversation } = props
  return (
    <Modal title={`Members of ${conversationTitle(conversation)}`} open={props.open} onClose={props.onClose}>
      <Members conversation={conversation} onClose={props.onClose} />
    </Modal>
  )
}

function Members({
  conversation,
  onClose,
}: {
  readonly conversation: Conversation
  readonly onClose: () => void
}) {
  const app = useApp()
  const [members, setMembers] = useState<readonly Account[] | null>(null)
  const [name, setName] = useState('')
  const isRoom = conversation.kind === ConversationKind.ROOM

  useEffect(() => {
    let current = true
    void app.attempt(async () => {
      const page = await app.call('listMembers', {
        conversation: conversationTarget(conversation.id),
        pageSize: 500,
      })
      if (current) setMembers(page.members)
    })
    return () => {
      current = false
    }
  }, [app, conversation.id, conversation.members])

  return (
    <div className="stack">
      {isRoom && (
        <ActionForm
          label="Invite"
          disabled={name.trim() === ''}
          action={async () => {
            await app.call('inviteToRoom', { name: conversation.name, account: name.trim() })
            app.tell('info', `${name.trim()} is a member of ${conversationTitle(conversation)} now.`)
            setName('')
          }}
        >
          <Field label="Invite somebody" value={name} onChange={setName} hint="Their account's name" />
        </ActionForm>
      )}
      {members === null ? (
        <p className="muted">Loading…</p>
      ) : (
        <ul className="plain-list">
          {members.map((member) => (
            <li key={member.id} className="list-row">
              <Presence online={member.online} />
              <span className="grow">{member.name}</span>
              {member.id === conversation.owner && <span className="tag">owner</span>}
            </li>
          ))}
        </ul>
      )}
      {isRoom && <RoomRetention key={conversation.retentionS} room={conversation} />}
      {isRoom && (
        <button
          type="button"
          className="button danger"
          onClick={() =>
            void app
              .attempt(() => app.call('leaveRoom', { name: conversation.name }))
              .then((left) => {
                if (!left) return
                onClose()
                app.go({ page: 'home' })
              })
          }
        >
          Leave the room
        </button>
      )}
    </div>
  )
}
