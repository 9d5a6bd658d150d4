import { assumptionOf } from '../base/fault-model.ts'
import type { Due } from '../chat/retention.ts'
import type { GetStatusResponse, ReplicaStatus } from '../gen/parley/v1/service.ts'
import type { LogMember, LogStatus } from '../log/port.ts'
import { parseAddresses } from './addresses.ts'

/** What the process knows about itself. */
export interface Vitals {
  readonly pid: number
  readonly version: string
  readonly residentBytes: number
  readonly cpuUs: number
  /** Of the index of texts. */
  readonly searchBytes: number
  /** What people should do something about; empty when all is well. */
  readonly problem: string
}

export interface StatusParts {
  readonly clusterId: Uint8Array
  readonly log: LogStatus
  readonly appliedIndex: number
  readonly stateBytes: number
  readonly stateFreeBytes: number
  readonly due: Due
  readonly position: number
  readonly versionInUse: number
  readonly quorum: boolean
  readonly uptimeS: number
  readonly appliedCommands: number
  readonly connections: number
  readonly vitals: Vitals
  /** What is wrong between this replica and another one; empty when nothing is. */
  readonly problemWith: (replica: number) => string
  /** A quorum answers, and its disks take nothing. */
  readonly stalled: boolean
  /** Empty when this replica's clock agrees with the others. */
  readonly clockProblem: string
}

/** The whole cluster as this replica sees it. */
export function statusResponse(parts: StatusParts): GetStatusResponse {
  const { log } = parts
  return {
    clusterId: parts.clusterId,
    faultModel: log.faultModel,
    assumption: assumptionOf(log.faultModel),
    waitingFor: [...log.waitingFor],
    replica: log.self,
    leader: log.leader,
    quorum: parts.quorum,
    mayFail: log.mayFail,
    replicas: log.members.map((member) =>
      member.id === log.self
        ? own(parts, member)
        : { ...another(member, log.leader), problem: parts.problemWith(member.id) },
    ),
    position: parts.position,
    versionInUse: parts.versionInUse,
  }
}

function own(parts: StatusParts, member: LogMember): ReplicaStatus {
  const { log, vitals } = parts
  return {
    ...another(member, log.leader),
    role: log.role,
    term: log.term,
    commitIndex: log.commitIndex,
    appliedIndex: parts.appliedIndex,
    lastIndex: log.lastIndex,
    firstIndex: log.firstIndex,
    logBytes: log.logBytes,
    stateBytes: parts.stateBytes,
    stateFreeBytes: parts.stateFreeBytes,
    messagesDue: parts.due.messages,
    messagesDueBytes: parts.due.bytes,
    searchBytes: vitals.searchBytes,
    pid: vitals.pid,
    reachable: true,
    uptimeS: parts.uptimeS,
    version: vitals.version,
    connections: parts.connections,
    residentBytes: vitals.residentBytes,
    cpuUs: vitals.cpuUs,
    appliedCommands: parts.appliedCommands,
    problem: problemsOf(parts).join('; '),
  }
}

/** What is wrong just now, and then what may be so for long. */
function problemsOf({ log, stalled, clockProblem, vitals }: StatusParts): readonly string[] {
  const disk = log.full
    ? 'the disk has no space left'
    : stalled
      ? 'nothing is written: the disks of other replicas are full, or hang'
      : ''
  return [disk, clockProblem, vitals.problem].filter((problem) => problem !== '')
}

function another(member: LogMember, leader: number): ReplicaStatus {
  const addresses = parseAddresses(member.address)
  return {
    id: member.id,
    role: roleOf(member, leader),
    term: 0,
    commitIndex: 0,
    appliedIndex: 0,
    lastIndex: member.matchIndex,
    firstIndex: 0,
    logBytes: 0,
    stateBytes: 0,
    httpAddress: addresses.http,
    grpcAddress: addresses.grpc,
    peerAddress: addresses.peer,
    pid: 0,
    reachable: member.reachable,
    rttUs: member.roundTripUs,
    uptimeS: 0,
    version: '',
    connections: 0,
    residentBytes: 0,
    cpuUs: 0,
    appliedCommands: 0,
    voter: member.voter,
    problem: '',
    copyDoneBytes: member.copy?.doneBytes ?? 0,
    copyBytes: member.copy?.sizeBytes ?? 0,
    newestVersion: member.version,
    stateFreeBytes: 0,
    searchBytes: 0,
    messagesDue: 0,
    messagesDueBytes: 0,
  }
}

function roleOf(member: LogMember, leader: number): string {
  if (!member.reachable) return 'unknown'
  if (member.id === leader) return 'leader'
  return member.voter ? 'follower' : 'learner'
}
