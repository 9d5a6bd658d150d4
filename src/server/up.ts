import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { rmSync, watch } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'

import { assumptionOf } from '../base/fault-model.ts'
import { replicaName } from '../base/ids.ts'
import { shellWord } from '../base/shell-word.ts'
import type { FaultModel } from '../raft/types.ts'
import { writeJson } from '../storage/json-file.ts'
import {
  clusterFileName,
  readClusterFile,
  replicaFolder,
  type ClusterFile,
  type ClusterReplica,
} from './cluster-file.ts'
import { checkPorts, createCluster, faultModelOf, lostReplicas, planCluster } from './create-cluster.ts'
import { claimFolder, readIdentity } from './folders.ts'
import { dropReplica, wasRemoved } from './grow-cluster.ts'
import { makeFolder } from './make-folder.ts'
import { createControl, type ControlAction } from './control.ts'
import type { ReplicaReport, ServerIo } from './io.ts'
import type { UpOptions } from './options.ts'
import { isLoopback } from './ports.ts'
import { problemOf, ServerError, unwantedCode } from './problems.ts'
import { buildWebApp } from './web-build.ts'
import { createSupervisor, type Supervisor, type SupervisorEvent } from './supervisor.ts'

/** What `parley up --json` prints, one object to a line. */
export type UpEvent =
  | { readonly event: 'creating'; readonly replicas: number; readonly data: string }
  | ({ readonly event: 'started'; readonly replica: number; readonly pid: number } & Addresses)
  | { readonly event: 'serving'; readonly leader: number; readonly mayFail: number }
  | { readonly event: 'leader'; readonly leader: number; readonly pid: number | null }
  | { readonly event: 'noQuorum' }
  | {
      readonly event: 'ended'
      readonly replica: number
      readonly pid: number
      readonly code: number | null
      readonly signal: string | null
    }
  | { readonly event: 'line'; readonly replica: number; readonly line: string }
  | { readonly event: 'building' }
  /** Its folder is empty, so it is not started. */
  | { readonly event: 'lost'; readonly replica: number; readonly data: string }
  | { readonly event: 'stopping' }
  | { readonly event: 'stopped' }

interface Addresses {
  readonly http: string
  readonly grpc: string
  readonly peer: string
  readonly data: string
}

/** What `up.json` tells other programs about the supervisor that runs now. */
export interface UpFile {
  readonly pid: number
  readonly replicas: readonly { readonly id: number; readonly pid: number | null }[]
}

/**
 * Runs a local cluster, one process per replica, until it is told to stop.
 *
 * @returns the exit code. The caller ends the process with it.
 */
export async function runUp(options: UpOptions, io: ServerIo): Promise<number> {
  const folder = options.data
  try {
    return await superviseIn(folder, options, io)
  } catch (error) {
    io.err(problemOf(error))
    return 1
  }
}

async function superviseIn(folder: string, options: UpOptions, io: ServerIo): Promise<number> {
  makeFolder(folder)
  const replica = readIdentity(folder)
  if (replica !== null)
    throw new ServerError(
      `${folder} is the data folder of ${replicaName(replica.replica)} alone. Run it with: parley serve --data ${shellWord(folder)}`,
    )
  const claim = claimFolder(
    folder,
    (pid) =>
      `${folder} is served by another "parley up" already (process ${pid}). Talk to it with "${program(io)}", stop it with Ctrl-C there or "kill ${pid}", or use another folder with --data.`,
  )
  try {
    const cluster = await prepare(options, io)
    const lost = lostReplicas(folder, cluster)
    return await new Up(options, io, cluster).run(lost)
  } finally {
    claim.release()
  }
}

/** The cluster of the folder; a new one when there is none. */
async function prepare(options: UpOptions, io: ServerIo): Promise<ClusterFile> {
  const folder = options.data
  const known = readClusterFile(folder)
  if (known?.complete === true) return known
  const cluster = known ?? planCluster({ ...options, faultModel: faultModelOf(options.faultModel) })
  if (known === null) {
    checkHost(options)
    await checkPorts(cluster, options.host)
  }
  const creating: UpEvent = { event: 'creating', replicas: cluster.replicas.length, data: folder }
  if (options.json) io.out(JSON.stringify(creating))
  else io.out(`Making a cluster of ${counted(cluster.replicas.length)} in ${folder}.`)
  return createCluster(folder, cluster)
}

