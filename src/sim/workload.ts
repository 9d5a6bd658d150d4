import type { ReplicaId } from '../base/ids.ts'
import type { Random } from '../base/random.ts'
import type { App, AppContext, AppStore, Cluster } from './cluster.ts'
import type { Invariants } from './invariants.ts'
import type { Scheduler } from './scheduler.ts'
import type { Trace } from './trace.ts'

/** What runs on a cluster: an app in each process, and clients that use it and note what they see. */
export interface Workload {
  /** What its replicas know when the cluster begins. Default: the newest version. */
  readonly firstVersion?: number
  newStore(id: ReplicaId): AppStore
  openApp(store: AppStore, context: AppContext): App
  begin(context: WorkloadContext): Clients
  /** Removes what is left of the run. */
  close(): void
}

export interface WorkloadParts {
  readonly random: Random
  readonly invariants: Invariants
}

export interface WorkloadContext {
  readonly cluster: Cluster
  readonly scheduler: Scheduler
  readonly random: Random
  readonly trace: Trace
  readonly invariants: Invariants
}

export interface Clients {
  /** Calls made, calls answered, calls that ended without anybody knowing what became of them. */
  readonly operations: number
  readonly answered: number
  readonly unknown: number
  /** No new calls. */
  stop(): void
  /** Stopped, and no call is open. */
  readonly idle: boolean
  /** Calls that are open and have a deadline. */
  readonly limitedCalls: number
  /** Reads everything once more, after the faults. Resolves when the answers are there. */
  finish(): Promise<void>
  /** Connections to a replica carry nothing for a while. */
  freeze(replica: ReplicaId, durationMs: number): void
  /** Connections to a replica are reset. */
  reset(replica: ReplicaId): void
  /** Checks what the clients saw. */
  check(): void
  /**
   * Checks what each replica by itself has answered, whatever the others have: what it acknowledged is still in its files. When no process runs any more. Null where clients go from replica
   * to replica and nothing can be said of what they see then.
   */
  readonly checkEach: (() => void) | null
}
