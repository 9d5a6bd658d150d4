import { replicaName } from '../../base/ids.ts'
import { toHex } from '../../base/bytes.ts'
import { addressBeside, type Client } from '../../client/index.ts'
import type { GetStatusResponse, ReplicaStatus } from '../../gen/parley/v1/service.ts'
import { CliError, exitCodes, type Io } from '../io.ts'
import { byteWords, paint, type Paint, plural, printable, safeJson, tableWithin, wrapWords } from '../text.ts'
import { type Report, verb } from '../verb.ts'

export const status = verb(
  {
    name: 'status',
    summary: 'every replica as it says itself: role, term, positions, load, and how many more may fail',
    arguments: [],
    options: [['--watch', 'go on, once a second']],
  },
  ({ options }) => ({ watch: options['watch'] === true }),
  async ({ watch }, { io, settings }) => {
    const survey = new Survey(settings.servers, io)
    try {
      if (!watch) return await survey.report()
      return await watchStatus(survey, io, settings.json)
    } finally {
      survey.close()
    }
  },
)

/** A replica that has not answered by then counts as not reachable. */
const answerMs = 1000
/** The same for one that another replica cannot reach either. */
const answerWhenLostMs = 250
const watchMs = 1000

async function watchStatus(survey: Survey, io: Io, json: boolean): Promise<number> {
  const stopped = io.stopped.then(() => 'stopped' as const)
  for (;;) {
    const report = await survey.report().catch((error: unknown) => {
      if (!(error instanceof CliError)) throw error
      return { data: { reachable: false }, lines: [error.message] }
    })
    if (json) io.out(safeJson(report.data))
    else io.out(`${io.isTerminal ? '\u001B[H\u001B[2J' : ''}${report.lines.join('\n')}`)
    const next = new Promise<'next'>((resolve) => io.after(watchMs, () => resolve('next')))
    if ((await Promise.race([stopped, next])) === 'stopped') return exitCodes.ok
  }
}

export interface Answer {
  readonly address: string
  readonly status: GetStatusResponse
  readonly latencyMs: number
}

type SurveyIo = Pick<Io, 'createClient' | 'color' | 'after' | 'columns' | 'isTerminal'>

/** Asks every replica over a connection of its own: what one of them thinks of the others may be old. */
export class Survey {
  private readonly io: SurveyIo
  private readonly given: readonly string[]
  private readonly clients = new Map<string, Client>()

  constructor(addresses: readonly string[], io: SurveyIo) {
    this.given = addresses
    this.io = io
  }

  async report(): Promise<Report> {
    const answers = await this.ask()
    const best = [...answers.values()].sort(
      (a, b) =>
        Number(leadsNow(b, answers)) - Number(leadsNow(a, answers)) ||
        Number(b.status.quorum) - Number(a.status.quorum) ||
        b.status.position - a.status.position,
    )[0]
    if (best === undefined)
      throw new CliError(
        `No replica answers at ${this.given.join(', ')}. Start a cluster on this machine with: parley up. One that "parley init" made is reached at the address that it printed: parley -s parleys://…`,
        exitCodes.unavailable,
      )
    const { color, isTerminal, columns } = this.io
    return statusReport(best.status, answers, paint(color), isTerminal ? columns() : Infinity)
  }

  close(): void {
    for (const client of this.clients.values()) client.close()
  }

  /** The answers by replica. */
  private async ask(): Promise<ReadonlyMap<number, Answer>> {
    const answers = new Map<number, Answer>()
    /** What ends the waiting for each address early. */
    const asked = new Map<string, () => void>()
    const ask = async (address: string): Promise<void> => {
      const lost = new Promise<null>((resolve) => asked.set(address, () => resolve(null)))
      const answer = await Promise.race([this.askOne(address), lost])
      if (answer === null) return
      answers.set(answer.status.replica, answer)
      // Replicas that were not given are known to those that were. One with another name for the same machine has answered already.
      const others = answer.status.replicas
        .filter(({ id, httpAddress }) => !answers.has(id) && httpAddress !== '')
        .map(({ httpAddress, reachable }) => ({ at: addressBeside(address, httpAddress), reachable }))
      await Promise.all(
        others.map(async ({ at, reachable }) => {
          const asking = asked.has(at) ? null : ask(at)
          const giveUp = asked.get(at)
          if (!reachable && giveUp !== undefined) this.io.after(answerWhenLostMs, giveUp)
          await asking
        }),
      )
    }
    // All at once: one that is dead should not keep people waiting for the others.
    await Promise.all(this.given.map((address) => ask(address)))
    return answers
  }

