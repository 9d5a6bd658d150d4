// `npm run bench`: what Parley does on this machine, in numbers; beside etcd when that is installed. Progress on stderr, a summary on stdout, JSON and a page in bench/results.
//
//   npm run bench -- [--seconds 5] [--warm-up 10] [--kills 20] [--replicas 5] [--stored 100000] [--outstanding 1,16,128,512] [--no-etcd] [--profile FOLDER]
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { toHex } from '../src/base/bytes.ts'
import { createClient, history, type Client } from '../src/client/index.ts'
import type { Target } from '../src/gen/parley/v1/model.ts'
import { startCluster, type BenchCluster } from './cluster.ts'
import { benchEtcd, etcdVersion } from './etcd.ts'
import { drive, summarise, wait } from '../src/cli/load.ts'
import { page, summary, type Report, type SendResult } from './report.ts'

const { values: given } = parseArgs({
  options: {
    seconds: { type: 'string', default: '5' },
    'warm-up': { type: 'string', default: '10' },
    kills: { type: 'string', default: '20' },
    replicas: { type: 'string', default: '5' },
    stored: { type: 'string', default: '100000' },
    outstanding: { type: 'string', default: '1,16,128,512' },
    profile: { type: 'string' },
    'no-etcd': { type: 'boolean', default: false },
  },
})
const measureMs = Number(given.seconds) * 1000
/** The compiler needs so long under load on a slow machine until it has come to rest. */
const warmUpMs = Number(given['warm-up']) * 1000
/** So long after a start or a load the compiler and the collector have come to rest, the search index has caught up, and what is measured stays as it is. */
const settleMs = 30_000
const outstanding = given.outstanding.split(',').map(Number)
const replicas = Number(given.replicas)
const messageBytes = 256
const text = 'x'.repeat(messageBytes)

const root = join(import.meta.dirname, '..')
const startedAt = new Date().toISOString()
const results = join(root, 'bench', 'results')
const say = (words: string): void => console.error(words)

mkdirSync(results, { recursive: true })
const report = await measure()
const name = join(results, startedAt.replaceAll(':', '-'))
writeFileSync(`${name}.json`, JSON.stringify(report, null, 2))
writeFileSync(`${name}.html`, page(report))
console.log(summary(report))
say(`${name}.html`)
process.exit()

async function measure(): Promise<Report> {
  say(`starting ${replicas} replicas`)
  const cluster = await startCluster(replicas, given.profile ?? null)
  let parley: Omit<Report, 'etcd'>
  try {
    await cluster.whenWhole()
    parley = await measureParley(cluster)
  } finally {
    await cluster.stop()
  }
  const version = given['no-etcd'] ? null : etcdVersion()
  if (version === null) return { ...parley, etcd: null }
  // Where the replicas' data was, so on the same disk.
  const folder = mkdtempSync(join(tmpdir(), 'parley-bench-etcd-'))
  try {
    const puts = await benchEtcd({
      members: replicas,
      folder,
      outstanding,
      warmUpMs,
      measureMs,
      valueBytes: messageBytes,
      say,
    })
    return { ...parley, etcd: { version, puts } }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function measureParley(cluster: BenchCluster): Promise<Omit<Report, 'etcd'>> {
  const idleSeconds = Math.max(30, Number(given.seconds))
  say(`idle: ${settleMs / 1000} s to settle, then ${idleSeconds} s`)
  await wait(settleMs)
  const idle = await cluster.measure(() => wait(idleSeconds * 1000))

  // As many senders as replicas, each on a connection of its own to another replica, the first on the leader.
  const order = [cluster.leader, ...[...cluster.addresses.keys()].filter((id) => id !== cluster.leader)]
  const senders: Sender[] = []
  for (const [i, replica] of order.entries()) senders.push(await signUp(cluster, `sender-${i}`, replica))

  const goal = Number(given.stored)
  say(`storing ${goal} messages`)
  await fill(senders, goal)
  const rightAfter = await cluster.measure(() => wait(100))
  say(
    `  ${rightAfter.replicas.map(({ residentMb }) => residentMb.toFixed(0)).join(', ')} MB resident; ${settleMs / 1000} s to settle`,
  )
  await wait(settleMs)
  const settled = await cluster.measure(() => wait(idleSeconds * 1000))

  const sends: SendResult[] = []
  for (const count of outstanding) {
    say(`${count} outstanding`)
    let costs: SendResult['replicas'] = []
    let clientCpuPercent = 0
    const result = await drive({
      outstanding: count,
      warmUpMs,
      measureMs,
      send: sendFrom(senders),
      async during(measuring) {
        const before = process.cpuUsage()
        const beganMs = performance.now()
        costs = (await cluster.measure(measuring)).replicas
        const { user, system } = process.cpuUsage(before)
        clientCpuPercent = (user + system) / 10 / (performance.now() - beganMs)
      },
    })
    sends.push({ ...result, replicas: costs, clientCpuPercent })
    say(
      `  ${result.perSecond.toFixed(0)} sends/s, p50 ${result.latencyMs.p50.toFixed(2)} ms, ${result.failed} failed`,
    )
    const perSend = (cpuPercent: number): string => ((cpuPercent * 10_000) / result.perSecond).toFixed(1)
    say(
      `  CPU per send: client ${perSend(clientCpuPercent)} µs, ${costs.map(({ replica, isLeader, cpuPercent }) => `r${replica}${isLeader ? ' (leader)' : ''} ${perSend(cpuPercent)} µs`).join(', ')}`,
    )
  }
  say('delivery')
  const delivery = await measureDelivery(cluster, senders)
  say(`${given.kills} kills of the leader`)
  const kills = await measureKills(cluster, Number(given.kills))
  for (const { client } of senders) client.close()
  const [cpu] = cpus()
  return {
    startedAt,
    commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, encoding: 'utf8' }).trim(),
    machine: {
      cpu: cpu?.model ?? '',
      cores: cpus().length,
      memoryGb: Math.round(totalmem() / 2 ** 30),
      node: process.version,
    },
    replicas,
    messageBytes,
    idle: { seconds: idleSeconds, replicas: idle.replicas },
    sends,
    stored: {
      messages: goal,
      rightAfter: rightAfter.replicas,
      settleSeconds: settleMs / 1000,
      settled: settled.replicas,
    },
    delivery,
    kills,
  }
}

