import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Random } from '../base/random.ts'
import { newestVersion } from '../base/version.ts'
import { prepareRestored } from '../chat/restored.ts'
import { beginLog, setPoint } from '../log/begin.ts'
import type { SnapshotPoint } from '../raft/types.ts'
import { ChatStore } from './chat-app.ts'
import { ChatDoors, chatWorkload, type ChatWorkload } from './chat-workload.ts'
import { createSimClock } from './clock.ts'
import { createCluster, fork, type Cluster, type Machine } from './cluster.ts'
import { createInvariants } from './invariants.ts'
import { retentionS, type Keeper } from './keeper.ts'
import { MemoryStorage } from './people.ts'
import type { Owner } from './scheduler.ts'
import type { WorkloadContext } from './workload.ts'

/**
 * Takes a backup of a replica that runs, begins another cluster with it, of another size and fault model, and checks that this one goes on from there: the same messages, sessions that
 * stay good, ids that keep their meaning, replicas that agree.
 *
 * @returns how many messages of the keeper's room were there.
 */
export async function restoreElsewhere(
  context: WorkloadContext,
  appOf: ChatWorkload['appOf'],
  keeper: Keeper,
  random: Random,
): Promise<number> {
  const { scheduler, trace } = context
  const source = context.cluster.leader()
  if (source === null || keeper.token === null) return 0
  const fail = (message: string): void => context.invariants.fail('goes on from a backup', message)
  const before = await insist(() => keeper.list())
  // All that anybody was told of.
  const atLeast = Math.max(...context.cluster.running().map(({ process }) => process?.app?.appliedIndex ?? 0))
  await insist(() => Promise.resolve((source.process?.app?.appliedIndex ?? 0) >= atLeast || null))
  const backup = await readBackup(source, appOf)
  const own = createInvariants('one', backup.index)
  const chat = chatWorkload({ random: fork(random), invariants: own })
  const cluster = createCluster({
    scheduler,
    random: fork(random),
    trace,
    invariants: own,
    replicas: [1, 2, 3, 5][random.below(4)] ?? 3,
    faultModel: random.below(2) === 0 ? 'majority' : 'fail-stop',
    tuning: {},
    broken: null,
    firstVersion: newestVersion,
    alike: false,
    newStore: (id) => chat.newStore(id),
    openApp: (store, app) => chat.openApp(store, app),
  })
  for (const machine of cluster.machines.values()) await begin(machine, backup, scheduler)
  for (const id of cluster.machines.keys()) cluster.start(id)
  const doors = new ChatDoors({ ...context, cluster, random: fork(random), invariants: own }, chat.appOf)
  const { client } = doors.open({
    name: 'restored',
    token: keeper.token,
    position: 0,
    storage: new MemoryStorage(),
    random: fork(random),
  })
  const there = await insist(() => keeper.list(client))
  const texts = (messages: typeof there): string =>
    messages.map(({ seq, atMs, text }) => `${seq} ${atMs} ${text}\n`).join('')
  // Between two looks the oldest may have expired, or all.
  const nowMs = Math.max(...[...cluster.machines.values()].map((one) => chat.appOf(one)?.replica.nowMs ?? 0))
  const gone = before.slice(0, before.length - there.length)
  if (!texts(before).endsWith(texts(there)) || !gone.every(({ atMs }) => atMs + retentionS * 1000 <= nowMs))
    fail(`the room had\n${texts(before)}and has, restored,\n${texts(there)}`)
  // What was sent before the backup is not sent again.
  const last = keeper.acknowledged.at(-1)
  if (last !== undefined) {
    const again = await insist(() => keeper.send(client, last.id, last.text))
    if (again.seq !== last.seq)
      fail(`message ${last.seq} was sent again under its id, and became message ${again.seq}`)
    const next = await insist(() => keeper.send(client, client.newId(), 'after the backup'))
    // Its number goes on also from messages that have expired.
    const newest = before.at(-1)?.seq ?? last.seq
    if (next.seq !== newest + 1) fail(`the message after ${newest} is ${next.seq}`)
  }
  await insist(() => Promise.resolve(isSettled(cluster) ? true : null))
  cluster.inspect(true)
  client.close()
  for (const id of cluster.machines.keys()) cluster.retire(id, 'removed')
  chat.close()
  const { violation } = own
  if (violation !== null)
    context.invariants.fail(violation.rule, `in the restored cluster: ${violation.message}`)
  return there.length

  /** Until it is done: nothing goes wrong any more, so that is soon, or the run ends. */
  async function insist<T>(work: () => Promise<T | null>): Promise<T> {
    for (;;) {
      const result = await work()
      if (result !== null) return result
      await new Promise<void>((resolve) => scheduler.at(scheduler.nowMs + 100, null, resolve))
    }
  }
}

interface Backup {
  readonly index: number
  readonly bytes: Uint8Array
}

async function readBackup(source: Machine, appOf: ChatWorkload['appOf']): Promise<Backup> {
  const copy = await appOf(source)?.replica.takeCopy()
  if (copy === undefined) throw new Error('the leader does not run')
  try {
    return { index: copy.index, bytes: await copy.read(0, copy.sizeBytes) }
  } finally {
    await copy.close()
  }
}

/** As `parley restore` does. */
async function begin(
  { store, disk, initial, clockCondition }: Machine,
  { index, bytes }: Backup,
  scheduler: WorkloadContext['scheduler'],
): Promise<void> {
  if (!(store instanceof ChatStore)) throw new Error('not a chat')
  const path = join(store.folder, 'state-1.db')
  const point: SnapshotPoint = { index, term: 0, configuration: initial }
  writeFileSync(path, bytes)
  const db = new DatabaseSync(path)
  try {
    db.exec('PRAGMA journal_mode = DELETE')
    prepareRestored(db, false)
    setPoint(db, point)
    db.exec('VACUUM')
  } finally {
    db.close()
  }
  const maker: Owner = { name: 'restore', alive: true, stalledUntilMs: 0 }
  await beginLog(disk.mount(maker), createSimClock(scheduler, maker, clockCondition), point)
}

function isSettled(cluster: Cluster): boolean {
  const status = cluster.leader()?.process?.engine?.status()
  return (
    status !== undefined &&
    status.available &&
    [...cluster.machines.values()].every(({ process }) => process?.app?.appliedIndex === status.commitIndex)
  )
}
