import { spawnSync } from 'node:child_process'
import { mkdirSync, statfsSync } from 'node:fs'
import type { Random } from '../../src/base/random.ts'
import type { TestCluster } from '../support/cluster.ts'
import type { Network } from '../support/netns.ts'
import { carryOutSteps } from './members.ts'
import type { Hit, HitKind, Round } from './plan.ts'

/** What a round is carried out on. */
export interface Ground {
  readonly cluster: TestCluster
  /** Its hosts are `clients` and one for each replica, `r1` and so on; null when all run on this machine. */
  readonly network: Network | null
  readonly smallDisks: Map<number, SmallDisk>
  /** The replica at each seat: the plan speaks of seats, which stay, and each is a host when there is a network. */
  readonly seats: Map<number, number>
  /** For what the plan leaves open. */
  readonly random: Random
  /** Ends the round early. */
  readonly signal: AbortSignal
  /** Resolves when all replicas but those that are hit count as healthy, and know it, so that the next one may fail. */
  readonly untilSound: (hit: ReadonlySet<number>) => Promise<void>
  /** Says what was just done. */
  readonly note: (what: string) => void
  readonly count: (kind: string) => void
  readonly fail: (rule: string, message: string) => void
}

/** So long may a replica take to serve again after what hit it is over. */
const backMs = 45_000

/** Carries out a round and resolves when it is over; what it has done is undone by {@link restore}, in any case. */
export async function carryOut(round: Round, ground: Ground): Promise<void> {
  const hit = new Set<number>()
  switch (round.kind) {
    case 'lanes':
      await Promise.all(round.lanes.map((hits) => carryOutRow(hits, ground, hit)))
      return
    case 'members':
      await Promise.all([
        carryOutSteps(round.steps, ground, hit),
        ...round.lanes.map((hits) => carryOutRow(hits, ground, hit)),
      ])
      return
    case 'hunt':
      await carryOutRow(round.hits, ground, hit)
      return
    case 'rolling':
      for (const id of round.order.map((seat) => replicaAt(ground, seat))) {
        if (ground.signal.aborted) return
        await ground.untilSound(hit)
        ground.note(`${round.gracefully ? 'stop' : 'kill'} and start r${id}`)
        ground.count('rolling')
        await ground.cluster.end(id, round.gracefully ? 'SIGTERM' : 'SIGKILL')
        ground.cluster.start(id)
        await untilServes(ground, id)
      }
      return
    case 'links':
      for (const { cuts, durationMs } of round.steps) {
        if (ground.signal.aborted) return
        ground.network?.healAll()
        ground.note(`cut ${cuts.map(([from, to]) => `r${from}>r${to}`).join(' ')}`)
        ground.count('links')
        for (const [from, to] of cuts) ground.network?.cut({ from: `r${from}`, to: `r${to}` })
        await sleep(durationMs, ground.signal)
      }
      return
    case 'beyond':
      await carryOutBeyond(round, ground)
      return
  }
}

/** Ends all faults, and resolves when every replica serves. */
export async function restore(ground: Ground): Promise<void> {
  const { cluster, network } = ground
  network?.healAll()
  for (const disk of ground.smallDisks.values()) disk.free()
  for (const { id } of cluster.replicas) {
    if (cluster.running.has(id)) cluster.signal(id, 'SIGCONT')
    else cluster.start(id)
  }
  ground.note('all faults are over')
  for (const { id } of cluster.replicas) await untilServes(ground, id)
}

async function carryOutRow(hits: readonly Hit[], ground: Ground, hit: Set<number>): Promise<void> {
  for (const { kind, target, afterMs, durationMs } of hits) {
    await sleep(afterMs, ground.signal)
    await ground.untilSound(hit)
    if (ground.signal.aborted) return
    const id = choose(kind, target, ground, hit)
    if (id === null) continue
    hit.add(id)
    try {
      ground.note(
        `${kind} r${id}${ground.cluster.leader() === id ? ', which leads,' : ''} for ${durationMs} ms`,
      )
      ground.count(kind)
      const undo = await strike(kind, id, durationMs, ground)
      await undo()
      ground.note(`${kind} of r${id} is over`)
      await untilServes(ground, id)
    } finally {
      hit.delete(id)
    }
  }
}

/** Null when nobody is left to be hit in this way. */
function choose(
  kind: HitKind,
  target: number | 'leader',
  { cluster, smallDisks, seats, random }: Ground,
  hit: ReadonlySet<number>,
): number | null {
  const wanted = target === 'leader' ? cluster.leader() : (seats.get(target) ?? 0)
  const able = cluster.replicas
    .map(({ id }) => id)
    .filter((id) => !hit.has(id) && (kind !== 'fullDisk' || smallDisks.has(id)))
  if (able.includes(wanted)) return wanted
  return able[random.below(Math.max(1, able.length))] ?? null
}

