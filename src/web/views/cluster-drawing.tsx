import { replicaName } from '../../base/ids.ts'
import type { ClusterView, WatchedReplica } from '../cluster-watch.ts'

const size = 420
const radius = 150

/** The replicas on a circle: the leader's links to the others, how far each has applied the log, who is gone. */
export function ClusterDrawing({ view, serving }: { readonly view: ClusterView; readonly serving: number }) {
  const places = new Map(
    view.replicas.map((replica, index) => [replica.id, placeOf(index, view.replicas.length)]),
  )
  const newest = Math.max(1, ...view.replicas.map((replica) => replica.own?.lastIndex ?? 0))
  const leader = places.get(view.leader)
  const words = view.replicas
    .map((replica) => `${replicaName(replica.id)}: ${replica.own?.role ?? 'does not answer'}`)
    .join(', ')
  return (
    <svg className="drawing" viewBox={`0 0 ${size} ${size}`} role="img" aria-label={words}>
      {leader !== undefined &&
        view.replicas.map((replica) => {
          const place = places.get(replica.id)
          if (place === undefined || replica.id === view.leader) return null
          const alive = replica.own !== null
          return (
            <g key={replica.id}>
              <line
                className={alive ? 'link' : 'link broken'}
                x1={leader.x}
                y1={leader.y}
                x2={place.x}
                y2={place.y}
              />
              {alive && replica.perSecond > 0.5 && (
                <circle className="packet" r="4">
                  <animateMotion
                    dur="0.8s"
                    repeatCount="indefinite"
                    path={`M${leader.x},${leader.y} L${place.x},${place.y}`}
                  />
                </circle>
              )}
            </g>
          )
        })}
      {view.replicas.map((replica) => {
        const place = places.get(replica.id)
        return place === undefined ? null : (
          <ReplicaMark
            key={replica.id}
            replica={replica}
            x={place.x}
            y={place.y}
            newest={newest}
            serving={replica.id === serving}
          />
        )
      })}
    </svg>
  )
}

function ReplicaMark(props: {
  readonly replica: WatchedReplica
  readonly x: number
  readonly y: number
  readonly newest: number
  readonly serving: boolean
}) {
  const { replica, x, y } = props
  const role = replica.own?.role ?? 'gone'
  const behind = props.newest - (replica.own?.appliedIndex ?? 0)
  const share = replica.own === null ? 0 : 1 - Math.min(1, behind / Math.max(50, props.newest))
  const around = 2 * Math.PI * 40
  return (
    <g className={`replica ${role}`} transform={`translate(${x} ${y})`}>
      {props.serving && <circle className="serving" r="49" />}
      <circle className="disc" r="40" />
      <circle
        className="progress"
        r="40"
        transform="rotate(-90)"
        strokeDasharray={`${around * share} ${around}`}
      />
      <text className="name" y="-2">
        {replicaName(replica.id)}
      </text>
      <text className="role" y="15">
        {role}
      </text>
      {replica.own !== null && (
        <text className="behind" y="64">
          {behind <= 2 ? 'in step' : `${behind} behind`}
        </text>
      )}
    </g>
  )
}

function placeOf(index: number, count: number): { readonly x: number; readonly y: number } {
  const angle = (index / count) * 2 * Math.PI - Math.PI / 2
  return {
    x: Math.round(size / 2 + (count === 1 ? 0 : radius) * Math.cos(angle)),
    y: Math.round(size / 2 - 8 + (count === 1 ? 0 : radius) * Math.sin(angle)),
  }
}
