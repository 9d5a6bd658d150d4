import { useRef, useState } from 'react'
import { replicaName } from '../../base/ids.ts'
import type { ClusterView, WatchedReplica } from '../cluster-watch.ts'
import { controlOf } from '../control.ts'
import type { Control, ControlAction } from '../control.ts'
import { useApp, useAppState } from './use-app.ts'

/** Kill, stop and start replicas, on a cluster of this machine; and a guided tour of losing two of five. */
export function ClusterControls({ view }: { readonly view: ClusterView }) {
  const app = useApp()
  const control = controlOf(sessionStorage)
  if (control === null) {
    return (
      <p className="muted small">
        Replicas can be killed and started from here on a cluster of this machine: open the address that{' '}
        <code>parley up</code> prints.
      </p>
    )
  }
  const act = (replica: WatchedReplica, what: ControlAction) =>
    void app.attempt(() => control.act(replicaName(replica.id), what))
  return (
    <>
      <ul className="plain-list controls" aria-label="Replicas">
        {view.replicas.map((replica) => (
          <li key={replica.id} className="card row">
            <strong className="grow">{replicaName(replica.id)}</strong>
            {replica.own === null ? (
              <button type="button" className="button tiny" onClick={() => act(replica, 'start')}>
                Start
              </button>
            ) : (
              <>
                <button type="button" className="button tiny" onClick={() => act(replica, 'stop')}>
                  Stop
                </button>
                <button type="button" className="button tiny danger" onClick={() => act(replica, 'kill')}>
                  Kill
                </button>
              </>
            )}
          </li>
        ))}
      </ul>
      <Tour view={view} control={control} />
    </>
  )
}

const scripted = [
  'Is everybody here?',
  'All five of us.',
  'Then let us lose one.',
  'Did anything happen?',
  'Not that I noticed.',
  'And another one, please.',
  'Three are enough to agree.',
  'Every line is still here, once and in order.',
]
const tourRoom = 'tour'

/** Sends a scripted conversation while it kills the leader and one more replica, and then brings both back. */
function Tour({ view, control }: { readonly view: ClusterView; readonly control: Control }) {
  const app = useApp()
  const { outbox } = useAppState()
  const [lines, setLines] = useState<readonly string[]>([])
  const [running, setRunning] = useState(false)
  const newest = useRef(view)
  newest.current = view

  const say = (line: string) => setLines((before) => [...before, line])
  const run = async () => {
    const killed: WatchedReplica[] = []
    const kill = async (replica: WatchedReplica | undefined) => {
      if (replica === undefined) return
      killed.push(replica)
      await control.act(replicaName(replica.id), 'kill')
      say(`${replicaName(replica.id)} (${replica.own?.role ?? 'gone'}) was killed.`)
    }
    try {
      const found = await app.find({ target: { $case: 'room', value: tourRoom } }).catch(() => null)
      if (found === null) await app.call('createRoom', { name: tourRoom, topic: 'Watch replicas die' })
      for (const [at, text] of scripted.entries()) {
        const startedAtMs = performance.now()
        await app.call('sendMessage', { to: { target: { $case: 'room', value: tourRoom } }, text })
        say(`Sent: "${text}" (acknowledged after ${Math.round(performance.now() - startedAtMs)} ms)`)
        if (at === 2)
          await kill(newest.current.replicas.find((replica) => replica.id === newest.current.leader))
        if (at === 5) {
          await kill(
            newest.current.replicas.find(
              (replica) =>
                replica.own !== null && replica.id === newest.current.leader && !killed.includes(replica),
            ) ??
              newest.current.replicas.find(
                (replica) => replica.own !== null && !killed.some((one) => one.id === replica.id),
              ),
          )
        }
        await pause(1200)
      }
    } finally {
      for (const replica of killed) {
        await control.act(replicaName(replica.id), 'start').catch((error: unknown) => say(String(error)))
        say(`${replicaName(replica.id)} was started again.`)
      }
    }
  }

  const alive = view.replicas.filter((replica) => replica.own !== null).length
  return (
    <section className="card stack" aria-label="Guided tour">
      <div className="row wrap">
        <p className="grow">Watch two of five die while a conversation goes on.</p>
        <button
          type="button"
          className="button primary"
          disabled={running || alive < view.replicas.length || view.replicas.length < 5 || outbox.length > 0}
          onClick={() => {
            setLines([])
            setRunning(true)
            void app.attempt(run).then(() => setRunning(false))
          }}
        >
          {running ? 'Running…' : 'Start the tour'}
        </button>
      </div>
      {lines.length > 0 && (
        <ol className="tour" aria-live="polite">
          {lines.map((line, index) => (
            <li key={index}>{line}</li>
          ))}
        </ol>
      )}
    </section>
  )
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
