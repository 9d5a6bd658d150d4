import { rmSync } from 'node:fs'
import { ParleyError } from '../../src/client/index.ts'
import { addReplica, asOperator, known, removeReplica } from '../support/member.ts'
import { replicaAt, sleep, untilServes, type Ground } from './faults.ts'
import type { MemberStep } from './plan.ts'

/** So long may a change of the replica set take while others are hit. */
const changeMs = 60_000

/** Changes the replica set, one step after another. Whoever changes counts as hit, so that no more fail than may. */
export async function carryOutSteps(
  steps: readonly MemberStep[],
  ground: Ground,
  hit: Set<number>,
): Promise<void> {
  for (const { kind, seat, afterMs } of steps) {
    await sleep(afterMs, ground.signal)
    // Who is hit just now comes back first.
    while (hit.has(replicaAt(ground, seat)) && !ground.signal.aborted) await sleep(20, ground.signal)
    if (ground.signal.aborted) return
    const id = replicaAt(ground, seat)
    ground.note(`${kind} r${id}${ground.cluster.leader() === id ? ', which leads' : ''}`)
    ground.count(`members: ${kind}`)
    if (kind === 'transfer') await transfer(id, ground)
    else await renew(kind, seat, ground, hit)
  }
}

/** May be refused, as when that one is dead. */
async function transfer(id: number, ground: Ground): Promise<void> {
  try {
    await asOperator(
      ground.cluster,
      (client) => client.call('transferLeadership', { replica: id }),
      asked(ground, id),
    )
  } catch (error) {
    ground.note(`r${id} does not lead: ${reasonOf(error)}`)
  }
}

/** The replica goes, and a new one with a folder and an id of its own takes its seat. */
async function renew(
  kind: 'leave' | 'replace',
  seat: number,
  ground: Ground,
  hit: Set<number>,
): Promise<void> {
  const { cluster, network, seats, smallDisks } = ground
  const id = replicaAt(ground, seat)
  const { http, grpc, peer } = cluster.replicas.find((replica) => replica.id === id) ?? none
  hit.add(id)
  try {
    if (kind === 'replace') await cluster.end(id, 'SIGKILL')
    cluster.condemn(id)
    await insist(`r${id} is removed`, ground, async () => {
      try {
        await removeReplica(cluster, id, asked(ground, id))
      } catch (error) {
        // An attempt whose answer was lost has done it.
        if (reasonOf(error) !== 'REASON_REPLICA_NOT_FOUND') throw error
      }
    })
    if (ground.signal.aborted) return
    // It was told, or is told when it asks; one that is cut off would go on for ever.
    await cluster.end(id, 'SIGKILL')
    cluster.forget(id)
    smallDisks.get(id)?.free()
    if (!smallDisks.delete(id)) rmSync(cluster.dataOf(id), { recursive: true, force: true })
    const host = network?.host(`r${seat}`)
    let added = 0
    await insist('a new replica is added', ground, async () => {
      added = await addReplica(cluster, {
        by: asked(ground, id),
        seat: { place: { http, grpc, peer }, ...(host === undefined ? {} : { host }) },
      })
    })
    if (added === 0) return
    seats.set(seat, added)
    hit.add(added)
    ground.note(`r${added} takes seat ${seat}`)
    await insist(`r${added} has its vote`, ground, async () => {
      if ((await known(cluster, added))?.voter !== true)
        throw new ParleyError('REASON_REPLICA_NOT_READY', 'not yet')
    })
    await untilServes(ground, added)
    hit.delete(added)
  } finally {
    hit.delete(id)
  }
}

const none = { http: '', grpc: '', peer: '' }

/** Whom to ask: any replica that runs and serves, and is not the one that it is about. */
function asked({ cluster }: Ground, about: number): number {
  const able = cluster.replicas.filter(({ id }) => id !== about && cluster.serves(id))
  return (able.find(({ id }) => id !== cluster.leader()) ?? able[0])?.id ?? cluster.leader()
}

/** Again and again, until it is done. */
async function insist(what: string, ground: Ground, work: () => Promise<void>): Promise<void> {
  const endMs = performance.now() + changeMs
  let said = ''
  while (!ground.signal.aborted) {
    try {
      await work()
      return
    } catch (error) {
      const reason = reasonOf(error)
      if (reason !== said) ground.note(`not yet: ${what}: ${reason}`)
      said = reason
      if (performance.now() > endMs)
        return ground.fail('progress', `${changeMs / 1000} s later: ${what}: ${reason}`)
    }
    await sleep(200, ground.signal)
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof ParleyError) return error.reason
  throw error
}
