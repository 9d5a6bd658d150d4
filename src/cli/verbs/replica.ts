import { join } from 'node:path'
import { toHex } from '../../base/bytes.ts'
import { parseReplicaName, replicaName } from '../../base/ids.ts'
import { shellWord } from '../../base/shell-word.ts'
import { parseServerAddress } from '../../client/index.ts'
import type { GetStatusResponse, ReplicaStatus } from '../../gen/parley/v1/service.ts'
import { dataOption, localReplicas, openAuthority, type Authority } from '../authority.ts'
import { bar, catchUpOf, followCatchUp, LeaderView } from '../catch-up.ts'
import { CliError, exitCodes, type Io, UsageError } from '../io.ts'
import { paint, printable, table } from '../text.ts'
import { type Context, type Given, type Report, type Verb, verb } from '../verb.ts'
import { inWords } from './in-words.ts'

export const replicaList = verb(
  {
    name: 'replica list',
    summary: 'the replicas of the cluster: who has a vote, where each is found, how far learners are',
    arguments: [],
    options: [],
  },
  () => ({}),
  async (_, { io, session, settings }) => {
    const view = new LeaderView(io, session().client, settings.servers[0] ?? '')
    try {
      return listReport(await view.status(), io.color)
    } finally {
      view.close()
    }
  },
)

const addressOptions: Verb['options'] = [
  ['--http <host:port>', 'where HTTP and WebSocket of the new replica will be found'],
  ['--grpc <host:port>', 'where its gRPC will be found'],
  ['--peer <host:port>', 'where the other replicas will find it'],
]
const growOptions: Verb['options'] = [
  [
    '--data <dir>',
    'the folder of "parley up", which then starts the new replica; or an empty one for the new replica, to be started with "parley serve"',
  ],
  ...addressOptions,
  ['--learner', 'it gets the log and no vote, until "parley replica promote"'],
]

export const replicaAdd = verb(
  {
    name: 'replica add',
    summary: 'add a replica on this machine (on another machine: parley join)',
    arguments: [],
    options: growOptions,
    examples: [
      'parley replica add --data data',
      'parley replica add --data /var/lib/parley/r6 --http 127.0.0.1:7410 --grpc 127.0.0.1:7510 --peer 127.0.0.1:7610',
    ],
  },
  (given, { io }) => parseGrow(given, localReplicas(io, String(given.options['data'] ?? '')).length > 0),
  async (grow, context) => {
    checkGrow(grow, context)
    const authority = await openAuthority(context, grow.isLocal ? grow.data : null)
    try {
      await makeRoom(grow)
      return await addReplica(grow, null, authority, context)
    } finally {
      authority.close()
    }
  },
)

export const replicaPromote = verb(
  {
    name: 'replica promote',
    summary: 'give a learner a vote, once it has caught up',
    arguments: ['<replica>'],
    options: [dataOption],
    examples: ['parley replica promote r4'],
  },
  parseOne,
  ({ replica, data }, context) =>
    withAuthority(context, data, async ({ client }) => {
      await client.call('promoteReplica', { replica })
      return said({ promoted: replica }, `${replicaName(replica)} has a vote now.`)
    }),
)

export const replicaRemove = verb(
  {
    name: 'replica remove',
    summary:
      'take a replica out of the cluster for good; it hands over first when it leads, and ends by itself',
    arguments: ['<replica>'],
    options: [dataOption],
    examples: ['parley replica remove r2'],
  },
  parseOne,
  ({ replica, data }, context) =>
    withAuthority(context, data, async ({ client }) => {
      await client.call('removeReplica', { replica })
      if (data !== null) {
        // One that runs takes itself out when it ends; a lost one cannot.
        const { dropReplica } = await import('../../server/grow-cluster.ts')
        dropReplica(data, replica)
      }
      return said({ removed: replica }, `${replicaName(replica)} has left the cluster.`)
    }),
)

export const replicaTransfer = verb(
  {
    name: 'replica transfer',
    summary: 'let another replica lead; without a name, whichever can do it best',
    arguments: ['[replica]'],
    options: [dataOption],
    examples: ['parley replica transfer', 'parley replica transfer r3'],
  },
  ({ arguments: [name], options }) => ({
    replica: name === undefined ? 0 : parseName(name),
    data: parseData(options),
  }),
  ({ replica, data }, context) =>
    withAuthority(context, data, async ({ client }) => {
      const { leader } = await client.call('transferLeadership', { replica })
      return said({ leader }, `${replicaName(leader)} leads now.`)
    }),
)