function counted(replicas: number): string {
  return replicas === 1 ? '1 replica' : `${replicas} replicas`
}

/** @throws ServerError when others could listen in, and nobody said that they may. */
function checkHost({ host, insecure }: UpOptions): void {
  if (isLoopback(host) || insecure) return
  throw new ServerError(
    `A cluster made by "parley up" speaks plain text: at ${host} anyone on the network could read and change everything. Make one with "parley init --host ${host}", which speaks TLS; or add --insecure when that network is yours alone.`,
  )
}

/** How many more of `running` processes may end before a majority is gone. Replicas that were started by hand are not among them, so there may be a quorum with fewer. */
export function moreMayFail(running: number, replicas: number, faultModel: FaultModel = 'majority'): number {
  return Math.max(0, running - (faultModel === 'fail-stop' ? 1 : Math.floor(replicas / 2) + 1))
}

/** The flag with which the command line finds these replicas: all of them, since the first may be the one that is killed. Empty when it finds them by itself. */
export function serverFlag(replicas: readonly Pick<ClusterReplica, 'http'>[]): string {
  return replicas[0]?.http === defaultAddress ? '' : ` -s ${replicas.map(({ http }) => http).join(',')}`
}

class Up {
  private readonly options: UpOptions
  private readonly io: ServerIo
  private cluster: ClusterFile
  private readonly supervisor: Supervisor
  private readonly reports = new Map<number, ReplicaReport>()
  private readonly upFile: string
  /** What opens the cluster page with its buttons: the port and the token of the control. */
  private controlKey = ''
  private leader = 0
  private serving = false
  private served = false
  private stopping = false
  private finish: (code: number) => void = () => undefined

  constructor(options: UpOptions, io: ServerIo, cluster: ClusterFile) {
    this.options = options
    this.io = io
    this.cluster = cluster
    this.upFile = join(options.data, 'up.json')
    this.supervisor = createSupervisor({
      replicas: cluster.replicas.map(({ id }) => ({ id, folder: replicaFolder(options.data, id) })),
      restart: options.restart,
      logLevel: options.logLevel,
      environment: {
        PARLEY_INSECURE: String(options.insecure),
        PARLEY_TRUST_TIMEOUTS: String(options.trustTimeouts),
      },
      onEvent: (event) => this.handle(event),
    })
  }

  /** @param lost they are not started. */
  async run(lost: readonly number[]): Promise<number> {
    const ended = new Promise<number>((resolve) => {
      this.finish = resolve
    })
    const stopListening = this.io.onStop(() => this.stop())
    await this.buildWeb()
    const token = randomBytes(24).toString('base64url')
    const control = createControl({
      token,
      addresses: () => this.cluster.replicas.map(({ http }) => http),
      act: (replica, action) => this.act(replica, action),
    })
    control.listen({ host: '127.0.0.1', port: 0 })
    await once(control, 'listening')
    // An address of this kind, since it listens on a port and not on a path.
    this.controlKey = `${(control.address() as AddressInfo).port}-${token}`
    for (const id of lost) this.tellLost(id)
    for (const { id } of this.cluster.replicas) if (!lost.includes(id)) this.supervisor.start(id)
    // `parley replica` adds to the cluster's file, and takes from it.
    const watcher = watch(this.options.data, (_, name) => {
      if (name === null || name === clusterFileName) this.readCluster()
    })
    const code = await ended
    watcher.close()
    stopListening()
    control.close()
    control.closeAllConnections()
    rmSync(this.upFile, { force: true })
    return code
  }

  private tellLost(replica: number): void {
    const name = replicaName(replica)
    const data = replicaFolder(this.options.data, replica)
    this.tell({ event: 'lost', replica, data }, `${name} is not started: ${data} is empty.`)
    this.io.err(
      `${name} has forgotten what it promised, and must not take part. Put ${data} back; or, while the others serve, put a new replica in its place: ${program(this.io)} replica replace ${name} --data ${shellWord(this.options.data)}`,
    )
  }

