import { parseServerAddress, type Client } from '../../client/index.ts'
import type { Cluster } from '../../server/join.ts'
import { joinOptions } from '../../server/options.ts'
import { fetchAuthority, PinError } from '../../tls/connect.ts'
import { followCatchUp, LeaderView } from '../catch-up.ts'
import { CliError, exitCodes, type Io, UsageError } from '../io.ts'
import { verb } from '../verb.ts'
import { inWords } from './in-words.ts'
import { flagsOf, serverOptions } from './up.ts'

export const join = verb(
  {
    name: 'join',
    summary:
      'make a replica of a cluster on this machine, with a token that "parley init" or "parley token create" printed, and run it',
    arguments: ['[token]'],
    options: flagsOf(joinOptions),
    examples: [
      'parley join TOKEN --host 192.0.2.2 --data /var/lib/parley',
      'parley join - --host 192.0.2.2 --data /var/lib/parley < token.txt',
      'PARLEY_JOIN_TOKEN=… parley join --host 192.0.2.2 --data /var/lib/parley',
    ],
  },
  (given, { io, settings }) => ({
    token: givenToken(given.arguments[0], io),
    options: serverOptions(joinOptions, given, io.environment, settings.file['serve'], false),
  }),
  async ({ token, options }, { io, settings }) => {
    const { becomeReplicaProcess } = await import('../../server/replica-process.ts')
    becomeReplicaProcess()
    const { runJoin } = await import('../../server/join.ts')
    // Not before: what was read of it would be lost to the process that this one became.
    const word = token === fromInput ? await readToken(io) : token
    return inWords(() =>
      runJoin(word, options, settings.json, io.server(), (addresses) =>
        connect(addresses, settings.timeoutMs, io),
      ),
    )
  },
)

/** In place of a token: it comes from standard input, and others do not see it in the list of processes. */
const fromInput = '-'

function givenToken(given: string | undefined, io: Io): string {
  const token = given ?? io.environment['PARLEY_JOIN_TOKEN'] ?? ''
  if (token === '')
    throw new UsageError(
      'a token is needed: give it as an argument, on standard input with "parley join -", or in PARLEY_JOIN_TOKEN',
    )
  return token
}

async function readToken(io: Io): Promise<string> {
  return (io.canAsk ? await io.askSecret('Token') : await io.readInput()).trim()
}

/** The cluster as who wants to join it sees it. */
function connect(addresses: readonly string[], timeoutMs: number, io: Io): Cluster {
  let client: Client | null = null
  const connected = (): Client => (client ??= io.createClient({ addresses, timeoutMs }))
  return {
    async join(request) {
      await checkReachable(addresses)
      return connected().call('joinCluster', request)
    },
    async follow(replica) {
      const view = new LeaderView(io, connected(), addresses[0] ?? '')
      for (;;) {
        try {
          return await followCatchUp(io, view, replica, ({ voter }) => voter)
        } catch {
          // Nobody can be asked just now: the replica catches up all the same.
          await new Promise<void>((resolve) => io.after(againMs, resolve))
        } finally {
          view.close()
        }
      }
    },
    close: () => client?.close(),
  }
}

const againMs = 1000

/** Says at once what a client that tries again and again would only find out in the end. */
async function checkReachable(addresses: readonly string[]): Promise<void> {
  const attempts = addresses.flatMap((address) => {
    const { host, pin } = parseServerAddress(address) ?? { host: address, pin: null }
    return pin === null ? [] : [fetchAuthority(host, pin)]
  })
  const results = await Promise.allSettled(attempts)
  if (results.some(({ status }) => status === 'fulfilled')) return
  const errors: unknown[] = results.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []))
  const telling = errors.find((error) => error instanceof PinError) ?? errors[0]
  const why = telling instanceof Error ? telling.message : String(telling)
  throw new CliError(
    telling instanceof PinError
      ? why
      : `No replica of the cluster can be reached from here (${why}). Do its machines run, and does no firewall stand in between?`,
    exitCodes.unavailable,
  )
}
