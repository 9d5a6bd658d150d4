import { unreachable } from '../base/assert.ts'
import { replicaName } from '../base/ids.ts'
import { Reason } from '../gen/parley/v1/model.ts'
import type {
  LogMember,
  LogStatus,
  ReplicaSetChange as LogChange,
  ReplicaSetRefusal,
  ReplicatedLog,
} from '../log/port.ts'
import { formatAddresses, parseAddresses, type ReplicaAddresses } from './addresses.ts'

/** What an operator, or a replica itself, wants of the replica set. */
export type ReplicaSetChange =
  | { readonly kind: 'add'; readonly replica: number; readonly addresses: ReplicaAddresses }
  | { readonly kind: 'move'; readonly replica: number; readonly addresses: ReplicaAddresses }
  | { readonly kind: 'promote' | 'remove' | 'handOver'; readonly replica: number }

/** `message` says why in one sentence, and what works instead. */
export type ReplicaSetAnswer =
  | { readonly ok: true; readonly replica: number }
  | { readonly ok: false; readonly reason: Reason; readonly message: string }

/** Asks the log for the change, and puts what it says into words. */
export async function changeReplicaSet(
  log: Pick<ReplicatedLog, 'change' | 'status'>,
  wanted: ReplicaSetChange,
  timeoutMs: number,
): Promise<ReplicaSetAnswer> {
  if (wanted.kind === 'add') {
    const found = answerKnown(wanted.replica, wanted.addresses, log.status())
    if (found !== null) return found
  }
  const result = await log.change(logChange(wanted), timeoutMs)
  if (result.ok) return { ok: true, replica: result.id }
  if (wanted.kind === 'add' && result.refused === 'alreadyMember') {
    const found = answerKnown(wanted.replica, wanted.addresses, log.status())
    if (found !== null) return found
  }
  return { ok: false, ...explain(result.refused, wanted, log.status()) }
}

/** A replica that joins may have been added before it lost the answer, or its life. */
function answerKnown(
  replica: number,
  addresses: ReplicaAddresses,
  { members }: LogStatus,
): ReplicaSetAnswer | null {
  const known = members.find((member) => parseAddresses(member.address).peer === addresses.peer)
  if (known === undefined) return null
  const isSame = known.address === formatAddresses(addresses) && (replica === 0 || replica === known.id)
  if (isSame && !known.voter) return { ok: true, replica: known.id }
  const name = replicaName(known.id)
  return {
    ok: false,
    reason: Reason.REPLICA_EXISTS,
    message: `${name} has the address ${addresses.peer} already. Give the new replica another one, or remove that one first: parley replica remove ${name}`,
  }
}

function logChange(wanted: ReplicaSetChange): LogChange {
  switch (wanted.kind) {
    case 'add':
    case 'move':
      return { kind: wanted.kind, id: wanted.replica, address: formatAddresses(wanted.addresses) }
    case 'promote':
    case 'remove':
    case 'handOver':
      return { kind: wanted.kind, id: wanted.replica }
    default:
      return unreachable(wanted)
  }
}

type Explanation = { readonly reason: Reason; readonly message: string }

