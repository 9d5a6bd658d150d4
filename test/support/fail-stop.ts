import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient, ParleyError } from '../../src/client/index.ts'
import type { GetStatusResponse } from '../../src/gen/parley/v1/service.ts'
import type { TestCluster } from './cluster.ts'

/** What one replica says of the cluster; null when it does not answer. */
export async function statusAt(address: string): Promise<GetStatusResponse | null> {
  const client = createClient({ addresses: [address], discover: false })
  try {
    return await client.call('getStatus', {}, { timeoutMs: 2000 })
  } catch {
    return null
  } finally {
    client.close()
  }
}

/** Resolves when all these replicas say what `holds` wants to hear. */
export async function untilAllSay(
  cluster: TestCluster,
  ids: readonly number[],
  what: string,
  holds: (status: GetStatusResponse) => boolean,
): Promise<void> {
  const deadlineMs = performance.now() + 30_000
  for (;;) {
    const said = await Promise.all(ids.map((id) => statusAt(cluster.replicas[id - 1]?.http ?? '')))
    if (said.every((status) => status !== null && holds(status))) return
    if (performance.now() > deadlineMs)
      throw new Error(
        `${what}: did not happen\n${cluster.lines.join('\n')}\n${JSON.stringify(said, null, 1)}`,
      )
    await sleep(50)
  }
}

/** All replicas run, each has been taken in again, and each knows it: any two may crash now. */
export function untilWhole(cluster: TestCluster): Promise<void> {
  const ids = cluster.replicas.map(({ id }) => id)
  return untilAllSay(
    cluster,
    ids,
    'all replicas have a vote',
    ({ quorum, leader, replicas }) =>
      quorum && leader !== 0 && replicas.length === ids.length && replicas.every(({ voter }) => voter),
  )
}

/** Whoever wants something is told for whom it waits. */
export async function assertNothingIsWritten(address: string, missing: string): Promise<void> {
  const client = createClient({ addresses: [address], discover: false, timeoutMs: 2000 })
  try {
    await assert.rejects(
      client.logIn({ name: 'talker0', password: 'a password for tests', device: 'test' }),
      (error) => error instanceof ParleyError && error.message.includes(missing),
    )
  } finally {
    client.close()
  }
}