  private async askOne(address: string): Promise<Answer | null> {
    let client = this.clients.get(address)
    if (client === undefined) {
      client = this.io.createClient({ addresses: [address], discover: false })
      this.clients.set(address, client)
    }
    try {
      // The first answer may have waited for the connection; the second one tells how far away the replica is.
      await client.call('getStatus', {}, { timeoutMs: answerMs })
      const beganMs = performance.now()
      const answer = await client.call('getStatus', {}, { timeoutMs: answerMs })
      return { address, status: answer, latencyMs: performance.now() - beganMs }
    } catch {
      return null
    }
  }
}

/** A follower of a leader that waits for another replica does not know it: to the follower all is well. A leader that was cut off may not have heard of a newer term. */
function leadsNow(answer: Answer, answers: ReadonlyMap<number, Answer>): boolean {
  return (
    ownOf(answer)?.role === 'leader' && [...answers.values()].every((one) => termOf(one) <= termOf(answer))
  )
}

function termOf(answer: Answer): number {
  return ownOf(answer)?.term ?? 0
}

function ownOf({ status }: Answer): ReplicaStatus | undefined {
  return status.replicas.find(({ id }) => id === status.replica)
}

interface Row {
  readonly known: ReplicaStatus
  readonly answer: Answer | null
}

const heads = [
  'id',
  'role',
  'term',
  'commit',
  'applied',
  'log',
  'state',
  'search',
  'http',
  'grpc',
  'pid',
  'answers in',
  '',
]
/** What a narrow terminal does without, the first of them first. */
const dispensable = ['grpc', 'search', 'commit', 'state', 'log', 'answers in', 'term', 'applied', 'http'].map(
  (head) => heads.indexOf(head),
)

/** `best`: the answer of the replica that is believed about the cluster. */
export function statusReport(
  best: GetStatusResponse,
  answers: ReadonlyMap<number, Answer>,
  colors: Paint,
  columns: number,
): Report {
  const rows = best.replicas.map((known) => rowOf(known, answers))
  return {
    data: {
      clusterId: toHex(best.clusterId),
      faultModel: best.faultModel,
      leader: best.leader === 0 ? null : best.leader,
      quorum: best.quorum,
      mayFail: best.mayFail,
      waitingFor: best.waitingFor.map(replicaName),
      position: best.position,
      versionInUse: best.versionInUse,
      replicas: rows.map(rowJson),
    },
    lines: [
      ...tableWithin(
        columns,
        [heads.map((head) => colors.dim(head)), ...rows.map((row) => rowCells(row, colors))],
        dispensable,
      ),
      '',
      ...[summary(best, colors), ...housekeeping(best, rows)].flatMap((line) => wrapWords(line, columns)),
    ],
    exitCode: best.quorum ? exitCodes.ok : exitCodes.unavailable,
  }
}

/** What a replica says of itself; of one that does not answer, what is known to the others: one of them may have refused it, and not the leader. */
function rowOf(known: ReplicaStatus, answers: ReadonlyMap<number, Answer>): Row {
  const answer = answers.get(known.id) ?? null
  if (answer !== null) return { known: ownOf(answer) ?? known, answer }
  const views = [...answers.values()].flatMap(({ status }) => status.replicas)
  const told = views.find(({ id, problem }) => id === known.id && problem !== '')
  return { known: { ...known, problem: known.problem || (told?.problem ?? '') }, answer }
}