function explain(refused: ReplicaSetRefusal, wanted: ReplicaSetChange, status: LogStatus): Explanation {
  const name = replicaName(wanted.replica)
  const member = status.members.find(({ id }) => id === wanted.replica)
  switch (refused) {
    case 'unavailable':
      return {
        reason: Reason.NO_QUORUM,
        message: 'No quorum of the replicas can be reached, so nothing was changed. See: parley status',
      }
    case 'unknown':
      return {
        reason: Reason.OUTCOME_UNKNOWN,
        message: 'The time ran out, and the change may take effect or not. See: parley replica list',
      }
    case 'inProgress':
      return {
        reason: Reason.CHANGE_IN_PROGRESS,
        message:
          'Another change of the replica set is under way, and only one is made at a time. Try again in a moment; parley replica list shows it.',
      }
    case 'alreadyMember':
      return {
        reason: Reason.REPLICA_EXISTS,
        message:
          wanted.kind === 'promote' ? `${name} has a vote already.` : `${name} is in the cluster already.`,
      }
    case 'idUsed':
      return {
        reason: Reason.REPLICA_EXISTS,
        message: `${name} was used before, and ids are never used again. Leave the id out, and the new replica gets the next one.`,
      }
    case 'notMember':
      return {
        reason: Reason.REPLICA_NOT_FOUND,
        message: `There is no ${name}; there are ${names(status.members)}.`,
      }
    case 'notVoter':
      return {
        reason: Reason.REPLICA_NOT_READY,
        message: `${name} is a learner and cannot lead. Once it has caught up: parley replica promote ${name}`,
      }
    case 'notCaughtUp':
      return {
        reason: Reason.REPLICA_NOT_READY,
        message:
          member?.reachable === false && status.leader === status.self
            ? `${name} cannot be reached, so it cannot catch up. Start it first.`
            : `${name} has not caught up yet. Try again when it has: parley replica list`,
      }
    case 'quorumAtRisk':
      return { reason: Reason.QUORUM_AT_RISK, message: explainRisk(wanted, status) }
    case 'stillAlive':
      // The only one is asked to stop in no case.
      if (status.voters === 1) return { reason: Reason.QUORUM_AT_RISK, message: explainRisk(wanted, status) }
      return {
        reason: Reason.REPLICA_NOT_READY,
        message: `${name} still runs. In the fault model fail-stop a replica must be stopped before it is removed: stop ${name}, wait until parley replica list shows it as a learner, and on the machine of another replica: parley replica remove ${name} --data DIR`,
      }
    case 'upgradePending':
      return { reason: Reason.UPGRADE_PENDING, message: explainUpgrade(wanted, status) }
    case 'notTaken':
      return {
        reason: Reason.REPLICA_NOT_READY,
        message:
          wanted.replica === 0
            ? `No other replica took over. See: parley status`
            : `${name} did not take over${member?.reachable === false ? ', since it cannot be reached' : ' in time'}; ${replicaName(status.leader)} goes on.`,
      }
    default:
      return unreachable(refused)
  }
}

function explainRisk(wanted: ReplicaSetChange, { members, faultModel }: LogStatus): string {
  const name = replicaName(wanted.replica)
  const needsAll = faultModel === 'fail-stop'
  const others = members.filter(({ id, voter }) => voter && id !== wanted.replica)
  if (wanted.kind === 'promote')
    return `With a vote for ${name}, ${needsAll ? `all ${others.length + 1}` : majorityOf(others.length + 1)} replicas would be needed, and fewer can be reached. Start ${names(others.filter(({ reachable }) => !reachable))} first.`
  if (others.length === 0)
    return `${name} is the only replica with a vote: without it nothing would be left. Add another one first: parley replica add, or parley join`
  const up = others.filter(({ reachable }) => reachable)
  const down = others.filter(({ reachable }) => !reachable)
  const needed = majorityOf(others.length)
  const why = `Without ${name}, ${needsAll ? 'all' : needed} of ${names(others)} would be needed, and ${up.length === 0 ? 'none' : `only ${names(up)}`} can be reached`
  const lost = down[0]
  if (lost === undefined) return `${why}. Try again in a moment.`
  // The one that is down can go instead when that leaves a quorum, and it need not be known to be dead.
  const instead =
    !needsAll && up.length + 1 >= needed
      ? `, or remove it in place of ${name}: parley replica remove ${replicaName(lost.id)}`
      : '.'
  return `${why}. Start ${replicaName(lost.id)} first${instead}`
}

function explainUpgrade({ replica }: ReplicaSetChange, { leader, self, members }: LogStatus): string {
  const newest = members.find(({ id }) => id === self)?.version ?? 0
  const earlier = members.filter(({ id, version }) => id !== replica && version < newest)
  if (leader !== self && earlier.some(({ id }) => id === leader))
    return `${replicaName(leader)} leads and is of an earlier version of Parley, which takes no changes of the replica set. Upgrade it first: when it is stopped, another one leads.`
  const who = earlier.length === 0 ? 'all others' : names(earlier)
  return `That the id of ${replicaName(replica)} is never given again is something that all must remember, and an earlier version of Parley cannot. Upgrade ${who} first, or remove what is lost.`
}

function majorityOf(voters: number): number {
  return Math.floor(voters / 2) + 1
}

function names(members: readonly Pick<LogMember, 'id'>[]): string {
  const all = members.map(({ id }) => replicaName(id))
  return all.length < 2 ? all.join('') : `${all.slice(0, -1).join(', ')} and ${all.at(-1)}`
}
