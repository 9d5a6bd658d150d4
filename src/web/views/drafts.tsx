import { useEffect, useRef, useState } from 'react'
import { fromHex, toHex } from '../../base/bytes.ts'
import type { Draft, DraftOutcome, Target } from '../../gen/parley/v1/model.ts'
import { reasonWords } from '../../client/index.ts'
import type { UnsavedDraft } from '../unsaved-drafts.ts'
import { byActivity, byPresence, conversationTitle, parseTarget, targetText } from '../store/words.ts'
import { Page } from './page.tsx'
import { ActionForm, Modal } from './parts.tsx'
import { useApp, useAppState, useChat } from './use-app.ts'

/** Messages in the making: kept on the server, the same on every device, sent one by one or many in one go. */
export function DraftsPage() {
  const app = useApp()
  const chat = useChat()
  const { unsavedDrafts } = useAppState()
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set())
  const [editing, setEditing] = useState<EditedDraft | null>(null)
  const [outcomes, setOutcomes] = useState<readonly DraftOutcome[]>([])
  const [texts, setTexts] = useState<ReadonlyMap<string, string>>(new Map())
  const [busy, setBusy] = useState(false)
  const unsavedKeys = new Set(unsavedDrafts.map(({ key }) => key))
  const drafts = [...chat.drafts.values()]
    .filter((draft) => !unsavedKeys.has(toHex(draft.id)))
    .sort((a, b) => b.updatedAtMs - a.updatedAtMs)
  const chosen = drafts.filter((draft) => selected.has(toHex(draft.id)))
  const all = drafts.length > 0 && chosen.length === drafts.length

  const toggle = (key: string) => {
    const next = new Set(selected)
    if (!next.delete(key)) next.add(key)
    setSelected(next)
  }
  const act = (work: () => Promise<void>) => {
    setBusy(true)
    void app.attempt(work).then(() => {
      setBusy(false)
      setSelected(new Set())
    })
  }
  const send = () =>
    act(async () => {
      setTexts(new Map(chosen.map((draft) => [toHex(draft.id), draft.text])))
      setOutcomes((await app.call('sendDrafts', { draftIds: chosen.map((draft) => draft.id) })).outcomes)
    })
  const remove = () =>
    act(async () => {
      await app.call('deleteDrafts', { draftIds: chosen.map((draft) => draft.id) })
    })

  return (
    <Page
      title="Drafts"
      tools={
        <button
          type="button"
          className="button primary"
          onClick={() => setEditing({ id: app.newDraftId(), version: 0, text: '', recipients: [] })}
        >
          New draft
        </button>
      }
    >
      {drafts.length > 0 && (
        <div className="row wrap" role="group" aria-label="Selected drafts">
          <label className="row">
            <input
              type="checkbox"
              checked={all}
              onChange={() => setSelected(all ? new Set() : new Set(drafts.map((draft) => toHex(draft.id))))}
            />
            Select all
          </label>
          <span className="grow muted small">{chosen.length === 0 ? '' : `${chosen.length} selected`}</span>
          <button
            type="button"
            className="button primary"
            disabled={chosen.length === 0 || busy}
            onClick={send}
          >
            Send
          </button>
          <button
            type="button"
            className="button danger"
            disabled={chosen.length === 0 || busy}
            onClick={remove}
          >
            Delete
          </button>
        </div>
      )}
      {outcomes.length > 0 && <Outcomes outcomes={outcomes} texts={texts} onClose={() => setOutcomes([])} />}
      {drafts.length === 0 && unsavedDrafts.length === 0 && (
        <div className="empty">
          <p>No drafts. A draft is kept here, on all your devices, until you send it.</p>
        </div>
      )}
      <ul className="plain-list stack">
        {unsavedDrafts.map((unsaved) => (
          <UnsavedRow key={unsaved.key} unsaved={unsaved} onEdit={setEditing} />
        ))}
        {drafts.map((draft) => {
          const key = toHex(draft.id)
          return (
            <li key={key} className="card row">
              <input
                type="checkbox"
                aria-label={`Select the draft ${draft.text.slice(0, 40)}`}
                checked={selected.has(key)}
                onChange={() => toggle(key)}
              />
              <div className="grow">
                <DraftWords {...draft} />
                {draft.conflictOf.length > 0 && (
                  <div className="small error">
                    Another device changed this draft at the same time. This copy keeps the edit that was
                    overtaken.
                  </div>
                )}
              </div>
              <button type="button" className="button tiny" onClick={() => setEditing(draft)}>
                Edit
              </button>
            </li>
          )
        })}
      </ul>
      <Modal
        title={editing?.version === 0 ? 'New draft' : 'Edit the draft'}
        open={editing !== null}
        onClose={() => setEditing(null)}
      >
        {editing !== null && <DraftEditor draft={editing} onClose={() => setEditing(null)} />}
      </Modal>
    </Page>
  )
}

