import { useEffect, useState } from 'react'
import { byPresence } from '../store/words.ts'
import { Page } from './page.tsx'
import { Field, Presence } from './parts.tsx'
import { useApp, useChat } from './use-app.ts'

const mostShown = 200

export function PeoplePage() {
  const app = useApp()
  const chat = useChat()
  const [typed, setTyped] = useState('')
  const wanted = typed.trim().toLowerCase()

  useEffect(() => {
    void app.attempt(() => app.reloadAccounts(wanted === '' ? '' : `*${wanted}*`))
  }, [app, wanted])

  const people = byPresence(chat.accounts.values()).filter((account) =>
    account.name.toLowerCase().includes(wanted),
  )
  return (
    <Page title="People">
      <Field
        label="Find"
        type="search"
        value={typed}
        onChange={setTyped}
        hint={`${people.length} ${people.length === 1 ? 'person' : 'people'}`}
      />
      <ul className="plain-list">
        {people.slice(0, mostShown).map((account) => (
          <li key={account.id} className="list-row">
            <Presence online={account.online} />
            <span className="grow ellipsis">
              {account.name}
              {account.id === chat.me.id && <span className="muted"> (you)</span>}
            </span>
            {account.admin && <span className="tag">administrator</span>}
            {account.id !== chat.me.id && (
              <button
                type="button"
                className="button tiny"
                onClick={() =>
                  void app.attempt(async () =>
                    app.go(await app.find({ target: { $case: 'account', value: account.name } })),
                  )
                }
              >
                Write
              </button>
            )}
          </li>
        ))}
      </ul>
      {people.length > mostShown && (
        <p className="muted">{people.length - mostShown} more: type a few letters to find them.</p>
      )}
    </Page>
  )
}
