import { toHex } from '../../base/bytes.ts'
import type { Client, ParleyError } from '../../client/index.ts'
import type { Target } from '../../gen/parley/v1/model.ts'
import { CliError, exitCodes, UsageError, type Io } from '../io.ts'
import { drive, type LoadResult } from '../load.ts'
import { plural, table } from '../text.ts'
import { verb } from '../verb.ts'

const mostOutstanding = 4096
const mostSeconds = 300
/** Not counted: caches and the compiler get going. */
const warmUpMs = 1000
/** The shortest: what the measurement leaves behind is gone soon. */
const retentionS = 60

export const bench = verb(
  {
    name: 'bench',
    summary: 'how many sends the cluster takes per second, and how long each takes',
    arguments: [],
    options: [
      ['--outstanding <counts>', 'sends that are open at once, one measurement for each: default 1,16,128'],
      ['--seconds <number>', 'how long each is measured: default 5'],
      ['--bytes <number>', 'length of each message: default 256'],
    ],
    examples: ['parley bench', 'parley bench --outstanding 512 --seconds 20 --json'],
  },
  ({ options }) => ({
    counts: listOf(options['outstanding'] ?? '1,16,128'),
    seconds: numberOf('--seconds', options['seconds'] ?? '5', mostSeconds),
    bytes: numberOf('--bytes', options['bytes'] ?? '256', 1_000_000),
  }),
  async ({ counts, seconds, bytes }, { io, settings, session }) => {
    const own = session().signedIn()
    const { saved } = session()
    const name = `bench-${toHex(own.newId()).slice(-12)}`
    await own.call('createRoom', { name, topic: 'messages of parley bench; gone in a minute', private: true })
    const senders: Client[] = []
    try {
      await own.call('setRoomRetention', { name, retentionS })
      // On every replica that is known: one connection alone would be what is measured.
      const known = [...new Set([...own.addresses, ...settings.servers])]
      for (const [i, address] of known.entries())
        senders.push(
          io.createClient({
            addresses: [address, ...known.slice(i + 1), ...known.slice(0, i)],
            timeoutMs: settings.timeoutMs,
            ...(saved === null ? {} : { token: saved.token }),
          }),
        )
      const steps = await measured(io, senders, {
        to: { target: { $case: 'room', value: name } },
        text: 'x'.repeat(bytes),
        counts,
        seconds,
      })
      return {
        data: { messageBytes: bytes, steps },
        lines: stepLines(steps, bytes),
        exitCode: steps.some(({ failed }) => failed > 0) ? exitCodes.error : exitCodes.ok,
      }
    } finally {
      for (const sender of senders) sender.close()
      // Without members nobody can find it any more, and its name is free. That it cannot be left must not hide what was measured, or why nothing was.
      await own.call('leaveRoom', { name }).catch((error: unknown) => {
        io.err(
          `The room of the measurement is still there: ${error instanceof Error ? error.message : String(error)}`,
        )
        io.err(`When the cluster answers again: parley rooms leave ${name}`)
      })
    }
  },
)

interface Step extends LoadResult {
  /** The last one of those that failed. */
  readonly problem: string | null
}

async function measured(
  io: Io,
  senders: readonly Client[],
  {
    to,
    text,
    counts,
    seconds,
  }: {
    readonly to: Target
    readonly text: string
    readonly counts: readonly number[]
    readonly seconds: number
  },
): Promise<readonly Step[]> {
  let isStopped = false
  const stopped = io.stopped.then(() => void (isStopped = true))
  const pause = async (delayMs: number): Promise<void> => {
    const over = new Promise<void>((resolve) => io.after(delayMs, resolve))
    await Promise.race([over, stopped])
  }
  const steps: Step[] = []
  for (const outstanding of counts) {
    if (io.canAsk) io.err(`${outstanding} open at once: ${plural(seconds, 'second')} …`)
    let problem: ParleyError | null = null
    const result = await drive({
      outstanding,
      warmUpMs,
      measureMs: seconds * 1000,
      pause,
      send(slot, done) {
        senders[slot % senders.length]?.request('sendMessage', { to, text }, {}, (error) => {
          problem = error ?? problem
          // What fails at once must not be asked for without end.
          if (error === null) done(true)
          else io.after(50, () => done(false))
        })
      },
    })
    const { message } = problem ?? { message: null }
    if (result.completed === 0) throw new CliError(message ?? 'Nothing was sent in the time.')
    steps.push({ ...result, problem: message })
    if (isStopped) break
  }
  return steps
}

function stepLines(steps: readonly Step[], bytes: number): string[] {
  const ms = (value: number): string => `${value.toFixed(value < 10 ? 2 : 0)} ms`
  const failures = steps.filter(({ failed }) => failed > 0)
  return [
    `Messages of ${plural(bytes, 'byte')}, each acknowledged when a quorum has it on disk:`,
    ...table([
      ['open at once', 'sends/s', 'half within', '99 % within', 'longest', ''],
      ...steps.map(({ outstanding, perSecond, latencyMs, failed }) => [
        String(outstanding),
        String(Math.round(perSecond)),
        ms(latencyMs.p50),
        ms(latencyMs.p99),
        ms(latencyMs.max),
        failed === 0 ? '' : `${failed} failed`,
      ]),
    ]),
    ...failures.slice(0, 1).map(({ problem }) => problem ?? ''),
  ]
}

function listOf(value: unknown): readonly number[] {
  return String(value)
    .split(',')
    .map((one) => numberOf('--outstanding', one, mostOutstanding))
}

function numberOf(option: string, value: unknown, most: number): number {
  const number = Number(value)
  if (Number.isInteger(number) && number >= 1 && number <= most) return number
  throw new UsageError(`${option} takes whole numbers from 1 to ${most}, not "${String(value)}"`)
}