interface Sender {
  readonly client: Client
  readonly to: Target
}

/** A new account on a connection to `replica`, with a room of its own to send to. */
async function signUp(cluster: BenchCluster, name: string, replica: number): Promise<Sender> {
  const first = cluster.addresses.get(replica) ?? ''
  const others = [...cluster.addresses.values()].filter((address) => address !== first)
  const client = createClient({ addresses: [first, ...others] })
  await client.register({ name, password: 'a password for the bench' })
  await client.call('createRoom', { name: `room-${name}` })
  return { client, to: { target: { $case: 'room', value: `room-${name}` } } }
}

function sendFrom(senders: readonly Sender[]): (slot: number, done: (good: boolean) => void) => void {
  return (slot, done) => {
    const sender = senders[slot % senders.length]
    sender?.client.request('sendMessage', { to: sender.to, text }, {}, (error) => done(error === null))
  }
}

async function fill(senders: readonly Sender[], count: number): Promise<void> {
  const send = sendFrom(senders)
  let begun = 0
  await new Promise<void>((resolve) => {
    let open = 0
    const next = (slot: number): void => {
      if (begun >= count) {
        if (open === 0) resolve()
        return
      }
      begun += 1
      open += 1
      send(slot, () => {
        open -= 1
        next(slot)
      })
    }
    for (let slot = 0; slot < 256; slot += 1) next(slot)
  })
}

/** From the call of `send` on one replica to the event on a device that is connected to another one. */
async function measureDelivery(
  cluster: BenchCluster,
  senders: readonly Sender[],
): Promise<Report['delivery']> {
  const perSecond = 200
  const messages = Math.round((perSecond * measureMs) / 1000)
  const [sender] = senders
  if (sender === undefined) throw new Error('there is no sender')
  const elsewhere =
    [...cluster.addresses.keys()].find((replica) => replica !== cluster.leader) ?? cluster.leader
  const receiver = await signUp(cluster, 'receiver', elsewhere)
  const sentMs = new Map<string, number>()
  const latencies: number[] = []
  await new Promise<void>((resolve, reject) => {
    receiver.client.subscribe(0, (events) => {
      for (const { event } of events) {
        if (event?.$case !== 'message') continue
        const beganMs = sentMs.get(event.value.text)
        if (beganMs === undefined) continue
        latencies.push(performance.now() - beganMs)
        if (latencies.length === messages) resolve()
      }
    })
    void (async () => {
      await wait(500)
      const to: Target = { target: { $case: 'account', value: 'receiver' } }
      for (let i = 0; i < messages; i += 1) {
        const words = `${i} ${text}`.slice(0, messageBytes)
        sentMs.set(words, performance.now())
        sender.client.request('sendMessage', { to, text: words }, {}, (error) => {
          if (error !== null) reject(error)
        })
        await wait(1000 / perSecond)
      }
    })()
  })
  receiver.client.close()
  return { perSecond, messages, latencyMs: summarise(latencies) }
}

/** One client sends every few milliseconds while the leader is killed again and again; the gap is the longest time between two acknowledgements. */
async function measureKills(cluster: BenchCluster, kills: number): Promise<Report['kills']> {
  const sender = await signUp(cluster, 'survivor', cluster.leader)
  const acknowledged: string[] = []
  const gapsMs: number[] = []
  let lastMs = performance.now()
  let longestMs = 0
  const over = new AbortController()
  const sending = (async () => {
    while (!over.signal.aborted) {
      const id = sender.client.newId()
      await sender.client.call('sendMessage', { id, to: sender.to, text }, { timeoutMs: Infinity })
      acknowledged.push(toHex(id))
      const nowMs = performance.now()
      longestMs = Math.max(longestMs, nowMs - lastMs)
      lastMs = nowMs
      await wait(2)
    }
  })()
  for (let i = 0; i < kills; i += 1) {
    await cluster.whenWhole()
    await wait(700)
    longestMs = 0
    lastMs = performance.now()
    const startAgain = await cluster.killLeader()
    const count = acknowledged.length
    await wait(1500)
    while (acknowledged.length <= count) await wait(20)
    startAgain()
    gapsMs.push(longestMs)
    say(`  kill ${i + 1}: ${longestMs.toFixed(0)} ms`)
  }
  over.abort()
  await sending
  await cluster.whenWhole()
  const lost = await countLost(sender, acknowledged)
  sender.client.close()
  return { gapsMs, acknowledged: acknowledged.length, lost }
}

/** Acknowledged messages that are not in the room exactly once. */
async function countLost({ client, to }: Sender, acknowledged: readonly string[]): Promise<number> {
  const found = new Map<string, number>()
  for await (const messages of history(client, to))
    for (const { id } of messages) found.set(toHex(id), (found.get(toHex(id)) ?? 0) + 1)
  return acknowledged.filter((id) => found.get(id) !== 1).length
}