function rowJson({ known, answer }: Row): unknown {
  return {
    id: known.id,
    name: replicaName(known.id),
    role: answer === null ? 'unknown' : known.role,
    voter: known.voter,
    reachable: answer !== null,
    term: known.term,
    commitIndex: known.commitIndex,
    appliedIndex: known.appliedIndex,
    firstIndex: known.firstIndex,
    lastIndex: known.lastIndex,
    logBytes: known.logBytes,
    stateFreeBytes: known.stateFreeBytes,
    searchBytes: known.searchBytes,
    messagesDue: known.messagesDue,
    messagesDueBytes: known.messagesDueBytes,
    newestVersion: known.newestVersion,
    stateBytes: known.stateBytes,
    httpAddress: known.httpAddress,
    grpcAddress: known.grpcAddress,
    peerAddress: known.peerAddress,
    pid: answer === null || known.pid === 0 ? null : known.pid,
    latencyMs: answer === null ? null : Math.round(answer.latencyMs * 1000) / 1000,
    uptimeS: known.uptimeS,
    version: known.version,
    connections: known.connections,
    residentBytes: known.residentBytes,
    cpuUs: known.cpuUs,
    appliedCommands: known.appliedCommands,
    problem: known.problem === '' ? null : known.problem,
  }
}

/** What goes on by itself, or waits for something. */
function housekeeping(best: GetStatusResponse, rows: readonly Row[]): string[] {
  const lines: string[] = []
  const [fullest] = rows.map(({ known }) => known).sort((a, b) => b.messagesDue - a.messagesDue)
  if (fullest !== undefined && fullest.messagesDue > 0) {
    const { messagesDue: due, messagesDueBytes } = fullest
    const words =
      due >= 1000 ? '1000 or more messages are' : `${plural(due, 'message')} ${due === 1 ? 'is' : 'are'}`
    lines.push(
      `${words} older than the retention allows and about to be removed, which frees ${byteWords(messagesDueBytes)} or so of the state.`,
    )
  }
  const newest = Math.max(...rows.map(({ known }) => known.newestVersion))
  if (newest > best.versionInUse)
    lines.push(
      `Commands of version ${newest} wait until all replicas know them; version ${best.versionInUse} is in use.`,
    )
  return lines
}

/** Room that removed messages left is used again before the file grows. */
function stateWords({ stateBytes, stateFreeBytes }: ReplicaStatus): string {
  const free = stateFreeBytes * 20 < stateBytes ? '' : ` (${byteWords(stateFreeBytes)} free)`
  return `${byteWords(stateBytes)}${free}`
}

function rowCells({ known, answer }: Row, colors: Paint): string[] {
  const name = replicaName(known.id)
  if (answer === null)
    return [
      name,
      colors.red('not reachable'),
      '',
      '',
      '',
      '',
      '',
      '',
      printable(known.httpAddress),
      printable(known.grpcAddress),
      '',
      '',
      known.problem === '' ? '' : colors.red(printable(known.problem)),
    ]
  return [
    known.role === 'leader' ? colors.bold(name) : name,
    known.role === 'leader' ? colors.green(known.role) : printable(known.role),
    String(known.term),
    String(known.commitIndex),
    String(known.appliedIndex),
    byteWords(known.logBytes),
    stateWords(known),
    byteWords(known.searchBytes),
    printable(known.httpAddress),
    printable(known.grpcAddress),
    known.pid === 0 ? '' : String(known.pid),
    `${answer.latencyMs.toFixed(1)} ms`,
    known.problem === '' ? '' : colors.red(printable(known.problem)),
  ]
}

function summary(
  { quorum, leader, mayFail, faultModel, assumption, waitingFor }: GetStatusResponse,
  colors: Paint,
): string {
  if (!quorum && waitingFor.length > 0) {
    const names = waitingFor.map(replicaName).join(' and ')
    return colors.red(`No quorum: waiting for ${names}. See: parley recover --help`)
  }
  if (!quorum) {
    const missing =
      mayFail < 0
        ? `${plural(-mayFail, 'replica')} must come back before anything can be written`
        : 'read-only'
    return colors.red(`No quorum: ${missing}.`)
  }
  const leads = leader === 0 ? 'No leader is known' : `${replicaName(leader)} leads`
  const words = `${leads}; ${mayFail <= 0 ? 'none may fail now' : `${mayFail} more may fail`} (${printable(faultModel)}: ${printable(assumption)}).`
  return mayFail <= 0 ? colors.yellow(words) : colors.green(words)
}
