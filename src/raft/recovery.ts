import type { ReplicaId } from '../base/ids.ts'
import { votersOf } from './configurations.ts'
import type { Configuration, Holdings, Member } from './types.ts'

export type Recovery =
  /** Somebody can lead without it. */
  | { readonly kind: 'notNeeded' }
  | { readonly kind: 'waiting'; readonly waitingFor: readonly ReplicaId[] }
  /** `candidate` is to ask all voters of `electorate` for their votes. */
  | { readonly kind: 'possible'; readonly candidate: ReplicaId; readonly electorate: Configuration }

/**
 * How those that have gathered after an outage of all can go on, in the `fail-stop` model: the newest configuration in any of their logs counts, and all its voters must be
 * there, since each may have been the last one and have acknowledged something alone. Then the longest of their logs has everything that was ever committed. Who has been given
 * up by an operator is not waited for, and what only such replicas hold is lost.
 */
export function recovery(gathered: ReadonlyMap<ReplicaId, Holdings>): Recovery {
  const all = [...gathered.values()]
  const newest = all.reduce((a, b) => (isNewer(a, b) ? b : a))
  const givenUp = new Set(all.flatMap((holdings) => holdings.givenUp))
  if (all.some((holdings) => holdings.continuous)) return { kind: 'notNeeded' }

  const voters = votersOf(newest.configuration)
  const needed = voters.filter((id) => !givenUp.has(id))
  const waitingFor = needed.filter((id) => !gathered.has(id))
  if (waitingFor.length > 0) return { kind: 'waiting', waitingFor }
  const [first, ...others] = needed
  if (first === undefined) return { kind: 'waiting', waitingFor: voters }

  let candidate = first
  for (const id of others) if (isLonger(gathered.get(candidate), gathered.get(id))) candidate = id
  const members = newest.configuration.members.map((member): Member => {
    const incarnation = gathered.get(member.id)?.incarnation
    if (!member.voter) return member
    return givenUp.has(member.id) || incarnation === undefined
      ? { ...member, voter: false }
      : { ...member, incarnation }
  })
  return { kind: 'possible', candidate, electorate: { ...newest.configuration, members } }
}

/** Each term begins with a configuration, so the newest one of a log is of the log's last term. */
function isNewer(a: Holdings, b: Holdings): boolean {
  return b.lastTerm > a.lastTerm || (b.lastTerm === a.lastTerm && b.configurationIndex > a.configurationIndex)
}

function isLonger(a: Holdings | undefined, b: Holdings | undefined): boolean {
  if (a === undefined || b === undefined) return false
  return b.lastTerm > a.lastTerm || (b.lastTerm === a.lastTerm && b.lastIndex > a.lastIndex)
}
