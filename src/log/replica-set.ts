import { unreachable } from '../base/assert.ts'
import { pause, type Clock } from '../base/clock.ts'
import type { ReplicaId } from '../base/ids.ts'
import { highestIdOf } from '../raft/configurations.ts'
import type { ChangeRefusal, Configuration, ConfigurationChange } from '../raft/types.ts'
import type { ReplicaSetChange, ReplicaSetRefusal, ReplicaSetResult } from './port.ts'

/** What the changes need of the engine. */
export interface ReplicaSetHost {
  readonly clock: Clock
  readonly configuration: () => Configuration
  /** The newest configuration that is applied here. */
  readonly applied: () => Configuration
  /** One attempt, which resolves when the change is committed and applied here, or refused. */
  readonly change: (change: ConfigurationChange) => Promise<ChangeRefusal | null>
  /** One attempt; null: `to` leads now. */
  readonly transfer: (to: ReplicaId) => Promise<'notTaken' | 'upgradePending' | null>
  /** The voter that leadership should go to when nobody was named; 0 = there is none. */
  readonly successor: () => ReplicaId
  readonly isReachable: (replica: ReplicaId) => boolean
  /** Whether that replica leads, another one can, and nothing is known here for which its removal would be refused. */
  readonly handsOverFirst: (leaving: ReplicaId) => boolean
}

/** An attempt that found no leader, or another change under way, is made again after so long. */
const againMs = 50

/** Who does not take leadership may have been behind, or busy with its disk. While it is asked the leader takes nothing, so it is not asked for as long as there is time. */
const mostHandOvers = 3

/**
 * Carries out one change of the replica set, with as many attempts as it takes: there may be no leader at the moment, another change may be under way, an answer may be
 * lost. A change that was asked for twice takes effect once, since the second attempt finds that there is nothing left to do.
 */
export async function changeReplicaSet(
  wanted: ReplicaSetChange,
  timeoutMs: number,
  host: ReplicaSetHost,
): Promise<ReplicaSetResult> {
  const deadline = timer(host.clock, timeoutMs)
  /** An earlier attempt may have taken effect. */
  let open = false
  let tried: ReplicaId = 0
  try {
    for (let attempts = 1; ; attempts += 1) {
      const configuration = host.configuration()
      if (wanted.id !== 0) tried = wanted.id
      else if (wanted.kind === 'add') tried = freeId(configuration, tried, open)
      else tried = host.successor()
      // A leader that is removed would go by itself, but whoever takes over then would have to be elected first. Whether it may go is decided by the removal.
      if (wanted.kind === 'remove' && host.handsOverFirst(tried))
        await Promise.race([handOver(host.successor(), host), deadline.passed])
      const attempt =
        wanted.kind === 'handOver' ? handOver(tried, host) : host.change(changeOf(wanted, tried))
      const refused = await Promise.race([attempt, deadline.passed])
      if (refused === null) return { ok: true, id: tried }
      if (refused === 'late') return { ok: false, refused: 'unknown' }
      const mayTake = attempts < mostHandOvers && host.isReachable(tried)
      const verdict = judge(refused, wanted, tried, {
        open,
        mayTake,
        configuration: host.configuration(),
        applied: host.applied(),
      })
      if (verdict.kind === 'done') return { ok: true, id: tried }
      if (verdict.kind === 'refused') return { ok: false, refused: verdict.refused }
      open ||= refused === 'unanswered'
      if (deadline.isPast()) return { ok: false, refused: open ? 'unknown' : verdict.otherwise }
      await pause(host.clock, againMs)
    }
  } finally {
    deadline.cancel()
  }
}

type Verdict =
  | { readonly kind: 'done' }
  | { readonly kind: 'refused'; readonly refused: ReplicaSetRefusal }
  /** Worth another attempt; `otherwise` is said when there is no time left for one. */
  | { readonly kind: 'again'; readonly otherwise: ReplicaSetRefusal }

function judge(
  refused: AttemptRefusal,
  wanted: ReplicaSetChange,
  id: ReplicaId,
  {
    open,
    mayTake,
    configuration,
    applied,
  }: {
    readonly open: boolean
    /** Whether it is worth asking the same one again to lead. */
    readonly mayTake: boolean
    readonly configuration: Configuration
    readonly applied: Configuration
  },
): Verdict {
  switch (refused) {
    case 'notLeader':
    case 'unanswered':
    case 'termNotOpened':
      return { kind: 'again', otherwise: 'unavailable' }
    case 'changeInProgress':
      return { kind: 'again', otherwise: 'inProgress' }
    case 'notTaken':
      return mayTake ? { kind: 'again', otherwise: refused } : { kind: 'refused', refused }
    case 'alreadyMember':
      if (open && isDone(wanted, id, configuration)) return { kind: 'done' }
      // The id was given to somebody else a moment ago; or this replica was let in elsewhere, which may not be known here yet.
      return wanted.kind === 'add' && wanted.id === 0 && !hasAddress(applied, wanted.address)
        ? { kind: 'again', otherwise: 'unavailable' }
        : { kind: 'refused', refused }
    case 'idUsed':
      // Somebody else was given the id that was free a moment ago.
      return wanted.kind === 'add' && wanted.id === 0
        ? { kind: 'again', otherwise: 'unavailable' }
        : { kind: 'refused', refused }
    case 'notMember':
      return open && wanted.kind === 'remove' ? { kind: 'done' } : { kind: 'refused', refused }
    case 'notVoter':
    case 'notCaughtUp':
    case 'quorumAtRisk':
    case 'stillAlive':
    case 'upgradePending':
      return { kind: 'refused', refused }
    default:
      return unreachable(refused)
  }
}

function isDone(wanted: ReplicaSetChange, id: ReplicaId, { members }: Configuration): boolean {
  const member = members.find((one) => one.id === id)
  if (wanted.kind === 'add') return member?.address === wanted.address
  return wanted.kind === 'promote' && member?.voter === true
}

function hasAddress({ members }: Configuration, address: string): boolean {
  return members.some((member) => member.address === address)
}

function freeId(configuration: Configuration, tried: ReplicaId, open: boolean): ReplicaId {
  // What may have been added already must be asked for again as what it was, or there would be two.
  return open ? tried : Math.max(tried, highestIdOf(configuration) + 1)
}

type AttemptRefusal = ChangeRefusal | 'notVoter' | 'notTaken'

async function handOver(to: ReplicaId, host: ReplicaSetHost): Promise<AttemptRefusal | null> {
  if (to === 0) return 'notTaken'
  const member = host.configuration().members.find(({ id }) => id === to)
  if (member === undefined) return 'notMember'
  if (!member.voter) return 'notVoter'
  return host.transfer(to)
}

function changeOf(
  wanted: Exclude<ReplicaSetChange, { kind: 'handOver' }>,
  id: ReplicaId,
): ConfigurationChange {
  switch (wanted.kind) {
    case 'add':
      return { kind: 'addLearner', id, address: wanted.address }
    case 'move':
      return { kind: 'setAddress', id, address: wanted.address }
    case 'promote':
    case 'remove':
      return { kind: wanted.kind, id }
    default:
      return unreachable(wanted)
  }
}

interface Timer {
  readonly passed: Promise<'late'>
  isPast(): boolean
  cancel(): void
}

function timer(clock: Clock, afterMs: number): Timer {
  const endMs = clock.monotonicMs() + afterMs
  let cancel = (): void => {}
  const passed = new Promise<'late'>((resolve) => {
    cancel = clock.after(afterMs, () => resolve('late'))
  })
  return { passed, isPast: () => clock.monotonicMs() >= endMs, cancel: () => cancel() }
}
