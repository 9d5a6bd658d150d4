import { startCluster as startProcesses, type TestCluster } from '../test/support/cluster.ts'
import { wait } from '../src/cli/load.ts'
import type { ReplicaCost } from './report.ts'

/** The cluster that is measured: one process per replica. */
export interface BenchCluster {
  /** HTTP addresses, host:port, by replica. */
  readonly addresses: ReadonlyMap<number, string>
  readonly leader: number
  /** Ends the leader's process with SIGKILL. Resolves with a function that starts it again. */
  killLeader(): Promise<() => void>
  /** Waits until every replica serves and has applied what the others have. */
  whenWhole(): Promise<void>
  /** What each replica uses while `work` goes on. */
  measure<T>(
    work: () => Promise<T>,
  ): Promise<{ readonly result: T; readonly replicas: readonly ReplicaCost[] }>
  stop(): Promise<void>
}

/** @param profileFolder where each replica writes a CPU profile when it stops; null = none is made. */
export async function startCluster(replicas: number, profileFolder: string | null): Promise<BenchCluster> {
  const cluster: TestCluster = await startProcesses({
    replicas,
    environment: profileFolder === null ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profileFolder}` },
  })
  const addresses = new Map(cluster.replicas.map(({ id, http }) => [id, http]))

  async function figures(): Promise<ReadonlyMap<number, Figures>> {
    const found = new Map<number, Figures>()
    for (const [replica, address] of addresses) {
      const text = await (await fetch(`http://${address}/metrics`)).text()
      found.set(replica, {
        cpuS: valueOf(text, 'process_cpu_seconds_total'),
        residentMb: valueOf(text, 'process_resident_memory_bytes') / 1e6,
        position: valueOf(text, 'parley_position'),
      })
    }
    return found
  }

  return {
    addresses,
    get leader() {
      return cluster.leader()
    },
    async killLeader() {
      const leader = cluster.leader()
      await cluster.end(leader, 'SIGKILL')
      return () => cluster.start(leader)
    },
    async whenWhole() {
      await cluster.untilServing()
      for (;;) {
        const positions = [...(await figures()).values()].map(({ position }) => position)
        if (Math.max(...positions) - Math.min(...positions) < 100) return
        await wait(100)
      }
    },
    async measure(work) {
      const before = await figures()
      const beganMs = performance.now()
      const result = await work()
      const seconds = (performance.now() - beganMs) / 1000
      const after = await figures()
      const costs = [...after].map(([replica, { cpuS, residentMb }]) => ({
        replica,
        isLeader: replica === cluster.leader(),
        cpuPercent: ((cpuS - (before.get(replica)?.cpuS ?? 0)) / seconds) * 100,
        residentMb,
      }))
      return { result, replicas: costs }
    },
    async stop() {
      // A process that is killed writes no profile.
      if (profileFolder !== null) for (const { id } of cluster.replicas) await cluster.end(id, 'SIGTERM')
      await cluster.close()
    },
  }
}

interface Figures {
  readonly cpuS: number
  readonly residentMb: number
  readonly position: number
}

function valueOf(text: string, name: string): number {
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? 0)
}
