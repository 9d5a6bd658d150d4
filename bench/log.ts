/*
 * Measures the replicated log alone: real processes, disks and links, and a state that only counts. Each message is durable on a majority and applied by the replica that
 * took it in before it counts. As in a replica, all messages of one turn of the event loop make one entry.
 *
 *   node bench/log.ts [--replicas 5] [--bytes 256] [--seconds 3] [--outstanding 1,16,128,512] [--at follower|leader|all]
 *   node bench/log.ts --kills 20    how long nothing comes back when the leader is killed with SIGKILL
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Order, ReplicaOptions, Result, Run, Usage } from './log-replica.ts'

async function measure(): Promise<void> {
  const { values } = parseArgs({
    options: {
      replicas: { type: 'string', default: '5' },
      bytes: { type: 'string', default: '256' },
      seconds: { type: 'string', default: '3' },
      outstanding: { type: 'string', default: '1,16,128,512' },
      at: { type: 'string', default: 'follower' },
      kills: { type: 'string' },
    },
  })
  const folder = mkdtempSync(join(tmpdir(), 'parley-bench-'))
  const ports = await freePorts(Number(values.replicas))
  const start = (id: number): ChildProcess => {
    const options: ReplicaOptions = { self: id, ports, folder: join(folder, `r${id}`) }
    return fork(join(import.meta.dirname, 'log-replica.ts'), [JSON.stringify(options)])
  }
  const replicas = ports.map((_, i) => start(i + 1))
  try {
    await Promise.all(replicas.map((child) => once(child, 'message')))
    const leader = await untilLed(replicas[0])
    if (values.kills !== undefined) {
      await kill(replicas, Number(values.kills), start)
      return
    }
    const taking = replicas.filter((_, i) => {
      if (values.at === 'all') return true
      return values.at === 'leader' ? i + 1 === leader : i + 1 === (leader % replicas.length) + 1
    })
    const idleMs = 2000
    const idleBefore = await usage(replicas)
    await new Promise((resolve) => setTimeout(resolve, idleMs))
    const idlePercent = ((await usage(replicas)) - idleBefore) / replicas.length / idleMs / 10
    process.stdout.write(
      `idle: ${idlePercent.toFixed(1)} % of a core for each replica\n` +
        `${replicas.length} replicas, ${values.bytes}-byte messages, taken in at ${values.at}; CPU of all replicas together\n` +
        'outstanding  messages/s  entries/s  p50 ms  p99 ms  max ms  CPU us/message  cores\n',
    )
    for (const outstanding of values.outstanding.split(',').map(Number)) {
      const run: Run = {
        outstanding: Math.ceil(outstanding / taking.length),
        bytes: Number(values.bytes),
        seconds: Number(values.seconds),
      }
      await Promise.all(
        taking.map((child) => ask<Result>(child, { kind: 'run', run: { ...run, seconds: 0.5 } })),
      )
      const before = await usage(replicas)
      const results = await Promise.all(taking.map((child) => ask<Result>(child, { kind: 'run', run })))
      const after = await usage(replicas)
      const messages = sum(results.map((result) => result.messages))
      const entries = sum(results.map((result) => result.entries))
      const latencies = results.flatMap((result) => result.latenciesUs).sort((a, b) => a - b)
      const ms = (part: number): string =>
        (
          (latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * part))] ?? 0) / 1000
        ).toFixed(2)
      const cells = [
        String(outstanding).padStart(11),
        (messages / run.seconds).toFixed(0).padStart(10),
        (entries / run.seconds).toFixed(0).padStart(9),
        ms(0.5).padStart(6),
        ms(0.99).padStart(6),
        ms(1).padStart(6),
        ((after - before) / messages).toFixed(1).padStart(14),
        ((after - before) / run.seconds / 1e6).toFixed(2).padStart(5),
      ]
      process.stdout.write(`${cells.join('  ')}\n`)
    }
  } finally {
    for (const child of replicas) if (child.connected) child.send({ kind: 'stop' } satisfies Order)
    const patience = setTimeout(() => {
      for (const child of replicas) child.kill('SIGKILL')
    }, 5000)
    await Promise.all(replicas.map((child) => child.exitCode ?? once(child, 'exit')))
    clearTimeout(patience)
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Kills the leader again and again, under load at another replica, and starts it again. */
async function kill(
  replicas: ChildProcess[],
  times: number,
  start: (id: number) => ChildProcess,
): Promise<void> {
  const gaps: number[] = []
  for (let i = 0; i < times; i += 1) {
    const leader = await untilLed(replicas[0])
    const taking = replicas[leader % replicas.length]
    const running = ask<Result>(taking, { kind: 'run', run: { outstanding: 16, bytes: 256, seconds: 1.5 } })
    await new Promise((resolve) => setTimeout(resolve, 500))
    const killed = replicas[leader - 1]
    killed?.kill('SIGKILL')
    gaps.push((await running).longestGapMs)
    const returned = start(leader)
    replicas[leader - 1] = returned
    await once(returned, 'message')
    await untilLed(returned)
  }
  gaps.sort((a, b) => a - b)
  const at = (part: number): string =>
    (gaps[Math.min(gaps.length - 1, Math.floor(gaps.length * part))] ?? 0).toFixed(0)
  process.stdout.write(
    `leader killed ${times} times: nothing came back for ${at(0.5)} ms (median), ${at(0.9)} ms (p90), ${at(1)} ms (longest)\n`,
  )
}

async function untilLed(replica: ChildProcess | undefined): Promise<number> {
  for (;;) {
    const leader = await ask<number>(replica, { kind: 'status' })
    if (leader !== 0) return leader
  }
}

async function usage(replicas: readonly ChildProcess[]): Promise<number> {
  const usages = await Promise.all(replicas.map((child) => ask<Usage>(child, { kind: 'usage' })))
  return sum(usages.map(({ cpuUs }) => cpuUs))
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}

async function ask<Answer>(child: ChildProcess | undefined, order: Order): Promise<Answer> {
  if (child === undefined) throw new Error('no such replica')
  child.send(order)
  const [answer] = (await once(child, 'message')) as [Answer]
  return answer
}

async function freePorts(count: number): Promise<readonly number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      return server
    }),
  )
  const ports = servers.map((server) => {
    const address = server.address()
    return address !== null && typeof address === 'object' ? address.port : 0
  })
  for (const server of servers) server.close()
  return ports
}

await measure()
