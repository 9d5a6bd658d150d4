import type { TestContext } from 'node:test'
import { silentLogger } from '../base/logger.ts'
import { seededRandom } from '../base/random.ts'
import type { SnapshotChunk, SnapshotChunkReply } from '../log/transport.ts'
import type { Message } from '../raft/types.ts'
import { createPeerLinks, type PeerLinks, type PeerLinksOptions, type Refusal } from './links.ts'

export const clusterId = Uint8Array.from({ length: 16 }, (_, i) => i)

/** A replica's links, with all that they told it. */
export class Node {
  readonly links: PeerLinks
  readonly messages: Message[] = []
  readonly chunks: SnapshotChunk[] = []
  readonly replies: SnapshotChunkReply[] = []
  readonly news: string[] = []
  readonly certain: string[] = []
  readonly refusals: Refusal[] = []
  private waiting: (() => void)[] = []

  constructor(self: number, options: Partial<PeerLinksOptions> = {}) {
    this.links = createPeerLinks({
      self,
      clusterId,
      incarnation: 1,
      listen: { host: '127.0.0.1', port: 0 },
      random: seededRandom(self),
      logger: silentLogger,
      onRefused: (refusal) => this.add(this.refusals, refusal),
      admit: () => null,
      timing: { pingMs: 20 },
      ...options,
    })
  }

  async start(): Promise<this> {
    await this.links.start({
      message: (message) => this.add(this.messages, message),
      chunk: (chunk) => this.add(this.chunks, chunk),
      chunkReply: (reply) => this.add(this.replies, reply),
      up: (peer) => this.add(this.news, `r${peer} up`),
      down: (peer, evidence) => this.add(this.news, `r${peer} ${evidence}`),
      incarnation: (peer, incarnation, lives) =>
        this.add(this.certain, `r${peer} run ${incarnation} ${lives ? 'lives' : 'is dead'}`),
    })
    return this
  }

  get address(): string {
    return `127.0.0.1:${this.links.port}`
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.waiting.push(resolve))
  }

  private add<T>(list: T[], item: T): void {
    list.push(item)
    const waiting = this.waiting
    this.waiting = []
    for (const resolve of waiting) resolve()
  }
}

export async function nodes(t: TestContext, ...made: Node[]): Promise<void> {
  for (const node of made) {
    t.after(() => node.links.stop())
    await node.start()
  }
}

export function heartbeat(from: number, to: number, round: number): Message {
  return { kind: 'heartbeat', from, to, term: 1, commit: 0, round }
}
