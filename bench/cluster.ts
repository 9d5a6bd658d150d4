import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { wait } from './load.ts'
import type { ReplicaCost } from './report.ts'

/** A cluster that `parley up` runs, one process per replica; a replica that ends is started again. */
export interface BenchCluster {
  /** HTTP addresses, host:port, by replica. */
  readonly addresses: ReadonlyMap<number, string>
  readonly leader: number
  /** Ends the replica's process with SIGKILL. */
  kill(replica: number): void
  /** Waits until every replica serves and knows of a quorum. */
  whenWhole(): Promise<void>
  /** What each replica uses while `work` goes on. */
  measure<T>(
    work: () => Promise<T>,
  ): Promise<{ readonly result: T; readonly replicas: readonly ReplicaCost[] }>
  stop(): Promise<void>
}

interface UpEvent {
  readonly event: string
  readonly replica?: number
  readonly pid?: number
  readonly http?: string
  readonly leader?: number
}

const root = join(import.meta.dirname, '..')

export async function startCluster(options: {
  readonly replicas: number
  readonly folder: string
  readonly say: (text: string) => void
}): Promise<BenchCluster> {
  const { replicas, folder, say } = options
  const firstPort = 20_000 + (process.pid % 400) * 100
  const child: ChildProcess = spawn(
    process.execPath,
    [
      join(root, 'bin', 'parley.js'),
      'up',
      '--json',
      '--restart',
      '--log-level',
      'error',
      '--replicas',
      String(replicas),
      '--data',
      folder,
      '--http-port',
      String(firstPort),
      '--grpc-port',
      String(firstPort + 20),
      '--peer-port',
      String(firstPort + 40),
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const addresses = new Map<number, string>()
  const pids = new Map<number, number>()
  let leader = 0
  const serving = new Promise<void>((resolve, reject) => {
    child.on('exit', (code) => reject(new Error(`parley up ended with exit code ${code}`)))
    if (child.stdout === null) return
    createInterface(child.stdout).on('line', (line) => {
      const event = JSON.parse(line) as UpEvent
      if (event.event === 'started' && event.replica !== undefined) {
        addresses.set(event.replica, event.http ?? '')
        pids.set(event.replica, event.pid ?? 0)
      }
      if (event.event === 'line') say(line)
      leader = event.leader ?? leader
      if (event.event === 'serving') resolve()
    })
  })
  await serving

  async function usage(): Promise<
    ReadonlyMap<number, { readonly cpuS: number; readonly residentMb: number }>
  > {
    const found = new Map<number, { readonly cpuS: number; readonly residentMb: number }>()
    for (const [replica, address] of addresses) {
      const text = await (await fetch(`http://${address}/metrics`)).text()
      found.set(replica, {
        cpuS: valueOf(text, 'process_cpu_seconds_total'),
        residentMb: valueOf(text, 'process_resident_memory_bytes') / 1e6,
      })
    }
    return found
  }

  return {
    addresses,
    get leader() {
      return leader
    },
    kill(replica) {
      const pid = pids.get(replica)
      if (pid !== undefined) process.kill(pid, 'SIGKILL')
    },
    async whenWhole() {
      const endMs = performance.now() + 60_000
      for (const address of addresses.values()) {
        while (!(await isReady(address))) {
          if (performance.now() > endMs) throw new Error(`${address} is not ready after 60 s`)
          await wait(100)
        }
      }
    },
    async measure(work) {
      const before = await usage()
      const beganMs = performance.now()
      const result = await work()
      const seconds = (performance.now() - beganMs) / 1000
      const after = await usage()
      const costs = [...after].map(([replica, { cpuS, residentMb }]) => ({
        replica,
        isLeader: replica === leader,
        cpuPercent: ((cpuS - (before.get(replica)?.cpuS ?? 0)) / seconds) * 100,
        residentMb,
      }))
      return { result, replicas: costs.sort((a, b) => a.replica - b.replica) }
    },
    async stop() {
      if (child.exitCode !== null) return
      child.kill('SIGTERM')
      await once(child, 'exit')
    },
  }
}

async function isReady(address: string): Promise<boolean> {
  try {
    return (await fetch(`http://${address}/readyz`)).ok
  } catch {
    return false
  }
}

function valueOf(text: string, name: string): number {
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? 0)
}
