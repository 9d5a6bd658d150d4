// What TLS under the peer links costs: node bench/peers.ts. Two replicas' links in this process, an append from one to the other and its answer back, one at a time or many
// outstanding; the CPU of both sides together, for one append. Measured as CPU time, so that other work on the machine does not matter much.
import { randomBytes } from 'node:crypto'
import { toHex } from '../src/base/bytes.ts'
import { silentLogger } from '../src/base/logger.ts'
import { seededRandom } from '../src/base/random.ts'
import { createPeerLinks, type PeerLinks, type Sockets } from '../src/peer/links.ts'
import { secureSockets } from '../src/peer/secure-sockets.ts'
import type { Message } from '../src/raft/types.ts'
import { createAuthority, issue } from '../src/tls/authority.ts'

const clusterId = randomBytes(16)
const sizes = [300, 4096, 65_536, 524_288]
const outstanding = [1, 16]
const totalBytes = 64 * 1024 * 1024
const mostAppends = 8000

const hex = toHex(clusterId)
const nowMs = Date.now()
const authority = await createAuthority(hex, nowMs)

async function secure(replica: number): Promise<Sockets> {
  const current = await issue(authority, { clusterId: hex, replica, hosts: [] }, { nowMs })
  return secureSockets({
    clusterId: hex,
    authority: authority.certificate,
    current,
    onRenewed: () => undefined,
  })
}

function append(from: number, to: number, data: Uint8Array): Message {
  const entries = [{ index: 1, term: 1, kind: 'data', data } as const]
  return { kind: 'append', from, to, term: 1, prevIndex: 0, prevTerm: 0, entries, commit: 0 }
}

class Side {
  readonly links: PeerLinks
  received: () => void = () => undefined
  readonly up: Promise<void>

  constructor(self: number, sockets: Sockets | null) {
    this.links = createPeerLinks({
      self,
      clusterId,
      incarnation: 1,
      listen: { host: '127.0.0.1', port: 0 },
      random: seededRandom(self),
      logger: silentLogger,
      onRefused: ({ reason }) => console.error(reason),
      admit: () => null,
      ...(sockets === null ? {} : { sockets }),
    })
    this.up = new Promise((resolve, reject) => {
      this.links
        .start({
          message: () => this.received(),
          chunk: () => undefined,
          chunkReply: () => undefined,
          incarnation: () => undefined,
          up: () => resolve(),
          down: () => undefined,
        })
        .catch(reject)
    })
  }
}

async function measure(secured: boolean, bytes: number, open: number): Promise<number> {
  const a = new Side(1, secured ? await secure(1) : null)
  const b = new Side(2, secured ? await secure(2) : null)
  await new Promise((resolve) => setTimeout(resolve, 50))
  a.links.setPeers([{ id: 2, address: `127.0.0.1:${b.links.port}` }])
  b.links.setPeers([{ id: 1, address: `127.0.0.1:${a.links.port}` }])
  await Promise.all([a.up, b.up])
  const count = Math.min(mostAppends, Math.ceil(totalBytes / bytes))
  const data = randomBytes(bytes)
  const answer: Message = { kind: 'heartbeat', from: 2, to: 1, term: 1, commit: 0, round: 1 }
  b.received = () => b.links.send(answer)
  const run = (appends: number): Promise<void> =>
    new Promise((done) => {
      let sent = 0
      let answered = 0
      const next = (): void => {
        if (sent >= appends) return
        sent += 1
        a.links.send(append(1, 2, data))
      }
      a.received = () => {
        answered += 1
        if (answered === appends) done()
        else next()
      }
      for (let i = 0; i < open; i += 1) next()
    })
  await run(Math.ceil(count / 4))
  const before = process.cpuUsage()
  await run(count)
  const { user, system } = process.cpuUsage(before)
  await Promise.all([a.links.stop(), b.links.stop()])
  return (user + system) / count
}

console.log('append    outstanding  plain µs   TLS µs   more')
for (const bytes of sizes)
  for (const open of outstanding) {
    const plain = await measure(false, bytes, open)
    const tls = await measure(true, bytes, open)
    console.log(
      `${`${bytes} B`.padEnd(10)}${String(open).padStart(11)}${plain.toFixed(1).padStart(10)}${tls.toFixed(1).padStart(9)}${(tls - plain).toFixed(1).padStart(7)}`,
    )
  }
process.exit()
