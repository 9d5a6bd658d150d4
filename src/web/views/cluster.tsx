import { useEffect, useState } from 'react'
import { replicaName } from '../../base/ids.ts'
import { watchCluster } from '../cluster-watch.ts'
import type { ClusterView, WatchedReplica } from '../cluster-watch.ts'
import { ClusterControls } from './cluster-controls.tsx'
import { ClusterDrawing } from './cluster-drawing.tsx'
import { Page } from './page.tsx'
import { Plot } from './plot.tsx'
import { useApp, useAppState } from './use-app.ts'

/** The replicas at work: who leads, how far each log is, and what may still fail. */
export function ClusterPage() {
  const app = useApp()
  const { connection } = useAppState()
  const [view, setView] = useState<ClusterView | null>(null)
  const serving = connection.kind === 'connected' || connection.kind === 'noQuorum' ? connection.replica : 0

  useEffect(() => watchCluster(app.addresses(), setView), [app])

  if (view === null) {
    return (
      <Page title="Cluster" wide>
        <div className="empty">Asking the replicas…</div>
      </Page>
    )
  }
  return (
    <Page title="Cluster" wide>
      <p className="cluster-words" role="status">
        <strong>{mayFailText(view)}</strong>{' '}
        <span className="muted">
          {view.leader === 0 ? 'Nobody leads' : `${replicaName(view.leader)} leads`} in term {view.term}.
          {serving !== 0 && ` You are served by ${replicaName(serving)}.`} Fault model {view.faultModel}:{' '}
          {view.assumption}.
          {view.waitingFor.length > 0 &&
            ` Waiting for ${view.waitingFor.map(replicaName).join(' and ')}: nothing can be written without.`}
        </span>
      </p>
      <ClusterDrawing view={view} serving={serving} />
      <ClusterControls view={view} />
      <div className="plots">
        <Plot title="Commands per second" unit="/s" values={view.history.map((sample) => sample.perSecond)} />
        <Plot title="Slowest answer" unit=" ms" values={view.history.map((sample) => sample.answerMs)} />
      </div>
      <div className="scroll-x" tabIndex={0} role="group" aria-label="Replicas in numbers">
        <table>
          <thead>
            <tr>
              {[
                'Replica',
                'Role',
                'Term',
                'Commit',
                'Applied',
                'Log',
                'State',
                'CPU',
                'Memory',
                'Answer',
                'Devices',
                'Address',
              ].map((head) => (
                <th key={head} scope="col">
                  {head}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {view.replicas.map((replica) => (
              <Row key={replica.id} replica={replica} />
            ))}
          </tbody>
        </table>
      </div>
    </Page>
  )
}

function Row({ replica }: { readonly replica: WatchedReplica }) {
  const { own } = replica
  if (own === null) {
    return (
      <tr>
        <th scope="row">{replicaName(replica.id)}</th>
        <td colSpan={10} className="error">
          does not answer
        </td>
        <td className="address">{replica.address}</td>
      </tr>
    )
  }
  return (
    <tr>
      <th scope="row">{replicaName(replica.id)}</th>
      <td>{own.role}</td>
      <td>{own.term}</td>
      <td>{own.commitIndex}</td>
      <td>{own.appliedIndex}</td>
      <td>{bytesText(own.logBytes)}</td>
      <td>{bytesText(own.stateBytes)}</td>
      <td>{Math.round(replica.cpu * 100)} %</td>
      <td>{bytesText(own.residentBytes)}</td>
      <td>{replica.answerMs.toFixed(1)} ms</td>
      <td>{own.connections}</td>
      <td className="address">{replica.address}</td>
    </tr>
  )
}

/** "2 more may fail", and its neighbours. */
function mayFailText(view: ClusterView): string {
  if (view.mayFail < 0 || !view.quorum) {
    const back = Math.max(1, -view.mayFail)
    return `No quorum: read-only until ${back === 1 ? 'one more replica is' : `${back} more replicas are`} back.`
  }
  if (view.mayFail === 0) return 'No more may fail.'
  return view.mayFail === 1 ? '1 more may fail.' : `${view.mayFail} more may fail.`
}

function bytesText(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`
  return `${Math.ceil(bytes / 1e3)} kB`
}
