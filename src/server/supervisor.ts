import { spawn, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'

import type { ReplicaReport } from './io.ts'
import { unwantedCode } from './problems.ts'
import { prepareReplicaProcesses, replicaProcess } from './replica-process.ts'

export interface SupervisorOptions {
  readonly replicas: readonly { readonly id: number; readonly folder: string }[]
  /** Start a replica again when its process ends. */
  readonly restart: boolean
  readonly logLevel: string
  /** Added to this process's environment. */
  readonly environment?: Readonly<Record<string, string>>
  /** The command line that runs `command` where a replica belongs: on another host, say. The process must keep its pid. Default: right here. */
  readonly place?: (replica: number, command: readonly string[]) => readonly string[]
  readonly onEvent: (event: SupervisorEvent) => void
}

export type SupervisorEvent =
  | { readonly kind: 'started'; readonly replica: number; readonly pid: number }
  | {
      readonly kind: 'ended'
      readonly replica: number
      readonly pid: number
      readonly code: number | null
      readonly signal: string | null
      readonly expected: boolean
    }
  | { readonly kind: 'report'; readonly report: ReplicaReport }
  /** A line that the replica printed. */
  | { readonly kind: 'line'; readonly replica: number; readonly line: string }

export interface Supervisor {
  /** Takes in one more replica, without starting it. */
  add(replica: { readonly id: number; readonly folder: string }): void
  /** Starts the process of a replica that has none, unless all are being stopped. */
  start(replica: number): void
  /** Sends a signal to the process of a replica; false when it has none. SIGTERM stops it gracefully. */
  signal(replica: number, signal: 'SIGTERM' | 'SIGKILL'): boolean
  /** The replicas whose processes run, by id. */
  readonly running: ReadonlyMap<number, number>
  /** Stops all replicas, `last` after the others. */
  stop(last: number): Promise<void>
  /** Ends all at once, without grace. */
  kill(): void
}

const firstRestartMs = 500
const longestRestartMs = 10_000
/** A replica that ran for so long starts again at once. */
const healthyMs = 30_000
const stopMs = 10_000

/** Keeps one process per replica. */
export function createSupervisor(options: SupervisorOptions): Supervisor {
  const folders = new Map(options.replicas.map(({ id, folder }) => [id, folder]))
  const children = new Map<number, ChildProcess>()
  const running = new Map<number, number>()
  const restarts = new Set<NodeJS.Timeout>()
  const restartMs = new Map<number, number>()
  let stopping = false
  prepareReplicaProcesses()

  function startReplica(id: number, folder: string): void {
    const startedMs = performance.now()
    // Its own process group: Ctrl-C in the terminal reaches the supervisor alone, which then stops the replicas in order.
    const parameters = ['serve', '--data', folder, '--log', 'file', '--log-level', options.logLevel]
    const command = [...replicaProcess.command, ...parameters]
    const [file = '', ...args] = options.place?.(id, command) ?? command
    const child = spawn(file, args, {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      detached: true,
      env: { ...replicaProcess.environment, ...process.env, ...options.environment },
    })
    const pid = child.pid
    if (pid !== undefined) {
      children.set(id, child)
      running.set(id, pid)
      options.onEvent({ kind: 'started', replica: id, pid })
    }
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) continue
      createInterface({ input: stream }).on('line', (line) =>
        options.onEvent({ kind: 'line', replica: id, line }),
      )
    }
    child.on('message', (report) => {
      // Only replicas, which are this program, are on the other end.
      options.onEvent({ kind: 'report', report: report as ReplicaReport })
    })
    child.on('error', (error) => options.onEvent({ kind: 'line', replica: id, line: error.message }))
    child.on('close', (code, signal) => {
      children.delete(id)
      running.delete(id)
      options.onEvent({ kind: 'ended', replica: id, pid: pid ?? 0, code, signal, expected: stopping })
      if (stopping || !options.restart || code === unwantedCode) return
      const waitMs = performance.now() - startedMs > healthyMs ? 0 : (restartMs.get(id) ?? firstRestartMs)
      restartMs.set(id, Math.min(longestRestartMs, Math.max(firstRestartMs, waitMs * 2)))
      const timer = setTimeout(() => {
        restarts.delete(timer)
        // It may have been started by hand meanwhile.
        if (!children.has(id)) startReplica(id, folder)
      }, waitMs)
      restarts.add(timer)
    })
  }

  async function stopReplica(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return
    await new Promise<void>((done) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), stopMs)
      child.once('close', () => {
        clearTimeout(timer)
        done()
      })
      child.kill('SIGTERM')
    })
  }

  return {
    running,
    add({ id, folder }) {
      folders.set(id, folder)
    },
    start(replica) {
      const folder = folders.get(replica)
      if (!stopping && folder !== undefined && !children.has(replica)) startReplica(replica, folder)
    },
    signal(replica, signal) {
      return children.get(replica)?.kill(signal) === true
    },
    async stop(last) {
      stopping = true
      for (const timer of restarts) clearTimeout(timer)
      const ids = [...children.keys()].filter((id) => id !== last)
      for (const id of children.has(last) ? [...ids, last] : ids) {
        const child = children.get(id)
        if (child !== undefined) await stopReplica(child)
      }
    },
    kill() {
      stopping = true
      for (const child of children.values()) child.kill('SIGKILL')
    },
  }
}
