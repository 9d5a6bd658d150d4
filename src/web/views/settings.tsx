import { useEffect, useState } from 'react'
import type { Policy, Session } from '../../gen/parley/v1/model.ts'
import { Page } from './page.tsx'
import { ActionForm, Field, timeText } from './parts.tsx'
import { RetentionField, retentionOf, secondsOf } from './retention.tsx'
import { useApp, useChat } from './use-app.ts'

export function SettingsPage() {
  const app = useApp()
  const chat = useChat()
  return (
    <Page
      title="Settings"
      tools={
        <button type="button" className="button" onClick={() => void app.attempt(() => app.logOut())}>
          Log out
        </button>
      }
    >
      <Sessions />
      <ChangePassword />
      {chat.me.admin && chat.policy !== null && (
        <Policies key={JSON.stringify(chat.policy)} policy={chat.policy} />
      )}
      <DeleteAccount />
    </Page>
  )
}

function Sessions() {
  const app = useApp()
  const chat = useChat()
  const [sessions, setSessions] = useState<readonly Session[]>([])
  const version = chat.sessionsVersion

  useEffect(() => {
    let current = true
    void app.attempt(async () => {
      const response = await app.call('listSessions', {})
      if (current) setSessions(response.sessions)
    })
    return () => {
      current = false
    }
  }, [app, version])

  return (
    <section className="card stack" aria-labelledby="sessions-title">
      <h2 id="sessions-title">Signed-in devices</h2>
      <ul className="plain-list">
        {sessions.map((session) => (
          <li key={session.id} className="list-row">
            <div className="grow">
              <div className="ellipsis">
                {session.device === '' ? 'Unknown device' : session.device}{' '}
                {session.current && <span className="tag">this one</span>}
              </div>
              <div className="muted small">
                signed in {timeText(session.createdAtMs)}
                {session.online ? ', connected now' : ''}
              </div>
            </div>
            {!session.current && (
              <button
                type="button"
                className="button tiny danger"
                aria-label={`Sign out ${session.device}`}
                onClick={() =>
                  void app
                    .attempt(() => app.call('revokeSession', { session: session.id }))
                    .then((done) => done && setSessions((now) => now.filter((other) => other !== session)))
                }
              >
                Sign out
              </button>
            )}
          </li>
        ))}
      </ul>
    </section>
  )
}

function ChangePassword() {
  const app = useApp()
  const [oldPassword, setOld] = useState('')
  const [newPassword, setNew] = useState('')
  const [again, setAgain] = useState('')
  return (
    <section className="card stack" aria-labelledby="password-title">
      <h2 id="password-title">Password</h2>
      <ActionForm
        label="Change the password"
        disabled={oldPassword === '' || newPassword === ''}
        action={async () => {
          if (newPassword !== again) throw new Error('The two new passwords differ.')
          await app.call('changePassword', { oldPassword, newPassword })
          setOld('')
          setNew('')
          setAgain('')
          app.tell('info', 'Your password was changed. Your other devices were signed out.')
        }}
      >
        <Field
          label="Present password"
          type="password"
          value={oldPassword}
          onChange={setOld}
          autoComplete="current-password"
        />
        <Field
          label="New password"
          type="password"
          value={newPassword}
          onChange={setNew}
          autoComplete="new-password"
        />
        <Field
          label="The new password again"
          type="password"
          value={again}
          onChange={setAgain}
          autoComplete="new-password"
        />
      </ActionForm>
    </section>
  )
}

/** What the form shows, by the names that the request wants. */
const shown = [
  'registration_open',
  'single_session',
  'idle_logout_s',
  'max_message_bytes',
  'messages_per_minute',
]

function Policies({ policy }: { readonly policy: Policy }) {
  const app = useApp()
  const [open, setOpen] = useState(policy.registrationOpen)
  const [single, setSingle] = useState(policy.singleSession)
  const [idle, setIdle] = useState(String(policy.idleLogoutS))
  const [size, setSize] = useState(String(policy.maxMessageBytes))
  const [rate, setRate] = useState(String(policy.messagesPerMinute))
  const [retention, setRetention] = useState(retentionOf(policy.retentionS))
  const save = async () => {
    const retentionS = secondsOf(retention) ?? 0
    await app.call('setPolicy', {
      policy: {
        ...policy,
        registrationOpen: open,
        singleSession: single,
        idleLogoutS: wholeNumber('Idle log-out', idle),
        maxMessageBytes: wholeNumber('Largest message', size),
        messagesPerMinute: wholeNumber('Messages per minute', rate),
        retentionS,
      },
      // While a cluster is upgraded, a retention may not be spoken of.
      fields: [...shown, ...(retentionS === policy.retentionS ? [] : ['retention_s'])],
    })
    app.tell('info', 'The policies were changed, on all replicas.')
  }
  return (
    <section className="card stack" aria-labelledby="policy-title">
      <h2 id="policy-title">Policies of this cluster</h2>
      <ActionForm label="Save the policies" action={save}>
        <label className="row">
          <input type="checkbox" checked={open} onChange={(event) => setOpen(event.target.checked)} />
          Anybody may make an account
        </label>
        <label className="row">
          <input type="checkbox" checked={single} onChange={(event) => setSingle(event.target.checked)} />A
          new sign-in ends the account's other sessions
        </label>
        <Field
          label="Idle log-out, in seconds"
          type="number"
          value={idle}
          onChange={setIdle}
          hint="0 = never; 60 at least"
        />
        <Field
          label="Largest message, in bytes"
          type="number"
          value={size}
          onChange={setSize}
          hint="1 to 65536"
        />
        <Field
          label="Messages per minute and account"
          type="number"
          value={rate}
          onChange={setRate}
          hint="0 = no limit"
        />
        <RetentionField value={retention} onChange={setRetention} />
      </ActionForm>
    </section>
  )
}

function DeleteAccount() {
  const app = useApp()
  const chat = useChat()
  const [typed, setTyped] = useState('')
  return (
    <section className="card stack" aria-labelledby="delete-title">
      <h2 id="delete-title">Delete the account</h2>
      <p className="muted">
        Your messages stay with those you wrote to. Your name is free again. This cannot be undone.
      </p>
      <ActionForm
        label="Delete my account"
        danger
        disabled={typed.toLowerCase() !== chat.me.name.toLowerCase()}
        action={() => app.deleteAccount(typed)}
      >
        <Field label={`Type your name, ${chat.me.name}, to confirm`} value={typed} onChange={setTyped} />
      </ActionForm>
    </section>
  )
}

function wholeNumber(what: string, text: string): number {
  if (!/^[0-9]{1,12}$/.test(text.trim())) throw new Error(`${what}: a whole number, please.`)
  return Number(text)
}
