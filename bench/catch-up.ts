// `npm run bench:catch-up`: how long a new replica takes to catch up and get its vote, what clients' sends cost meanwhile, and the gap that each change of the replica set
// makes for them. Progress on stderr, a summary on stdout.
//
//   npm run bench:catch-up -- [--messages 1000000] [--replicas 3] [--outstanding 4]
import { parseArgs } from 'node:util'
import { createClient, type Client } from '../src/client/index.ts'
import { startCluster } from '../test/support/cluster.ts'
import { addReplica, asOperator, removeReplica, untilVoter } from '../test/support/member.ts'
import { summarise, wait } from '../src/cli/load.ts'

const { values: given } = parseArgs({
  options: {
    messages: { type: 'string', default: '1000000' },
    replicas: { type: 'string', default: '3' },
    outstanding: { type: 'string', default: '4' },
  },
})
const messages = Number(given.messages)
const text = 'x'.repeat(256)
const to = { target: { $case: 'room', value: 'everyone' } } as const
const say = (words: string): void => console.error(words)

await using cluster = await startCluster({ replicas: Number(given.replicas) })
const senders: Client[] = []
for (const [i, address] of cluster.addresses.entries()) {
  const client = createClient({ addresses: [address, ...cluster.addresses], timeoutMs: 60_000 })
  await client.register({ name: `sender-${i}`, password: 'a password for the benchmark' })
  senders.push(client)
}

say(`filling up to ${messages} messages`)
await fill(messages)
const status = await asOperator(cluster, (client) => client.call('getStatus', {}))
const stateMb = (status.replicas.find(({ id }) => id === status.replica)?.stateBytes ?? 0) / 1e6

/** What clients saw in one phase. */
interface Phase {
  readonly name: string
  readonly latencies: number[]
  /** The longest time in which no send was answered. */
  gapMs: number
}
const phases: Phase[] = []
let phase: Phase = { name: 'before', latencies: [], gapMs: 0 }
const run = { over: false }
async function during(name: string, work: () => Promise<unknown>): Promise<void> {
  say(name)
  phase = { name, latencies: [], gapMs: 0 }
  phases.push(phase)
  await work()
}

say('waiting until the replicas have nothing left to do, such as to index what came')
await untilAtRest()
let answeredMs = performance.now()
const loops = Array.from({ length: Number(given.outstanding) }, async (_, i) => {
  while (!run.over) {
    const sentMs = performance.now()
    await senders[i % senders.length]?.call('sendMessage', { to, text })
    const now = performance.now()
    phase.latencies.push(now - sentMs)
    phase.gapMs = Math.max(phase.gapMs, now - answeredMs)
    answeredMs = now
  }
})
await wait(1000)
await during('calm', () => wait(5000))
const beganMs = performance.now()
await during('a new replica catches up', async () => {
  await untilVoter(cluster, await addReplica(cluster))
})
const tookS = (performance.now() - beganMs) / 1000
await during('calm again', () => wait(2000))
await during('leadership is transferred', async () => {
  await asOperator(cluster, (client) => client.call('transferLeadership', {}))
  await wait(1000)
})
await during('a follower is removed', async () => {
  await removeReplica(cluster, cluster.replicas.find(({ id }) => id !== cluster.leader())?.id ?? 0)
  await wait(1000)
})
await during('the leader is removed', async () => {
  await removeReplica(cluster, cluster.leader())
  await wait(1000)
})
run.over = true
await Promise.all(loops)

console.log(
  `${messages} messages of 256 bytes, state ${stateMb.toFixed(0)} MB; ${given.outstanding} sends open all the time`,
)
console.log(`a new replica had caught up and had its vote after ${tookS.toFixed(1)} s`)
const calmMs = summarise(phases[0]?.latencies ?? []).p50
for (const { name, latencies, gapMs } of phases) {
  const { p50, p99, max } = summarise(latencies)
  console.log(
    `${name}: ${latencies.length} sends, median ${p50.toFixed(2)} ms (${(p50 / calmMs).toFixed(2)} times calm), p99 ${p99.toFixed(1)} ms, longest ${max.toFixed(0)} ms, longest gap ${gapMs.toFixed(0)} ms`,
  )
}
for (const client of senders) client.close()

/** Until no replica has used more than a seventh of a processor for two seconds. */
async function untilAtRest(): Promise<void> {
  const used = async (): Promise<readonly number[]> =>
    Promise.all(
      cluster.addresses.map(async (address) => {
        const text = await (await fetch(`http://${address}/metrics`)).text()
        return Number(/^process_cpu_seconds_total (\S+)$/m.exec(text)?.[1] ?? 0)
      }),
    )
  for (;;) {
    const before = await used()
    await wait(2000)
    const after = await used()
    if (after.every((cpuS, i) => cpuS - (before[i] ?? 0) < 2 / 7)) return
  }
}

/** As fast as it goes. */
async function fill(count: number): Promise<void> {
  let begun = 0
  await Promise.all(
    Array.from({ length: 512 }, async (_, i) => {
      while (begun < count) {
        begun += 1
        await senders[i % senders.length]?.call('sendMessage', { to, text })
      }
    }),
  )
}