  private async buildWeb(): Promise<void> {
    try {
      await buildWebApp((line) => this.tell({ event: 'building' }, line))
    } catch (error) {
      this.io.err(`The web app could not be built (${problemOf(error)}); everything else works without it.`)
    }
  }

  /** What the cluster page asks for. */
  private act(replica: number, action: ControlAction): string | null {
    const name = replicaName(replica)
    if (this.stopping) return 'The cluster is being stopped.'
    if (this.cluster.replicas.every(({ id }) => id !== replica)) return `There is no ${name}.`
    // Without one "parley up" itself would end, and nothing could be started any more.
    if (action !== 'start' && this.supervisor.running.size === 1)
      return `${name} is the last one that runs. Start another one first, or stop all with Ctrl-C.`
    switch (action) {
      case 'start':
        if (this.supervisor.running.has(replica)) return `${name} runs already.`
        this.supervisor.start(replica)
        return null
      case 'stop':
        return this.supervisor.signal(replica, 'SIGTERM') ? null : `${name} does not run.`
      case 'kill':
        return this.supervisor.signal(replica, 'SIGKILL') ? null : `${name} does not run.`
    }
  }

  private handle(event: SupervisorEvent): void {
    switch (event.kind) {
      case 'started': {
        const { http, grpc, peer } = this.addresses(event.replica)
        const data = replicaFolder(this.options.data, event.replica)
        this.writeUpFile()
        this.tell(
          { event: 'started', replica: event.replica, pid: event.pid, http, grpc, peer, data },
          `${replicaName(event.replica)} started: process ${event.pid}, http://${http}, gRPC ${grpc}`,
        )
        return
      }
      case 'line':
        this.tell(
          { event: 'line', replica: event.replica, line: event.line },
          `${replicaName(event.replica)}: ${event.line}`,
        )
        return
      case 'ended':
        this.ended(event)
        return
      case 'report':
        this.report(event.report)
    }
  }

  /** Replicas that have come are started; those that were removed end by themselves. */
  private readCluster(): void {
    const now = readClusterFile(this.options.data)
    if (now === null || this.stopping) return
    const known = new Set(this.cluster.replicas.map(({ id }) => id))
    this.cluster = now
    for (const { id } of now.replicas) {
      if (known.has(id)) continue
      this.supervisor.add({ id, folder: replicaFolder(this.options.data, id) })
      this.supervisor.start(id)
    }
  }

  private ended(event: Extract<SupervisorEvent, { kind: 'ended' }>): void {
    const { replica, pid, code, signal } = event
    this.reports.delete(replica)
    this.writeUpFile()
    const name = replicaName(replica)
    const start = `${program(this.io)} serve --data ${shellWord(replicaFolder(this.options.data, replica))}`
    let text = `${name} stopped.`
    if (!event.expected && code === unwantedCode) {
      text = `${name} (process ${pid}) has ended, and does not start again.`
      if (wasRemoved(this.options.data, replica)) {
        const file = join(this.options.data, clusterFileName)
        this.cluster = this.stored(file, () => dropReplica(this.options.data, replica)) ?? this.cluster
        text = `${name} has left the cluster.`
      }
    } else if (!event.expected) {
      const how =
        signal === null ? (code === 0 ? 'stopped' : `ended with exit code ${code}`) : `was ended by ${signal}`
      text = `${name} (process ${pid}) ${how}. ${this.options.restart ? 'It is started again.' : `Start it again:\n  ${start}`}`
    }
    this.tell({ event: 'ended', replica, pid, code, signal }, text)
    this.look()
    if (!event.expected && !this.options.restart && this.supervisor.running.size === 0) {
      this.tell({ event: 'stopped' }, 'No replica is left.')
      this.finish(1)
    }
  }

  private report(report: ReplicaReport): void {
    this.reports.set(report.replica, report)
    this.look()
  }