/** The version of one that is new is 0. */
type EditedDraft = Pick<Draft, 'id' | 'version' | 'text'> & { readonly recipients: readonly Target[] }

function DraftWords({ text, recipients }: { readonly text: string; readonly recipients: readonly Target[] }) {
  const chat = useChat()
  const names = recipients.map((target) => targetText(target, chat.conversations)).join(', ')
  return (
    <>
      <div className="ellipsis small muted">to {names === '' ? 'nobody yet' : names}</div>
      <div className="ellipsis">{text === '' ? <span className="muted">(empty)</span> : text}</div>
    </>
  )
}

/** A draft that the cluster has not taken yet. */
function UnsavedRow(props: {
  readonly unsaved: UnsavedDraft
  readonly onEdit: (draft: EditedDraft) => void
}) {
  const app = useApp()
  const isServed = useAppState().connection.kind === 'connected'
  const { key, baseVersion, text, recipients, refused } = props.unsaved
  return (
    <li className="card row">
      <div className="grow">
        <DraftWords text={text} recipients={recipients} />
        {refused === null ? (
          <div className="small warning">
            {isServed ? 'Saving…' : 'Kept on this device; saved when the cluster is back.'}
          </div>
        ) : (
          <div className="small error">Not saved: {refused}</div>
        )}
      </div>
      {refused !== null && (
        <>
          <button
            type="button"
            className="button tiny"
            onClick={() => props.onEdit({ id: fromHex(key), version: baseVersion, text, recipients })}
          >
            Edit
          </button>
          <button
            type="button"
            className="button tiny danger"
            onClick={() => app.discardDraft(props.unsaved)}
          >
            Discard
          </button>
        </>
      )}
    </li>
  )
}

function Outcomes(props: {
  readonly outcomes: readonly DraftOutcome[]
  readonly texts: ReadonlyMap<string, string>
  readonly onClose: () => void
}) {
  const chat = useChat()
  return (
    <section className="card stack" aria-label="What became of the drafts" role="status">
      <div className="row">
        <h2 className="grow">What became of them</h2>
        <button type="button" className="button tiny" onClick={props.onClose}>
          Close
        </button>
      </div>
      <ul className="plain-list">
        {props.outcomes.map((outcome, index) => {
          const to = outcome.recipient === undefined ? '' : targetText(outcome.recipient, chat.conversations)
          const sent = outcome.outcome?.$case === 'sent'
          const direct = !to.startsWith('#')
          const words = sent
            ? direct && !outcome.delivered
              ? 'will be delivered when they sign in'
              : 'delivered'
            : outcome.outcome?.value === 'REASON_ACCOUNT_NOT_FOUND'
              ? 'does not exist, or has deleted their account; kept as a draft'
              : `${outcome.outcome?.$case === 'rejected' ? reasonWords(outcome.outcome.value) : 'not sent'}; kept as a draft`
          return (
            <li key={index} className="list-row results">
              <span className="grow ellipsis">{props.texts.get(toHex(outcome.draftId)) ?? ''}</span>
              <strong>{to}</strong>
              <span className={sent ? 'muted small' : 'error small'}>{words}</span>
            </li>
          )
        })}
      </ul>
    </section>
  )
}

const noRecipient = 'A recipient is the name of an account, or # and the name of a room.'

