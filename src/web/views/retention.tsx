import { useId, useState } from 'react'
import type { Conversation } from '../../gen/parley/v1/model.ts'
import { conversationTitle } from '../store/words.ts'
import { durationParts, durationUnits, keptText, type DurationUnit } from '../store/durations.ts'
import { ActionForm } from './parts.tsx'
import { useApp, useChat } from './use-app.ts'

/** How long messages are kept, while it is being chosen. */
export interface Retention {
  /** `policy`: a room has none of its own. */
  readonly kept: 'forever' | 'policy' | 'limited'
  readonly count: string
  readonly unit: DurationUnit
}

/** @param retentionS 0 = for ever; absent: as the policy says. */
export function retentionOf(retentionS: number | undefined): Retention {
  const { count, unit } = durationParts(
    retentionS === undefined || retentionS === 0 ? 86_400 * 30 : retentionS,
  )
  const kept = retentionS === undefined ? 'policy' : retentionS === 0 ? 'forever' : 'limited'
  return { kept, count: String(count), unit }
}

/** In seconds, as `retentionOf` takes it. */
export function secondsOf({ kept, count, unit }: Retention): number | undefined {
  if (kept === 'policy') return undefined
  if (kept === 'forever') return 0
  if (!/^[0-9]{1,6}$/.test(count.trim()) || Number(count) === 0)
    throw new Error(`How long messages are kept: a whole number of ${unit}, at least 1.`)
  return Number(count) * durationUnits[unit]
}

/** @param policyS given when it may be left to the policy: what that says. */
export function RetentionField(props: {
  readonly value: Retention
  readonly onChange: (value: Retention) => void
  readonly policyS?: number
}) {
  const { value, onChange, policyS } = props
  const id = useId()
  return (
    <div className="field">
      <label htmlFor={id}>Messages are kept</label>
      <div className="row wrap">
        <select
          id={id}
          className="input short"
          value={value.kept}
          aria-describedby={`${id}-told`}
          onChange={(event) => onChange({ ...value, kept: keptOf(event.target.value) })}
        >
          {policyS !== undefined && <option value="policy">as the policy says ({keptText(policyS)})</option>}
          <option value="forever">for ever</option>
          <option value="limited">for a time</option>
        </select>
        {value.kept === 'limited' && (
          <>
            <input
              className="input number"
              type="number"
              aria-label="How long"
              value={value.count}
              onChange={(event) => onChange({ ...value, count: event.target.value })}
            />
            <select
              className="input short"
              aria-label="Unit of time"
              value={value.unit}
              onChange={(event) => onChange({ ...value, unit: unitOf(event.target.value) })}
            >
              {Object.keys(durationUnits).map((unit) => (
                <option key={unit}>{unit}</option>
              ))}
            </select>
          </>
        )}
      </div>
      <span id={`${id}-told`} className="muted small">
        Older ones are removed for good, on all replicas.
      </span>
    </div>
  )
}

/** For the owner of a room, and for administrators; others are told how it is. */
export function RoomRetention({ room }: { readonly room: Conversation }) {
  const app = useApp()
  const { me, policy } = useChat()
  const [value, setValue] = useState(retentionOf(room.retentionS))
  const policyS = policy?.retentionS ?? 0
  if (room.owner !== me.id && !me.admin)
    return <p className="muted">Messages are kept {keptText(room.retentionS ?? policyS)}.</p>
  return (
    <ActionForm
      label="Save"
      action={async () => {
        const retentionS = secondsOf(value)
        await app.call('setRoomRetention', {
          name: room.name,
          ...(retentionS === undefined ? {} : { retentionS }),
        })
        app.tell(
          'info',
          `Messages of ${conversationTitle(room)} are kept ${keptText(retentionS ?? policyS)} from now on.`,
        )
      }}
    >
      <RetentionField value={value} onChange={setValue} policyS={policyS} />
    </ActionForm>
  )
}

function keptOf(text: string): Retention['kept'] {
  return text === 'policy' || text === 'limited' ? text : 'forever'
}

function unitOf(text: string): DurationUnit {
  return text === 'minutes' || text === 'hours' ? text : 'days'
}
