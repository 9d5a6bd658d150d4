// Many devices connected to one replica: what each takes of its memory, and how long a message to #everyone takes to reach all of them.
//
//   node bench/devices.ts [--devices 10000] [--people 500] [--messages 5]
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { WebSocket } from 'ws'
import { createClient } from '../src/client/index.ts'
import { ClientFrame, type Request, ServerFrame } from '../src/gen/parley/v1/frames.ts'
import { startCluster } from '../test/support/cluster.ts'
import { wait } from '../src/cli/load.ts'

const { values: given } = parseArgs({
  options: {
    devices: { type: 'string', default: '10000' },
    people: { type: 'string', default: '500' },
    messages: { type: 'string', default: '5' },
  },
})
const devices = Number(given.devices)
const people = Number(given.people)
/** So many at a time sign up or connect. */
const atOnce = 100
const idleMs = 15_000

const cluster = await startCluster({ replicas: 1 })
try {
  await cluster.untilServing()
  await measure()
} finally {
  await cluster.close()
}
process.exit()

async function measure(): Promise<void> {
  const [address = ''] = cluster.addresses
  const tokens = await signUp(address)
  await wait(idleMs)
  const before = residentKb()
  const sockets = await connect(address, tokens)
  console.log(`${sockets.length} devices of ${people} people are connected`)
  await wait(idleMs)
  const beforeIdle = cpuMs()
  await wait(5000)
  const idlePercent = (cpuMs() - beforeIdle) / 50
  const after = residentKb()
  console.log(
    `idle: ${((after - before) / devices).toFixed(1)} KB of the replica's memory each (${Math.round(before / 1024)} -> ${Math.round(after / 1024)} MB), ${idlePercent.toFixed(1)} % of a core`,
  )
  const sender = createClient({ addresses: [address] })
  await sender.register({ name: 'speaker', password: 'a password for tests' })
  const to = { target: { $case: 'room', value: 'everyone' } } as const
  for (let i = 0; i < Number(given.messages); i += 1) {
    await wait(1000)
    const text = `hear me ${i}`
    const heard = whenHeard(sockets, text)
    const costMs = cpuMs()
    const beganMs = performance.now()
    await sender.call('sendMessage', { to, text })
    const answeredMs = performance.now() - beganMs
    const { firstMs, lastMs } = await heard
    console.log(
      `a message to all: answered after ${answeredMs.toFixed(0)} ms, at the first device after ${(firstMs - beganMs).toFixed(0)}, at the last after ${(lastMs - beganMs).toFixed(0)}; ${cpuMs() - costMs} ms of the replica's CPU`,
    )
  }
}

async function signUp(address: string): Promise<readonly Uint8Array[]> {
  const tokens: Uint8Array[] = []
  for (let from = 0; from < people; from += atOnce)
    await Promise.all(
      Array.from({ length: Math.min(atOnce, people - from) }, async (_, i) => {
        const client = createClient({ addresses: [address], timeoutMs: 60_000 })
        const { token } = await client.register({
          name: `person-${from + i}`,
          password: 'a password for tests',
        })
        tokens.push(token)
        client.close()
      }),
    )
  return tokens
}

/** Every device subscribes with the session of a person. */
async function connect(address: string, tokens: readonly Uint8Array[]): Promise<readonly WebSocket[]> {
  const sockets: WebSocket[] = []
  const once = (op: NonNullable<Request['op']>, number: number): Request => ({
    number,
    timeoutMs: 60_000,
    local: true,
    minPosition: 0,
    op,
  })
  for (let from = 0; from < devices; from += atOnce)
    await Promise.all(
      Array.from({ length: Math.min(atOnce, devices - from) }, async (_, i) => {
        const token = tokens[(from + i) % tokens.length] ?? new Uint8Array(0)
        const socket = new WebSocket(`ws://${address}/ws`, { perMessageDeflate: false })
        socket.binaryType = 'nodebuffer'
        await new Promise<void>((resolve, reject) => {
          socket.on('error', reject)
          socket.on('open', () =>
            socket.send(
              ClientFrame.encode({
                requests: [
                  once({ $case: 'authenticate', value: { token } }, 1),
                  once({ $case: 'subscribe', value: { cursor: 0 } }, 2),
                ],
              }).finish(),
            ),
          )
          const look = (data: Buffer): void => {
            if (ServerFrame.decode(data).events.length === 0) return
            socket.off('message', look)
            resolve()
          }
          socket.on('message', look)
        })
        sockets.push(socket)
      }),
    )
  return sockets
}

function whenHeard(
  sockets: readonly WebSocket[],
  text: string,
): Promise<{ readonly firstMs: number; readonly lastMs: number }> {
  const wanted = Buffer.from(text)
  let firstMs = 0
  let left = sockets.length
  return new Promise((resolve) => {
    for (const socket of sockets) {
      const look = (data: Buffer): void => {
        if (!data.includes(wanted)) return
        socket.off('message', look)
        if (left === sockets.length) firstMs = performance.now()
        left -= 1
        if (left === 0) resolve({ firstMs, lastMs: performance.now() })
      }
      socket.on('message', look)
    }
  })
}

function residentKb(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid()}/status`, 'utf8'))?.[1])
}

function cpuMs(): number {
  const fields = readFileSync(`/proc/${pid()}/stat`, 'utf8').split(' ')
  return (Number(fields[13]) + Number(fields[14])) * 10
}

function pid(): number {
  return cluster.running.get(1) ?? 0
}
