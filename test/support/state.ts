import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { get as httpGet, type IncomingMessage } from 'node:http'
import { get as httpsGet } from 'node:https'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { text as textOf } from 'node:stream/consumers'

import { digest } from '../../src/chat/digest.ts'
import { parseServerAddress } from '../../src/client/server-address.ts'
import type { TestCluster } from './cluster.ts'
import { until } from './ledger.ts'

/** Resolves when all replicas that run have applied the same. Nothing may be under way but what the cluster does by itself. */
export async function untilSettled(cluster: TestCluster): Promise<void> {
  for (;;) {
    // Those that do not run have settled.
    if (cluster.running.size === 0) return
    const running = cluster.addresses.filter((_, at) => cluster.running.has(cluster.replicas[at]?.id ?? 0))
    const first = await Promise.all(running.map(positionOf))
    const second = await Promise.all(running.map(positionOf))
    if (new Set([...first, ...second]).size === 1) return
  }
}

/**
 * Ends all replicas at once and checks that those that have applied the same hold the same, table by table.
 *
 * @returns how many replicas had applied as much as the one that had applied most.
 */
export async function checkSameState(cluster: TestCluster): Promise<number> {
  await untilSettled(cluster)
  const running = [...cluster.running]
  const positions = (): ReadonlySet<number> =>
    new Set(running.map(([id]) => withState(cluster.dataOf(id), positionIn)))
  const signal = (name: 'SIGSTOP' | 'SIGCONT'): void => {
    for (const [, pid] of running) process.kill(pid, name)
  }
  // What was applied is in the file a little later, and what a cluster does by itself may come at any time: they are halted at a moment when all files hold the same.
  const haltedAlike = (): boolean => {
    signal('SIGSTOP')
    if (positions().size <= 1) return true
    signal('SIGCONT')
    return false
  }
  await until(haltedAlike, 'the files of all replicas hold the same', 30_000)
  await Promise.all(cluster.replicas.map(({ id }) => cluster.end(id, 'SIGKILL')))
  const byPosition = new Map<number, string>()
  const reached: number[] = []
  for (const { id } of cluster.replicas) {
    const { position, digest } = readState(cluster.dataOf(id))
    reached.push(position)
    assert.equal(digest, byPosition.get(position) ?? digest, `r${id} differs at position ${position}`)
    byPosition.set(position, digest)
  }
  const newest = Math.max(...reached)
  return reached.filter((position) => position === newest).length
}

function readState(folder: string): { readonly position: number; readonly digest: string } {
  return withState(folder, (db) => ({ position: positionIn(db), digest: digest(db) }))
}

function positionIn(db: DatabaseSync): number {
  return Number(db.prepare('SELECT position FROM chat_state').get()?.['position'])
}

function withState<T>(folder: string, read: (db: DatabaseSync) => T): T {
  const db = new DatabaseSync(newestState(folder), { readOnly: true })
  try {
    return read(db)
  } finally {
    db.close()
  }
}

/** The newest generation: there is another one after each snapshot that was taken over. */
export function newestState(folder: string): string {
  const generations = readdirSync(folder)
    .map((name) => Number(/^state-([0-9]+)\.db$/.exec(name)?.[1] ?? 0))
    .sort((a, b) => a - b)
  return join(folder, `state-${generations.at(-1)}.db`)
}

async function positionOf(address: string): Promise<number> {
  const { host = address, secure = false } = parseServerAddress(address) ?? {}
  const text = await read(`${secure ? 'https' : 'http'}://${host}/metrics`)
  const value = /^parley_position ([0-9]+)$/m.exec(text)?.[1]
  if (value === undefined) throw new Error(`${address} tells no position`)
  return Number(value)
}

/** Whose certificate it is that answers is nothing to this. */
async function read(url: string): Promise<string> {
  const asked = url.startsWith('https:') ? httpsGet(url, { rejectUnauthorized: false }) : httpGet(url)
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  return textOf(response)
}