  /** What the replicas report together: who leads, and whether anybody can write. */
  private look(): void {
    if (this.stopping) return
    // While they elect another leader the others still count on a quorum.
    const able = [...this.reports.values()].filter((report) => report.quorum)
    const leading = able.find((report) => report.leader === report.replica)
    if (leading === undefined) {
      if (able.length > 0 || !this.serving) return
      this.serving = false
      this.tell(
        { event: 'noQuorum' },
        'Too few replicas are left: what is stored can be read, nothing written.',
      )
      return
    }
    // Were the leader the only one to know yet, its death would look like the end of the quorum.
    if (!this.serving && able.length * 2 <= this.supervisor.running.size) return
    const changed = leading.leader !== this.leader
    this.leader = leading.leader
    if (!this.serving) {
      this.serving = true
      const { leader } = leading
      const mayFail = this.mayFail()
      this.tell({ event: 'serving', leader, mayFail }, this.servingText(leader, mayFail))
      this.served = true
    } else if (changed) {
      // One that was started by hand is no process of this program's.
      const pid = this.supervisor.running.get(this.leader) ?? null
      this.tell(
        { event: 'leader', leader: this.leader, pid },
        `${replicaName(this.leader)} leads now${pid === null ? '' : ` (process ${pid})`}.`,
      )
    }
  }

  private mayFail(): number {
    const { replicas, faultModel } = this.cluster
    return moreMayFail(this.supervisor.running.size, replicas.length, faultModel)
  }

  private servingText(leader: number, mayFail: number): string {
    const left = `${mayFail === 0 ? 'none' : `${mayFail} more`} of its ${counted(this.cluster.replicas.length)} may fail`
    const first = `Parley serves; ${replicaName(leader)} leads; ${left}.${this.assumption()}`
    if (this.served) return first
    const web = this.cluster.replicas[0]?.http ?? ''
    const pid = this.supervisor.running.get(leader)
    const name = program(this.io)
    const servers = serverFlag(this.cluster.replicas)
    // So long a command has a line of its own.
    const or = servers === '' ? ' or: ' : ' or:\n            '
    return [
      first,
      '',
      `  talk      http://${web} in a browser,${or}${name}${servers}`,
      `  look      ${name} status --watch${servers}`,
      `  watch it  http://${web}/#/cluster/${this.controlKey}`,
      ...(mayFail === 0
        ? []
        : [
            `  try it    kill -9 ${pid}   (that is ${replicaName(leader)}, which leads: nobody will notice;`,
            '            later "look" shows who leads, and its process)',
          ]),
      '  stop      Ctrl-C',
      '',
    ].join('\n')
  }

  /** The default model asks nothing of anybody. */
  private assumption(): string {
    return this.cluster.faultModel === 'fail-stop'
      ? ` Fault model fail-stop: ${assumptionOf('fail-stop')}.`
      : ''
  }

  private stop(): void {
    if (this.stopping) {
      this.supervisor.kill()
      return
    }
    this.stopping = true
    this.tell({ event: 'stopping' }, 'Stopping. (Ctrl-C again ends all at once.)')
    void this.supervisor.stop(this.leader).then(() => {
      this.tell({ event: 'stopped' }, 'Stopped. All is on disk.')
      this.finish(0)
    })
  }

  private addresses(replica: number): ClusterReplica {
    const known = this.cluster.replicas.find(({ id }) => id === replica)
    return known ?? { id: replica, http: '', grpc: '', peer: '' }
  }

  private writeUpFile(): void {
    const file: UpFile = {
      pid: process.pid,
      replicas: this.cluster.replicas.map(({ id }) => ({ id, pid: this.supervisor.running.get(id) ?? null })),
    }
    this.stored(this.upFile, () => writeJson(this.upFile, file))
  }

  /** Null when it fails: for want of room in a file of the supervisor no replica has to end. */
  private stored<T>(path: string, write: () => T): T | null {
    try {
      return write()
    } catch (error) {
      this.io.err(`${path} could not be written (${problemOf(error)}).`)
      return null
    }
  }

  private tell(event: UpEvent, text: string): void {
    this.io.out(this.options.json ? JSON.stringify(event) : text)
  }
}

/** The first address that the command line asks by itself. */
const defaultAddress = '127.0.0.1:7400'

/** How people call this program here. */
function program(io: ServerIo): string {
  return io.environment['npm_lifecycle_event'] === undefined ? 'parley' : 'npx parley'
}
