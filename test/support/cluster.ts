import { X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { replicaFolder, type ClusterFile, type ClusterReplica } from '../../src/server/cluster-file.ts'
import { createCluster, planCluster } from '../../src/server/create-cluster.ts'
import type { ReplicaReport } from '../../src/server/io.ts'
import { createSupervisor, type Supervisor } from '../../src/server/supervisor.ts'
import type { FaultModel } from '../../src/raft/types.ts'
import { formatServerAddress } from '../../src/client/server-address.ts'
import { hostsOf } from '../../src/server/security.ts'
import { createAuthority, issue } from '../../src/tls/authority.ts'
import { fingerprintOf } from '../../src/tls/names.ts'
import { writeCertificates } from '../../src/tls/store.ts'
import type { Host } from './netns.ts'
import { freePorts } from './ports.ts'

export interface TestClusterOptions {
  /** Default 5. */
  readonly replicas?: number
  /** Default `majority`. */
  readonly faultModel?: FaultModel
  /** Environment of the replicas; by default passwords are hashed cheaply. */
  readonly environment?: Readonly<Record<string, string>>
  /** Keep the data folder afterwards and say where it is. */
  readonly keep?: boolean
  /** Where the data goes; it stays there. Default: a temporary folder, which is removed. */
  readonly folder?: string
  /** The hosts of the replicas, one for each; the caller must be on one of the same network. Default: all on this one. */
  readonly hosts?: readonly Host[]
  /** With certificates of an authority of its own, as clusters that `parley init` makes: replicas and clients speak TLS. */
  readonly tls?: boolean
  /** A process has ended that nobody told to; with what it and the others printed last. */
  readonly onCollapse?: (id: number, how: string, lines: readonly string[]) => void
  /** Another command line for the next process of a replica: of another version, say. */
  readonly command?: (id: number, command: readonly string[]) => readonly string[]
}

/** A cluster of real processes in a temporary folder. Use with `await using`, or close it in a `finally`. */
export interface TestCluster {
  readonly folder: string
  readonly replicas: readonly ClusterReplica[]
  /** HTTP addresses (host:port) of all replicas. */
  readonly addresses: readonly string[]
  readonly running: ReadonlyMap<number, number>
  /** The replica that leads by its own report, or 0. */
  leader(): number
  /** Resolves with the leader once `replicas` of those that run (default: all that run) report it and a quorum. */
  untilServing(replicas?: number): Promise<number>
  /** Whether a replica runs, is not halted, and reported last that it serves. */
  serves(id: number): boolean
  /** One more replica, whose folder is there: it can be started. On this host, unless another one is given. */
  adopt(replica: ClusterReplica, host?: Host): Promise<void>
  /** The process of a replica may end by itself from now on: it is removed. */
  condemn(id: number): void
  /** That replica is none of the cluster's any more. */
  forget(id: number): void
  /** The replica starts at other addresses from now on. */
  move(id: number, place: Omit<ClusterReplica, 'id'>): void
  /** Resolves with the exit code of a replica that ends by itself, when it has; null when it was killed. */
  untilEnded(id: number): Promise<number | null>
  /** Starts replicas that do not run. */
  start(...ids: readonly number[]): void
  /** Sends the signal; resolves when the process has ended. `SIGTERM` is a graceful stop. */
  end(id: number, signal: 'SIGKILL' | 'SIGTERM'): Promise<void>
  /** `SIGSTOP` and `SIGCONT`. */
  signal(id: number, signal: 'SIGSTOP' | 'SIGCONT'): void
  /** The data folder of a replica. */
  dataOf(id: number): string
  /** What the replicas printed, newest last: for a failing test's message. */
  readonly lines: readonly string[]
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

async function planFor({
  replicas = 5,
  faultModel = 'majority',
  hosts,
}: TestClusterOptions): Promise<ClusterFile> {
  if (hosts === undefined) {
    const port = await freePorts(3 * replicas)
    const plan = { replicas, faultModel, host: '127.0.0.1', httpPort: port, grpcPort: port + replicas }
    return planCluster({ ...plan, peerPort: port + 2 * replicas })
  }
  const plan = planCluster({ replicas, faultModel, host: '', httpPort: 7400, grpcPort: 7500, peerPort: 7600 })
  const at = (id: number, port: number): string => `${hosts[id - 1]?.address}:${port}`
  return {
    ...plan,
    replicas: plan.replicas.map(({ id }) => ({
      id,
      http: at(id, 7400),
      grpc: at(id, 7500),
      peer: at(id, 7600),
    })),
  }
}

/** Makes a cluster and starts all its replicas. Resolves when it serves. */
export async function startCluster(options: TestClusterOptions = {}): Promise<TestCluster> {
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), 'parley-test-'))
  const cluster = createCluster(folder, await planFor(options))
  const authority = options.tls === true ? await createAuthority(cluster.clusterId, Date.now()) : null
  const pin = authority === null ? '' : fingerprintOf(new X509Certificate(authority.certificate))
  const hosts = new Map(cluster.replicas.map(({ id }, at) => [id, options.hosts?.[at]]))
  const certify = async (replica: ClusterReplica): Promise<void> => {
    if (authority === null) return
    const { clusterId } = cluster
    const subject = { clusterId, replica: replica.id, hosts: hostsOf(replica) }
    const own = await issue(authority, subject, { nowMs: Date.now() })
    writeCertificates(replicaFolder(folder, replica.id), { clusterId, authority, own })
  }
  for (const replica of cluster.replicas) await certify(replica)
  const reports = new Map<number, ReplicaReport>()
  /** Replicas that were halted with SIGSTOP: what they reported last is stale. */
  const halted = new Set<number>()
  const replicas = [...cluster.replicas]
  /** Flags for replicas that start elsewhere from now on. */
  const moves = new Map<number, readonly string[]>()
  /** How the last process of each replica ended. */
  const codes = new Map<number, number | null>()
  /** Processes that were told to end. */
  const condemned = new Set<number>()
  const lines: string[] = []
  const listeners = new Set<() => void>()
  const changed = (): void => {
    for (const listener of listeners) listener()
  }
  const supervisor: Supervisor = createSupervisor({
    replicas: cluster.replicas.map(({ id }) => ({ id, folder: replicaFolder(folder, id) })),
    restart: false,
    logLevel: process.env['PARLEY_TEST_LOG_LEVEL'] ?? 'info',
    environment: {
      PARLEY_PASSWORD_MEMORY_KIB: '64',
      PARLEY_INSECURE: String(options.hosts !== undefined && authority === null),
      ...options.environment,
    },
    place(id, command) {
      const usual = [...command, ...(moves.get(id) ?? [])]
      const own = options.command?.(id, usual) ?? usual
      return hosts.get(id)?.on(own) ?? own
    },
    onEvent(event) {
      switch (event.kind) {
        case 'report':
          reports.set(event.report.replica, event.report)
          break
        case 'line':
          lines.push(`r${event.replica}: ${event.line}`)
          break
        case 'ended':
          reports.delete(event.replica)
          halted.delete(event.replica)
          codes.set(event.replica, event.code)
          lines.push(`r${event.replica} ended: ${event.signal ?? event.code}`)
          if (!event.expected && !condemned.has(event.pid))
            options.onCollapse?.(event.replica, String(event.signal ?? event.code), lines)
          break
        case 'started':
          break
      }
      changed()
    },
  })

  function until(what: string, holds: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        listeners.delete(look)
        reject(
          new Error(`${what}: did not happen\n${lines.join('\n')}\n${JSON.stringify([...reports.values()])}`),
        )
      }, 30_000)
      const look = (): void => {
        if (!holds()) return
        clearTimeout(timer)
        listeners.delete(look)
        resolve()
      }
      listeners.add(look)
      look()
    })
  }

  function alive(): readonly ReplicaReport[] {
    return [...reports.values()].filter((report) => !halted.has(report.replica))
  }

  function leader(): number {
    return alive().find((report) => report.quorum && report.leader === report.replica)?.replica ?? 0
  }

  async function close(): Promise<void> {
    supervisor.kill()
    await until('all replicas end', () => supervisor.running.size === 0)
    if (options.keep === true) process.stderr.write(`data of the test: ${folder}\n`)
    else if (options.folder === undefined) rmSync(folder, { recursive: true, force: true })
  }

  const started: TestCluster = {
    folder,
    replicas,
    get addresses() {
      return replicas.map(({ http }) =>
        authority === null ? http : formatServerAddress({ host: http, secure: true, pin }),
      )
    },
    async adopt(replica, host) {
      await certify(replica)
      hosts.set(replica.id, host)
      replicas.push(replica)
      supervisor.add({ id: replica.id, folder: replicaFolder(folder, replica.id) })
    },
    condemn(id) {
      const pid = supervisor.running.get(id)
      if (pid !== undefined) condemned.add(pid)
    },
    forget(id) {
      const at = replicas.findIndex((replica) => replica.id === id)
      if (at >= 0) replicas.splice(at, 1)
    },
    move(id, place) {
      moves.set(id, ['--http', place.http, '--grpc', place.grpc, '--peer', place.peer])
      const at = replicas.findIndex((replica) => replica.id === id)
      replicas[at] = { id, ...place }
    },
    async untilEnded(id) {
      await until(`r${id} ends`, () => !supervisor.running.has(id))
      return codes.get(id) ?? null
    },
    running: supervisor.running,
    lines,
    leader,
    async untilServing(replicas) {
      await until('the cluster serves', () => {
        const now = leader()
        const agree = alive().filter((report) => report.quorum && report.leader === now)
        return now !== 0 && agree.length >= (replicas ?? supervisor.running.size - halted.size)
      })
      return leader()
    },
    serves(id) {
      const report = reports.get(id)
      return report !== undefined && report.quorum && report.leader !== 0 && !halted.has(id)
    },
    start(...ids) {
      for (const id of ids) supervisor.start(id)
    },
    async end(id, signal) {
      const pid = supervisor.running.get(id)
      if (pid === undefined) return
      condemned.add(pid)
      process.kill(pid, signal)
      await until(`r${id} ends`, () => supervisor.running.get(id) !== pid)
    },
    signal(id, signal) {
      const pid = supervisor.running.get(id)
      if (pid === undefined) return
      process.kill(pid, signal)
      if (signal === 'SIGSTOP') halted.add(id)
      else halted.delete(id)
    },
    dataOf: (id) => replicaFolder(folder, id),
    close,
    [Symbol.asyncDispose]: close,
  }
  started.start(...cluster.replicas.map(({ id }) => id))
  try {
    await started.untilServing()
  } catch (error) {
    await close()
    throw error
  }
  return started
}
