import type { Clock } from '../base/clock.ts'
import type { Random } from '../base/random.ts'
import { parseServerAddress } from './server-address.ts'
import type { Connect } from './types.ts'

// The edge: what the library takes from the platform, the same in Node and in browsers. Everything else gets it handed in.

const longestTimerMs = 2 ** 31 - 1

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(delayMs, longestTimerMs))
    return () => clearTimeout(timer)
  },
  soon: soonFunction(),
}

/** A task of its own, after the input that waits: Node has setImmediate for that, browsers a message to oneself. */
function soonFunction(): (callback: () => void) => void {
  if (typeof globalThis.setImmediate === 'function') return (callback) => globalThis.setImmediate(callback)
  const queue: (() => void)[] = []
  const channel = new MessageChannel()
  channel.port1.addEventListener('message', () => queue.shift()?.())
  channel.port1.start()
  return (callback) => {
    queue.push(callback)
    channel.port2.postMessage(null)
  }
}

/** Random numbers that nobody can foretell; good for ids and tokens. */
export const secureRandom: Random = secureRandomFrom(new Uint32Array(1024))

function secureRandomFrom(pool: Uint32Array<ArrayBuffer>): Random {
  let next = pool.length
  return {
    below(limit) {
      if (next === pool.length) {
        crypto.getRandomValues(pool)
        next = 0
      }
      const value = pool[next] ?? 0
      next += 1
      // The bias is below limit / 2^32, and none for powers of two, of which tokens are made.
      return Math.floor((value / 2 ** 32) * limit)
    },
  }
}

/** What the library needs of a WebSocket: that of browsers and of Node has it, and that of the `ws` package. */
export interface WebSocketLike {
  binaryType: string
  addEventListener(type: 'open' | 'close' | 'error', listener: () => void): void
  addEventListener(type: 'message', listener: (event: { readonly data: unknown }) => void): void
  send(data: Uint8Array<ArrayBuffer>): void
  close(): void
}

/** The WebSocket of the platform. It cannot pin an authority: an address that does needs the `connect` of src/tls/connect.ts. */
export const platformConnect: Connect = webSocketConnect((url, pin) => {
  if (pin !== null) throw new Error(`the authority of ${url} is pinned, and this connection cannot check it`)
  return new WebSocket(url)
})

/** Connects with `make`: `webSocketConnect((url) => new WebSocket(url))`. It is told whether the address pins an authority, and must see to that. */
export function webSocketConnect(make: (url: string, pin: string | null) => WebSocketLike): Connect {
  return (address, handlers) => {
    const server = parseServerAddress(address)
    const socket =
      server === null
        ? make(address, null)
        : make(`${server.secure ? 'wss' : 'ws'}://${server.host}/ws`, server.pin)
    socket.binaryType = 'arraybuffer'
    socket.addEventListener('open', () => handlers.opened())
    socket.addEventListener('message', ({ data }) => {
      if (data instanceof ArrayBuffer) handlers.received(new Uint8Array(data))
    })
    socket.addEventListener('close', () => handlers.closed())
    // A close event follows every error; without a listener the `ws` package throws the error.
    socket.addEventListener('error', () => undefined)
    return {
      send: (bytes) => socket.send(bytes),
      close: () => socket.close(),
    }
  }
}
