import { Dialog } from '@base-ui/react/dialog'
import { useId, useState } from 'react'
import type { FormEvent, ReactNode } from 'react'
import { errorText } from '../app.ts'
import { linkParts } from '../store/words.ts'
import { useAppState } from './use-app.ts'

const tones = 6

export function Avatar({ name }: { readonly name: string }) {
  let sum = 0
  for (const letter of name.toLowerCase()) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) >>> 0
  return (
    <span className={`avatar tone${sum % tones}`} aria-hidden="true">
      {name.slice(0, 2).toUpperCase()}
    </span>
  )
}

export function Presence({ online }: { readonly online: boolean }) {
  return (
    <span
      className={online ? 'dot on' : 'dot'}
      role="img"
      aria-label={online ? 'online' : 'offline'}
      title={online ? 'online' : 'offline'}
    />
  )
}

const iconPaths = {
  inbox: 'M3 13h5l2 3h4l2-3h5M5 5h14l2 8v6H3v-6z',
  drafts: 'M4 20h4L19 9l-4-4L4 16zM13 7l4 4',
  people:
    'M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20a6.5 6.5 0 0 1 13 0M16 4.3a3.5 3.5 0 0 1 0 6.4M18 14a6.5 6.5 0 0 1 3.5 6',
  rooms: 'M9 4 7 20M17 4l-2 16M4 9h17M3 15h17',
  search: 'M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM21 21l-5-5',
  settings:
    'M4 7h10M18 7h2M4 17h2M10 17h10M16 9.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM8 19.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5z',
  cluster:
    'M12 8a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM5 22a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM19 22a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM10.500 7.500 6.500 16M13.500 7.500l4 8.500M8 19h8',
  back: 'M15 5l-7 7 7 7',
  more: 'M5 12h.01M12 12h.01M19 12h.01',
  send: 'M4 12 20 4l-5 16-3-7z',
} as const

export type IconName = keyof typeof iconPaths

export function Icon({ name }: { readonly name: IconName }) {
  return (
    <svg className="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={iconPaths[name]} />
    </svg>
  )
}

/** A message's text: web addresses become links that open elsewhere; all else is shown as it is. */
export function MessageText({ text }: { readonly text: string }) {
  return linkParts(text).map((part, index) =>
    part.kind === 'text' ? (
      part.text
    ) : (
      <a key={index} href={part.url} target="_blank" rel="noopener noreferrer nofollow">
        {part.url}
      </a>
    ),
  )
}

export function Field(props: {
  readonly label: string
  readonly value: string
  readonly onChange: (value: string) => void
  readonly type?: 'text' | 'password' | 'number' | 'search'
  readonly hint?: string
  readonly error?: string
  readonly autoComplete?: string
  readonly autoFocus?: boolean
  readonly maxLength?: number
}) {
  const id = useId()
  const told = props.error ?? props.hint
  return (
    <div className="field">
      <label htmlFor={id}>{props.label}</label>
      <input
        id={id}
        className="input"
        type={props.type ?? 'text'}
        value={props.value}
        onChange={(event) => props.onChange(event.target.value)}
        autoComplete={props.autoComplete ?? 'off'}
        autoCapitalize="none"
        spellCheck={false}
        maxLength={props.maxLength}
        ref={props.autoFocus === true ? focusOnce : undefined}
        aria-invalid={props.error !== undefined}
        aria-describedby={told === undefined ? undefined : `${id}-told`}
      />
      {told !== undefined && (
        <span
          id={`${id}-told`}
          className={props.error === undefined ? 'muted small' : 'error small'}
          role={props.error === undefined ? undefined : 'alert'}
        >
          {told}
        </span>
      )}
    </div>
  )
}

function focusOnce(input: HTMLInputElement | null): void {
  input?.focus()
}

/** A form that runs one thing at a time and shows why it did not work. */
export function ActionForm(props: {
  readonly action: () => Promise<void>
  readonly label: string
  readonly busyLabel?: string
  readonly disabled?: boolean
  readonly danger?: boolean
  readonly children: ReactNode
  readonly extra?: ReactNode
}) {
  const isServed = useAppState().connection.kind === 'connected'
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<string | null>(null)
  const submit = (event: FormEvent) => {
    event.preventDefault()
    if (busy || props.disabled === true) return
    setBusy(true)
    setError(null)
    props
      .action()
      .catch((failure: unknown) => setError(errorText(failure)))
      .finally(() => setBusy(false))
  }
  return (
    <form className="stack" onSubmit={submit}>
      {props.children}
      {error !== null && (
        <p className="error" role="alert">
          {error}
        </p>
      )}
      <div className="row wrap">
        <button
          type="submit"
          className={props.danger === true ? 'button danger' : 'button primary'}
          disabled={busy || props.disabled === true}
        >
          {busy ? (isServed ? (props.busyLabel ?? 'One moment…') : 'Waiting for the cluster…') : props.label}
        </button>
        {props.extra}
      </div>
    </form>
  )
}

export function Modal(props: {
  readonly title: string
  readonly open: boolean
  readonly onClose: () => void
  readonly children: ReactNode
}) {
  return (
    <Dialog.Root open={props.open} onOpenChange={(open) => !open && props.onClose()}>
      <Dialog.Portal>
        <Dialog.Backdrop className="backdrop" />
        <Dialog.Popup className="dialog">
          <div className="row">
            <Dialog.Title className="grow">{props.title}</Dialog.Title>
            <Dialog.Close className="button plain tiny" aria-label="Close">
              ✕
            </Dialog.Close>
          </div>
          {props.children}
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  )
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' })
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' })
const dayAndYear = new Intl.DateTimeFormat(undefined, { dateStyle: 'long' })
const dayAndTime = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' })
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' })

export function clockText(atMs: number): string {
  return clock.format(atMs)
}

export function dayText(atMs: number, nowMs: number): string {
  const days = Math.round((startOfDay(nowMs) - startOfDay(atMs)) / 86_400_000)
  if (days === 0) return 'Today'
  if (days === 1) return 'Yesterday'
  return days < 180 ? day.format(atMs) : dayAndYear.format(atMs)
}

export function timeText(atMs: number): string {
  return dayAndTime.format(atMs)
}

export function fullTimeText(atMs: number): string {
  return full.format(atMs)
}

function startOfDay(atMs: number): number {
  return new Date(atMs).setHours(0, 0, 0, 0)
}
