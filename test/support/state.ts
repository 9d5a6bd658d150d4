import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

import { digest } from '../../src/chat/digest.ts'
import type { TestCluster } from './cluster.ts'

/** Resolves when all replicas that run have applied the same. Nothing may be under way but what the cluster does by itself. */
export async function untilSettled(cluster: TestCluster): Promise<void> {
  for (;;) {
    const running = cluster.replicas.filter(({ id }) => cluster.running.has(id))
    const first = await Promise.all(running.map(({ http }) => positionOf(http)))
    const second = await Promise.all(running.map(({ http }) => positionOf(http)))
    if (new Set([...first, ...second]).size === 1) return
  }
}

/** A digest of the replicated state of each replica, in order of id. The replicas must not run. */
export function digestsOf(cluster: TestCluster): readonly string[] {
  return cluster.replicas.map(({ id }) => {
    const db = new DatabaseSync(join(cluster.dataOf(id), 'state.db'), { readOnly: true })
    try {
      return digest(db)
    } finally {
      db.close()
    }
  })
}

async function positionOf(address: string): Promise<number> {
  const text = await (await fetch(`http://${address}/metrics`)).text()
  const value = /^parley_position ([0-9]+)$/m.exec(text)?.[1]
  if (value === undefined) throw new Error(`${address} tells no position`)
  return Number(value)
}
