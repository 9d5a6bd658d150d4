// Thousands of devices on five replicas, each of which sends now and then; the leader is killed, then another one. How long does anybody wait?
//
//   node bench/reconnect.ts [--devices 2000] [--pause 5000] [--kills 2] [--seconds 25]
import { parseArgs } from 'node:util'
import { createClient, type Client, ParleyError } from '../src/client/index.ts'
import { startCluster, type TestCluster } from '../test/support/cluster.ts'
import { summarise, wait } from '../src/cli/load.ts'

const { values: given } = parseArgs({
  options: {
    devices: { type: 'string', default: '2000' },
    pause: { type: 'string', default: '5000' },
    kills: { type: 'string', default: '2' },
    seconds: { type: 'string', default: '25' },
  },
})
const devices = Number(given.devices)
const pauseMs = Number(given.pause)
const phaseMs = Number(given.seconds) * 1000
/** So many at a time sign up. */
const atOnce = 50
const password = 'a password for tests'

interface Sent {
  readonly beganMs: number
  readonly tookMs: number
  /** Null: acknowledged. */
  readonly reason: string | null
}

const sent: Sent[] = []
const clients: Client[] = []
/** Events by kind. */
const heard = new Map<string, number>()
const over = new AbortController()

const cluster = await startCluster({ replicas: 5 })
try {
  await connect(cluster)
  const everybody = Promise.all(clients.map((client, i) => talk(client, i)))
  await phase('before', cluster)
  for (let kill = 1; kill <= Number(given.kills); kill += 1) {
    const leader = cluster.leader()
    const killedMs = performance.now()
    await cluster.end(leader, 'SIGKILL')
    await phase(`r${leader}, the leader, killed`, cluster, killedMs)
  }
  over.abort()
  await everybody
} finally {
  for (const client of clients) client.close()
  await cluster.close()
}
process.exit()

/** Device i begins with replica i, modulo how many there are, and knows the others. */
async function connect({ addresses }: TestCluster): Promise<void> {
  const beganMs = performance.now()
  for (let from = 0; from < devices; from += atOnce)
    await Promise.all(
      Array.from({ length: Math.min(atOnce, devices - from) }, async (_, n) => {
        const i = from + n
        const own = [...addresses.slice(i % addresses.length), ...addresses.slice(0, i % addresses.length)]
        const client = createClient({ addresses: own, timeoutMs: 30_000 })
        clients.push(client)
        await client.register({ name: `device-${i}`, password })
      }),
    )
  // Not before: everybody who listens is told of each new account.
  for (const client of clients)
    client.subscribe(0, (events) => {
      for (const { event } of events) if (event !== undefined) count(heard, event.$case)
    })
  await untilQuiet()
  console.log(`${devices} devices are connected after ${seconds(performance.now() - beganMs)}`)
}

/** Everybody has been told who is online. */
async function untilQuiet(): Promise<void> {
  do {
    heard.clear()
    await wait(1000)
  } while (heard.size > 0)
}

async function talk(client: Client, i: number): Promise<void> {
  await wait((pauseMs * i) / devices)
  while (!over.signal.aborted) {
    const beganMs = performance.now()
    const reason = await client
      .call('sendMessage', {
        to: { target: { $case: 'account', value: `device-${(i * 7 + 1) % devices}` } },
        text: 'are you there?',
      })
      .then(
        () => null,
        (error: unknown) => (error instanceof ParleyError ? error.reason : String(error)),
      )
    sent.push({ beganMs, tookMs: performance.now() - beganMs, reason })
    await wait(pauseMs)
  }
}

/** What was sent while it lasted, or was not answered when it began. */
async function phase(name: string, { running }: TestCluster, beganMs = performance.now()): Promise<void> {
  const { user, system } = process.cpuUsage()
  let mostLagMs = 0
  heard.clear()
  const endMs = performance.now() + phaseMs
  while (performance.now() < endMs) {
    const atMs = performance.now()
    await wait(20)
    mostLagMs = Math.max(mostLagMs, performance.now() - atMs - 20)
  }
  const used = process.cpuUsage()
  const own = (used.user + used.system - user - system) / 1e4 / (phaseMs / 1000)
  const these = sent.filter((one) => one.beganMs + one.tookMs >= beganMs)
  const good = these.filter(({ reason }) => reason === null).map(({ tookMs }) => tookMs)
  const { p50, p99, max } = summarise(good)
  const failed = new Map<string, number>()
  for (const { reason } of these) if (reason !== null) count(failed, reason)
  const at = new Map<string, number>()
  for (const { state } of clients) count(at, state.kind === 'connected' ? `r${state.replica}` : state.kind)
  console.log(
    `${name}: ${good.length} sent, p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(0)} ms, longest ${seconds(max)}; failed: ${words(failed)}; longest pause of this process ${mostLagMs.toFixed(0)} ms, ${own.toFixed(0)} % CPU; ${running.size} replicas run, devices at ${words(at)}; heard ${words(heard)}`,
  )
}

function count(counts: Map<string, number>, what: string): void {
  counts.set(what, (counts.get(what) ?? 0) + 1)
}

function words(counts: ReadonlyMap<string, number>): string {
  if (counts.size === 0) return 'none'
  return [...counts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([what, count]) => `${what} ${count}`)
    .join(', ')
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`
}