/** What was typed and not saved: it is still there when the editor was closed by mistake. */
const typedOnly = new Map<string, Pick<EditedDraft, 'text' | 'recipients'>>()

function DraftEditor(props: { readonly draft: EditedDraft; readonly onClose: () => void }) {
  const { draft, onClose } = props
  const app = useApp()
  const chat = useChat()
  // Another account at the same browser does not get to see it.
  const place = `${chat.me.id} ${draft.version === 0 && draft.text === '' ? 'new' : toHex(draft.id)} ${draft.version}`
  const begun = typedOnly.get(place) ?? draft
  const [text, setText] = useState(begun.text)
  const [recipients, setRecipients] = useState(begun.recipients)
  const [typed, setTyped] = useState('')
  const box = useRef<HTMLTextAreaElement>(null)

  useEffect(() => box.current?.focus(), [])
  useEffect(() => void typedOnly.set(place, { text, recipients }), [place, text, recipients])

  const known = [
    ...byActivity(chat.conversations.values())
      .map((conversation) => conversationTitle(conversation))
      .filter((title) => title.startsWith('#')),
    ...byPresence(chat.accounts.values())
      .filter((account) => account.id !== chat.me.id)
      .map((account) => account.name),
  ]
  const chosen = recipients.map((target) => targetText(target, chat.conversations))
  const offered = known
    .filter((name) => !chosen.includes(name) && name.toLowerCase().includes(typed.trim().toLowerCase()))
    .slice(0, 8)
  const exact = known.find((name) => name.toLowerCase() === typed.trim().toLowerCase())
  const add = (names: readonly string[]) => {
    const targets = names.map(parseTarget).filter((target) => target !== null)
    if (targets.length < names.length) app.tell('error', noRecipient)
    setRecipients([...recipients, ...targets])
    setTyped('')
  }
  const save = async () => {
    const left = typed.trim() === '' ? null : parseTarget(typed)
    if (left === null && typed.trim() !== '') throw new Error(noRecipient)
    const saved = await app.saveDraft(draft, text, left === null ? recipients : [...recipients, left])
    typedOnly.delete(place)
    if (saved.kind === 'waiting') app.tell('info', 'Kept on this device; saved when the cluster is back.')
    else if (saved.hasConflictCopy) {
      app.tell(
        'info',
        'Another device had changed this draft. Yours is kept, and so is a copy of the other edit.',
      )
    }
    onClose()
  }

  return (
    <ActionForm action={save} label="Save" disabled={text.trim() === ''}>
      <div className="field">
        <label htmlFor="draft-text">Text</label>
        <textarea
          id="draft-text"
          ref={box}
          className="input"
          rows={5}
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
      </div>
      <div className="field">
        <label htmlFor="draft-to">Recipients</label>
        {recipients.length > 0 && (
          <ul className="plain-list row wrap" aria-label="Chosen recipients">
            {recipients.map((target, index) => {
              const name = chosen[index] ?? ''
              return (
                <li key={name} className="tag row">
                  {name}
                  <button
                    type="button"
                    className="button plain tiny"
                    aria-label={`Remove ${name}`}
                    onClick={() => setRecipients(recipients.filter((other) => other !== target))}
                  >
                    ✕
                  </button>
                </li>
              )
            })}
          </ul>
        )}
        <input
          id="draft-to"
          className="input"
          value={typed}
          autoComplete="off"
          placeholder="a name, or #room"
          onChange={(event) => setTyped(event.target.value)}
          onKeyDown={(event) => {
            if (event.key !== 'Enter' || typed.trim() === '') return
            event.preventDefault()
            add([exact ?? offered[0] ?? typed])
          }}
        />
        <div className="row wrap" role="group" aria-label="Matching recipients">
          {offered.map((name) => (
            <button key={name} type="button" className="button tiny" onClick={() => add([name])}>
              {name}
            </button>
          ))}
          {offered.length > 1 && (
            <button type="button" className="button tiny" onClick={() => add(offered)}>
              all of these
            </button>
          )}
        </div>
      </div>
    </ActionForm>
  )
}
