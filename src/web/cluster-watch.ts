import { addressBeside, createClient } from '../client/index.ts'
import type { Client } from '../client/index.ts'
import type { GetStatusResponse, ReplicaStatus } from '../gen/parley/v1/service.ts'

/** One replica as it tells of itself. */
export interface WatchedReplica {
  readonly id: number
  readonly address: string
  /** Null while it does not answer. */
  readonly own: ReplicaStatus | null
  /** How long the newest question took, in milliseconds. */
  readonly answerMs: number
  /** Commands that it applied in the last second. */
  readonly perSecond: number
  /** Share of a core in the last second, 0 to 1 and more. */
  readonly cpu: number
}

export interface ClusterView {
  readonly replicas: readonly WatchedReplica[]
  readonly leader: number
  readonly term: number
  readonly mayFail: number
  readonly quorum: boolean
  readonly faultModel: string
  /** What the cluster survives and rests on. */
  readonly assumption: string
  /** Replicas without which nothing goes on. */
  readonly waitingFor: readonly number[]
  /** One sample a second, the oldest first: what the busiest replica applied, and the slowest answer of those that answer. */
  readonly history: readonly { readonly perSecond: number; readonly answerMs: number }[]
}

const intervalMs = 1000
const historySamples = 90

interface Asked {
  readonly client: Client
  readonly address: string
  status: GetStatusResponse | null
  own: ReplicaStatus | null
  askedAtMs: number
  answerMs: number
  perSecond: number
  cpu: number
  waiting: boolean
}

/**
 * Asks every replica itself how it is, once a second, each over its own connection.
 *
 * @returns what ends it.
 */
export function watchCluster(start: readonly string[], show: (view: ClusterView) => void): () => void {
  const asked = new Map<string, Asked>()
  let history: ClusterView['history'] = []
  const know = (address: string) => {
    if (asked.has(address)) return
    const client = createClient({ addresses: [address], discover: false })
    asked.set(address, {
      client,
      address,
      status: null,
      own: null,
      askedAtMs: 0,
      answerMs: 0,
      perSecond: 0,
      cpu: 0,
      waiting: false,
    })
  }
  const ask = (one: Asked) => {
    if (one.waiting) return
    one.waiting = true
    // One that was away is asked each time anew, without the back-off that a client grants it.
    if (one.own === null) one.client.wake()
    const askedAtMs = performance.now()
    one.client
      .call('getStatus', {}, { timeoutMs: intervalMs * 0.9, read: 'local' })
      .then((status) => {
        const own = status.replicas.find((replica) => replica.id === status.replica) ?? null
        const sinceMs = askedAtMs - one.askedAtMs
        const same = one.own !== null && own !== null && one.own.pid === own.pid && sinceMs > 0
        one.perSecond =
          same && one.own !== null && own !== null
            ? ((own.appliedCommands - one.own.appliedCommands) * 1000) / sinceMs
            : 0
        one.cpu = same && one.own !== null && own !== null ? (own.cpuUs - one.own.cpuUs) / 1000 / sinceMs : 0
        one.status = status
        one.own = own
        one.askedAtMs = askedAtMs
        one.answerMs = performance.now() - askedAtMs
        for (const { httpAddress } of status.replicas)
          if (httpAddress !== '') know(addressBeside(one.address, httpAddress))
      })
      .catch(() => {
        one.own = null
        one.perSecond = 0
        one.cpu = 0
      })
      .finally(() => (one.waiting = false))
  }
  const round = () => {
    const view = viewOf([...asked.values()], history)
    if (view !== null) {
      history = view.history
      show(view)
    }
    for (const one of asked.values()) ask(one)
  }
  for (const address of start) know(address)
  round()
  const timer = setInterval(round, intervalMs)
  return () => {
    clearInterval(timer)
    for (const one of asked.values()) one.client.close()
  }
}

function viewOf(asked: readonly Asked[], history: ClusterView['history']): ClusterView | null {
  // The answer of the newest term knows best; among those, the leader's.
  const answers = asked
    .filter((one) => one.own !== null && one.status !== null)
    .sort(
      (a, b) =>
        (b.own?.term ?? 0) - (a.own?.term ?? 0) ||
        Number(b.own?.role === 'leader') - Number(a.own?.role === 'leader'),
    )
  const newest = answers[0]?.status ?? asked.find((one) => one.status !== null)?.status
  if (newest === null || newest === undefined) return null
  const replicas = newest.replicas.map((replica): WatchedReplica => {
    const one = asked.find(({ address }) => address === addressBeside(address, replica.httpAddress))
    return {
      id: replica.id,
      address: replica.httpAddress,
      own: one?.own ?? null,
      answerMs: one?.answerMs ?? 0,
      perSecond: one?.perSecond ?? 0,
      cpu: one?.cpu ?? 0,
    }
  })
  const alive = replicas.filter((replica) => replica.own !== null)
  const voters = newest.replicas.filter((replica) => replica.voter)
  const quorum = newest.faultModel === 'fail-stop' ? voters.length : Math.floor(voters.length / 2) + 1
  const votersAlive = voters.filter((voter) => alive.some((replica) => replica.id === voter.id)).length
  return {
    replicas,
    leader: alive.find((replica) => replica.own?.role === 'leader')?.id ?? 0,
    term: Math.max(0, ...alive.map((replica) => replica.own?.term ?? 0)),
    mayFail: answers.length > 0 ? newest.mayFail : votersAlive - quorum,
    quorum: alive.some((replica) => replica.own?.role === 'leader') && newest.quorum,
    faultModel: newest.faultModel,
    assumption: newest.assumption,
    waitingFor: newest.quorum ? [] : newest.waitingFor,
    history: [
      ...history.slice(1 - historySamples),
      {
        perSecond: Math.max(0, ...alive.map((replica) => replica.perSecond)),
        answerMs: Math.max(0, ...alive.map((replica) => replica.answerMs)),
      },
    ],
  }
}
