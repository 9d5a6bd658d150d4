import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { createNetwork, networkProblem, type Host, type Network } from './support/netns.ts'

const problem = networkProblem()

test(
  'a link is cut in one direction only, and works again once it is healed',
  { skip: problem ?? false },
  async () => {
    using network = createNetwork(['a', 'b'])
    using a = listen(network, 'a')
    using b = listen(network, 'b')
    await Promise.all([a.ready, b.ready])
    await a.reaches(b)
    await b.reaches(a)
    network.cut({ from: 'a', to: 'b' })
    await a.send(b, 'lost')
    await b.reaches(a)
    network.heal({ from: 'a', to: 'b' })
    await a.reaches(b)
    assert.ok(!b.heard.includes('lost'))
  },
)

test(
  'a host that is gone reaches nobody and is reached by nobody, while others talk on',
  { skip: problem ?? false },
  async () => {
    using network = createNetwork(['a', 'b', 'c'])
    using a = listen(network, 'a')
    using b = listen(network, 'b')
    using c = listen(network, 'c')
    await Promise.all([a.ready, b.ready, c.ready])
    network.unplug('a')
    await a.send(b, 'lost')
    await c.send(a, 'lost')
    await c.reaches(b)
    network.plug('a')
    await a.reaches(b)
    await c.reaches(a)
    assert.ok(![...a.heard, ...b.heard].includes('lost'))
  },
)

test('a slow link holds up what is sent over it, and only that', { skip: problem ?? false }, async () => {
  using network = createNetwork(['a', 'b', 'c'])
  using a = listen(network, 'a')
  using b = listen(network, 'b')
  using c = listen(network, 'c')
  await Promise.all([a.ready, b.ready, c.ready])
  for (const to of ['b', 'c']) network.slow({ from: 'a', to }, 1000)
  network.healAll()
  network.slow({ from: 'a', to: 'b' }, 8)
  // 40,000 bytes take forty seconds at 1,000 bytes a second.
  for (let i = 0; i < 40; i += 1) await a.send(b, `${'x'.repeat(1000)}${i}`)
  await a.send(c, 'quick')
  await c.hears('quick')
  assert.ok(!b.heard.some((text) => text.endsWith('x39')))
  network.heal({ from: 'a', to: 'b' })
  await a.reaches(b)
})

/** A process on a host that tells what datagrams arrive, sends them when told, and tells when it has. */
const program = `
const socket = require('node:dgram').createSocket('udp4')
socket.on('message', (bytes) => console.log(bytes.toString()))
socket.bind(4000, () => console.log('ready'))
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { to, text } = JSON.parse(line)
  socket.send(text, 4000, to, () => console.log('sent ' + text))
})`

class Listener {
  readonly heard: string[] = []
  readonly ready: Promise<void>
  private readonly host: Host
  private readonly child: ChildProcess
  private readonly waiting = new Set<() => void>()

  constructor(host: Host) {
    this.host = host
    const [file, ...args] = host.on([process.execPath, '-e', program])
    this.child = spawn(file ?? '', args, { stdio: ['pipe', 'pipe', 'inherit'] })
    if (this.child.stdout === null) throw new Error('no output')
    createInterface({ input: this.child.stdout }).on('line', (line) => {
      this.heard.push(line)
      for (const look of this.waiting) look()
    })
    this.ready = this.hears('ready')
  }

  /** Fulfilled once it has been sent; whether it arrives is another matter. */
  async send(to: Listener, text: string): Promise<void> {
    this.child.stdin?.write(`${JSON.stringify({ to: to.host.address, text })}\n`)
    await this.hears(`sent ${text}`)
  }

  async hears(text: string): Promise<void> {
    while (!this.heard.includes(text))
      await new Promise<void>((resolve) => {
        const look = (): void => {
          this.waiting.delete(look)
          resolve()
        }
        this.waiting.add(look)
      })
  }

  /** Fulfilled once something that was sent has arrived. */
  async reaches(to: Listener): Promise<void> {
    sent += 1
    const text = `hello ${sent}`
    await this.send(to, text)
    await to.hears(text)
  }

  [Symbol.dispose](): void {
    this.child.kill('SIGKILL')
  }
}

let sent = 0

function listen(network: Network, name: string): Listener {
  return new Listener(network.host(name))
}