export const replicaReplace = verb(
  {
    name: 'replica replace',
    summary: 'put a new replica in the place of one whose disk or machine is lost',
    arguments: ['<replica>'],
    options: [
      [
        '--data <dir>',
        `${growOptions[0]?.[1]}; or that of a replica on this machine, which allows to make room for one that joins from elsewhere`,
      ],
      ...growOptions.slice(1),
    ],
    examples: [
      'parley replica replace r2 --data data',
      'parley replica replace r2',
      'parley replica replace r2 --data /var/lib/parley',
    ],
  },
  (given, { io }) => {
    const replica = parseName(given.arguments[0] ?? '')
    const data = parseData(given.options)
    const isLocal = data !== null && localReplicas(io, data).length > 0
    if (data === null || isReplicaFolder(io, data)) return { replica, operator: data, grow: null }
    return { replica, operator: isLocal ? data : null, grow: { ...parseGrow(given, true), isLocal } }
  },
  async ({ replica, operator, grow }, context) => {
    if (grow !== null) checkGrow(grow, context)
    const authority = await openAuthority(context, operator)
    try {
      const lost = authority.status.replicas.find(({ id }) => id === replica)
      const name = replicaName(replica)
      if (lost?.reachable === true)
        throw new CliError(
          `${name} answers the others, so there is nothing to replace. To take it out all the same: parley replica remove ${name}`,
        )
      if (grow !== null) await makeRoom(grow)
      // An attempt that broke off may have removed it already.
      const isHalfDone =
        lost === undefined && grow?.isLocal === true && localReplicas(context.io, grow.data).includes(replica)
      if (!isHalfDone) await authority.client.call('removeReplica', { replica })
      if (grow !== null) return await addReplica(grow, replica, authority, context)
      return said(
        { removed: replica, added: null },
        `${name} has left the cluster. On the machine that is to take its place, with an empty folder:`,
        '  parley join TOKEN --host ADDRESS --data DIR',
        'A TOKEN is made with: parley token create',
      )
    } finally {
      authority.close()
    }
  },
)

export const leave = verb(
  {
    name: 'leave',
    summary: 'take the replica of this machine out of the cluster: it hands over, leaves and stops',
    arguments: [],
    options: [['--data <dir>', 'the data folder of the replica']],
    examples: ['parley leave --data /var/lib/parley'],
  },
  ({ options }) => {
    const data = parseData(options)
    if (data === null) throw new UsageError('which replica? Name its data folder: parley leave --data DIR')
    return { data }
  },
  async ({ data }, context) => {
    if (localReplicas(context.io, data).length > 0)
      throw new UsageError(`${data} holds several replicas. Name the folder of one: ${data}/r1, for instance`)
    const authority = await openAuthority(context, data)
    const { replica } = authority.status
    try {
      await authority.client.call('removeReplica', { replica })
      await untilGone(authority, context)
    } finally {
      authority.close()
    }
    return said(
      { left: replica },
      `${replicaName(replica)} has left the cluster and stops. ${data} is of no more use.`,
    )
  },
)

interface One {
  readonly replica: number
  readonly data: string | null
}

/** What is to be made. */
interface Grow {
  readonly data: string
  /** It is the folder of `parley up`. */
  readonly isLocal: boolean
  readonly http: string | null
  readonly grpc: string | null
  readonly peer: string | null
  readonly learner: boolean
}

function parseOne({ arguments: [name = ''], options }: Given): One {
  return { replica: parseName(name), data: parseData(options) }
}

function parseName(name: string): number {
  const replica = parseReplicaName(name)
  if (replica === null) throw new UsageError(`a replica is named as r2, not "${name}"`)
  return replica
}

function parseData(options: Given['options']): string | null {
  const data = options['data']
  return typeof data === 'string' ? data : null
}

/** @param placed the addresses need not be given: they are known otherwise. */
function parseGrow({ options }: Given, placed: boolean): Grow {
  const data = parseData(options)
  if (data === null)
    throw new UsageError(
      'where is the new replica to be? On this machine, name a folder with --data DIR. On another one: "parley token create" here and "parley join" there',
    )
  const address = (name: string): string | null => {
    const value = options[name]
    if (value !== undefined && (typeof value !== 'string' || parseServerAddress(value)?.secure !== false))
      throw new UsageError(`--${name} is host:port, not "${String(value)}"`)
    if (value === undefined && !placed)
      throw new UsageError(`--${name} is missing: where the new replica will be found, as host:port`)
    return value ?? null
  }
  const [http, grpc, peer] = [address('http'), address('grpc'), address('peer')]
  return { data, isLocal: placed, http, grpc, peer, learner: options['learner'] === true }
}

function isReplicaFolder(io: Io, data: string): boolean {
  return io.files.read(join(data, 'replica.json')) !== null
}

/** What would only come to light when half is done. */
function checkGrow({ data, isLocal }: Grow, { io, settings }: Context): void {
  if (!isLocal && isReplicaFolder(io, data))
    throw new UsageError(`${data} is the folder of a replica already: the new one needs an empty folder`)
  if (settings.servers.some((server) => parseServerAddress(server)?.secure === true))
    throw new CliError(
      'The replicas of this cluster prove themselves by certificates, which a new one gets when it joins: "parley token create" here, and "parley join" on its machine.',
    )
}

