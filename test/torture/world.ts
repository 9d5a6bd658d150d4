import { createHash } from 'node:crypto'
import { toHex } from '../../src/base/bytes.ts'
import type { Random } from '../../src/base/random.ts'
import { createClient, ParleyError, type Client } from '../../src/client/index.ts'
import type { Message, Target } from '../../src/gen/parley/v1/model.ts'
import type { ChatWorld, Owned } from '../../src/sim/people.ts'
import { readAll } from '../support/ledger.ts'
import { pinnedConnect } from '../support/machine.ts'

export interface RealWorldOptions {
  readonly addresses: readonly string[]
  readonly random: Random
  readonly fail: (rule: string, message: string) => void
  readonly note: (text: string) => void
  /** Clients are made with it. Default: the client library's. */
  readonly create?: typeof createClient
}

/** A conversation as it was when a round had ended: nothing may change it from then on. */
export interface Kept {
  readonly person: string
  readonly token: Uint8Array
  readonly target: Target
  readonly messages: number
  readonly digest: string
}

/** The world of real replicas, sockets and clocks. */
export interface RealWorld extends ChatWorld {
  /** What {@link ChatWorld.read} brought. */
  readonly kept: readonly Kept[]
}

/** So long may a read take when no faults are left. */
const readMs = 30_000

export function createRealWorld(options: RealWorldOptions): RealWorld {
  const { addresses, random } = options
  /** The newest device of each person, by `NAME 0`. */
  const devices = new Map<string, { readonly client: Client; readonly token: Uint8Array | null }>()
  const kept: Kept[] = []

  function open({ name, token, position, storage }: Parameters<ChatWorld['open']>[0]): Owned {
    const from = random.below(addresses.length)
    const client = (options.create ?? createClient)({
      addresses: [...addresses.slice(from), ...addresses.slice(0, from)],
      ...(token === null ? {} : { token, position }),
      storage,
      connect: pinnedConnect,
    })
    devices.set(name, { client, token })
    let alive = true
    return {
      client,
      get alive() {
        return alive
      },
      shut() {
        alive = false
        client.close()
      },
    }
  }

  return {
    random,
    kept,
    fail: options.fail,
    note(kind, person, _value, text) {
      if (kind === 'refused') options.note(`person ${person}: ${text()}`)
    },
    after: (delayMs, callback) => void setTimeout(callback, delayMs),
    open,
    async read(person, target) {
      const device = devices.get(`${person} 0`)
      if (device === undefined) return null
      const messages = await readTarget(device.client, target)
      if (device.token !== null && messages.length > 0)
        kept.push({
          person,
          token: device.token,
          target,
          messages: messages.length,
          digest: digestOf(messages),
        })
      return messages
    },
  }
}

/** Reads all that was kept once more, and tells `fail` what has changed since. */
export async function checkKept(
  kept: readonly Kept[],
  addresses: readonly string[],
  fail: (rule: string, message: string) => void,
): Promise<void> {
  for (const [person, conversations] of Map.groupBy(kept, (one) => one.person)) {
    const token = conversations[0]?.token
    if (token === undefined) continue
    const client = createClient({ addresses, token, connect: pinnedConnect })
    try {
      for (const { target, messages, digest } of conversations) {
        const now = await readTarget(client, target)
        if (digestOf(now) !== digest)
          fail(
            'no acknowledged message lost',
            `${person} had ${messages} messages in ${JSON.stringify(target)} when its round ended; now ${now.length} are there, and they differ`,
          )
      }
    } finally {
      client.close()
    }
  }
}

async function readTarget(client: Client, target: Target): Promise<readonly Message[]> {
  try {
    return await readAll(client, target, { timeoutMs: readMs, read: 'linearizable' })
  } catch (error) {
    if (error instanceof ParleyError && error.reason === 'REASON_CONVERSATION_NOT_FOUND') return []
    throw error
  }
}

function digestOf(messages: readonly Message[]): string {
  const hash = createHash('sha256')
  for (const { seq, sender, id, text, deleted, editedAtMs, atMs } of messages)
    hash.update(`${seq} ${sender} ${toHex(id)} ${atMs} ${editedAtMs} ${deleted} ${text}\n`)
  return hash.digest('hex')
}