/** Does it for so long. The result undoes it. */
async function strike(kind: HitKind, id: number, durationMs: number, ground: Ground): Promise<() => void> {
  const { cluster, network, signal } = ground
  const host = hostOf(ground, id)
  const others = [...ground.seats.keys()].map((seat) => `r${seat}`).filter((other) => other !== host)
  const both = (other: string): void => {
    network?.cut({ from: host, to: other })
    network?.cut({ from: other, to: host })
  }
  const heal = (): void => {
    for (const other of [...others, 'clients']) {
      network?.heal({ from: host, to: other })
      network?.heal({ from: other, to: host })
    }
  }
  const start = (): void => cluster.start(id)
  switch (kind) {
    case 'kill':
    case 'stop':
      await cluster.end(id, kind === 'kill' ? 'SIGKILL' : 'SIGTERM')
      await sleep(durationMs, signal)
      return start
    case 'crashLoop':
      for (const endMs = performance.now() + durationMs; performance.now() < endMs;) {
        await cluster.end(id, 'SIGKILL')
        start()
        await sleep(ground.random.below(1000), signal)
      }
      await cluster.end(id, 'SIGKILL')
      return start
    case 'freeze':
      cluster.signal(id, 'SIGSTOP')
      await sleep(durationMs, signal)
      return () => cluster.signal(id, 'SIGCONT')
    case 'fullDisk': {
      const disk = ground.smallDisks.get(id)
      disk?.fill()
      await sleep(durationMs, signal)
      return () => disk?.free()
    }
    case 'unplug':
      network?.unplug(host)
      await sleep(durationMs, signal)
      return () => network?.plug(host)
    case 'power':
      network?.unplug(host)
      await cluster.end(id, 'SIGKILL')
      await sleep(durationMs, signal)
      return () => {
        network?.plug(host)
        start()
      }
    case 'isolate':
      others.forEach(both)
      await sleep(durationMs, signal)
      return heal
    case 'deaf':
      for (const other of others) network?.cut({ from: other, to: host })
      await sleep(durationMs, signal)
      return heal
    case 'mute':
      for (const other of others) network?.cut({ from: host, to: other })
      await sleep(durationMs, signal)
      return heal
    case 'slow': {
      const kilobitsPerSecond = 100 + ground.random.below(4000)
      for (const other of others) network?.slow({ from: host, to: other }, kilobitsPerSecond)
      await sleep(durationMs, signal)
      return heal
    }
    case 'noClients':
      both('clients')
      await sleep(durationMs, signal)
      return heal
  }
}

async function carryOutBeyond(round: Round & { readonly kind: 'beyond' }, ground: Ground): Promise<void> {
  const { cluster, network, signal } = ground
  const { how, durationMs, back } = round
  const replicas = round.replicas.map((seat) => replicaAt(ground, seat))
  ground.note(`${how} ${replicas.map((id) => `r${id}`).join(' ')} at once for ${durationMs} ms`)
  ground.count(`beyond: ${how}`)
  switch (how) {
    case 'kill':
      await Promise.all(replicas.map((id) => cluster.end(id, 'SIGKILL')))
      break
    case 'freeze':
      for (const id of replicas) cluster.signal(id, 'SIGSTOP')
      break
    case 'shatter':
      for (const from of replicas)
        for (const { id: to } of cluster.replicas)
          if (from !== to) {
            network?.cut({ from: hostOf(ground, from), to: hostOf(ground, to) })
            network?.cut({ from: hostOf(ground, to), to: hostOf(ground, from) })
          }
      break
  }
  await sleep(durationMs, signal)
  if (how === 'shatter') return
  for (const { replica: seat, afterMs } of back) {
    await sleep(afterMs, signal)
    const replica = replicaAt(ground, seat)
    ground.note(`r${replica} is back`)
    if (how === 'kill') cluster.start(replica)
    else cluster.signal(replica, 'SIGCONT')
  }
}

export function replicaAt({ seats }: Ground, seat: number): number {
  return seats.get(seat) ?? 0
}

function hostOf({ seats }: Ground, id: number): string {
  const [seat] = [...seats].find(([, replica]) => replica === id) ?? [0]
  return `r${seat}`
}

export async function untilServes({ cluster, signal, fail }: Ground, id: number): Promise<void> {
  const endMs = performance.now() + backMs
  while (!cluster.serves(id) && !signal.aborted) {
    if (performance.now() > endMs)
      return fail('progress', `r${id} does not serve ${backMs / 1000} s after what hit it was over`)
    await sleep(10, signal)
  }
}

/** Also resolves when the run is to end. */
export function sleep(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const end = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, delayMs)
    signal.addEventListener('abort', end)
  })
}

const roomMib = 4096

/** A disk in memory whose size changes: what is left on it can be taken away and given back. */
export class SmallDisk {
  private readonly folder: string

  /** Mounts it; takes root. It goes with the mount namespace of this process, so this process must have one of its own. */
  constructor(folder: string) {
    this.folder = folder
    mkdirSync(folder, { recursive: true })
    mount('-t', 'tmpfs', '-o', `size=${roomMib}m,mode=0700`, 'parley-torture', folder)
  }

  /** Leaves next to nothing. */
  fill(): void {
    // What is written meanwhile may need more than is left for it.
    for (let leftKib = 64; ; leftKib *= 2) {
      const { blocks, bfree, bsize } = statfsSync(this.folder)
      const usedKib = Math.ceil(((blocks - bfree) * bsize) / 1024)
      try {
        this.resize(`${usedKib + leftKib}k`)
        return
      } catch (error) {
        if (leftKib > 16_384) throw error
      }
    }
  }

  free(): void {
    this.resize(`${roomMib}m`)
  }

  private resize(size: string): void {
    // Without the options that it has now: some of them nobody may name but the machine's own root.
    const now = ['--options-mode', 'ignore', '-t', 'tmpfs']
    mount(...now, '-o', `remount,size=${size}`, 'parley-torture', this.folder)
  }
}

function mount(...args: readonly string[]): void {
  const { status, stderr } = spawnSync('mount', args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`mount ${args.join(' ')}: ${stderr}`)
}