/** Before anything is asked of the cluster, which would count on a replica that cannot be made. */
async function makeRoom({ data }: Grow): Promise<void> {
  const { makeFolder } = await import('../../server/make-folder.ts')
  await inWords(async () => makeFolder(data))
}

async function withAuthority(
  context: Context,
  data: string | null,
  work: (authority: Authority) => Promise<Report>,
): Promise<Report> {
  const authority = await openAuthority(context, data)
  try {
    return await work(authority)
  } finally {
    authority.close()
  }
}

function said(data: unknown, ...lines: readonly string[]): Report {
  return { data, lines }
}

const goneMs = 15_000

/** Its process ends by itself, when it has answered those whom it serves. */
async function untilGone({ client }: Authority, { io }: Context): Promise<void> {
  const late = { is: false }
  const cancel = io.after(goneMs, () => {
    late.is = true
  })
  while (!late.is) {
    try {
      await client.call('getStatus', {}, { timeoutMs: 500 })
    } catch {
      break
    }
    await new Promise<void>((resolve) => io.after(100, resolve))
  }
  cancel()
}

/** Adds a replica, with its folder on this machine. @param inPlaceOf the one whose addresses it takes over. */
async function addReplica(
  grow: Grow,
  inPlaceOf: number | null,
  { client, status }: Authority,
  { io, settings }: Context,
): Promise<Report> {
  const { data, isLocal, learner } = grow
  const [known = ''] = settings.servers
  const { addLocalReplica, addressesFor, makeJoiningFolder } = await import('../../server/grow-cluster.ts')
  const lost = status.replicas.find(({ id }) => id === inPlaceOf)
  const planned = await addressesFor(isLocal ? data : null)
  const own = {
    http: grow.http ?? lost?.httpAddress ?? planned?.http ?? '',
    grpc: grow.grpc ?? lost?.grpcAddress ?? planned?.grpc ?? '',
    peer: grow.peer ?? lost?.peerAddress ?? planned?.peer ?? '',
  }
  const { replica } = await client.call('addReplica', {
    httpAddress: own.http,
    grpcAddress: own.grpc,
    peerAddress: own.peer,
  })
  const name = replicaName(replica)
  const result = { added: replica, removed: inPlaceOf, ...own, voter: false }
  if (!isLocal) {
    const contacts = status.replicas.map(({ id, httpAddress, grpcAddress, peerAddress }) => ({
      id,
      http: httpAddress,
      grpc: grpcAddress,
      peer: peerAddress,
    }))
    const cluster = { clusterId: toHex(status.clusterId), contacts }
    makeJoiningFolder(data, cluster, { id: replica, ...own }, learner)
    return said(result, `${name} is added, as a learner. Start it: parley serve --data ${shellWord(data)}`)
  }
  const isRunning = addLocalReplica(data, { id: replica, ...own }, { learner, inPlaceOf })
  if (!isRunning)
    return said(
      result,
      `${name} is added, as a learner. Start it: parley serve --data ${shellWord(join(data, name))}`,
    )
  const view = new LeaderView(io, client, known)
  try {
    const isDone = ({ voter, reachable, lastIndex }: ReplicaStatus): boolean =>
      learner ? reachable && lastIndex > 0 : voter
    const done = await followCatchUp(io, view, replica, isDone)
    if (!done) return said(result, `${name} is added, and catches up: parley replica list`)
    return said(
      { ...result, voter: !learner },
      learner ? `${name} is added, as a learner.` : `${name} is added, has caught up and has a vote.`,
    )
  } finally {
    view.close()
  }
}

function listReport(status: GetStatusResponse, color: boolean): Report {
  const colors = paint(color)
  const { replicas, leader, quorum } = status
  return {
    data: {
      leader: leader === 0 ? null : leader,
      quorum,
      replicas: replicas.map((one) => ({
        id: one.id,
        name: replicaName(one.id),
        voter: one.voter,
        leader: one.id === leader,
        reachable: one.reachable,
        httpAddress: one.httpAddress,
        grpcAddress: one.grpcAddress,
        peerAddress: one.peerAddress,
        caughtUp: one.voter ? null : catchUpOf(one, status).fraction,
        problem: one.problem === '' ? null : one.problem,
      })),
    },
    lines: table([
      ['id', '', 'http', 'grpc', 'other replicas', ''].map((head) => colors.dim(head)),
      ...replicas.map((one) => [
        replicaName(one.id),
        standing(one, status),
        printable(one.httpAddress),
        printable(one.grpcAddress),
        printable(one.peerAddress),
        one.problem === '' ? '' : colors.red(printable(one.problem)),
      ]),
    ]),
    exitCode: quorum ? exitCodes.ok : exitCodes.unavailable,
  }
}

function standing(one: ReplicaStatus, status: GetStatusResponse): string {
  const role = one.id === status.leader ? 'leads' : one.voter ? 'votes' : 'learner'
  if (!one.reachable) return `${role}, not reachable`
  return one.voter ? role : `${role} ${bar(catchUpOf(one, status).fraction, 10)}`
}
