// Run by test/hosts.long.test.ts on the host of the clients: makes a cluster of the other hosts with init and join, and does to it what happens to hosts.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient, type Client } from '../../src/client/index.ts'
import { Ledger, until } from './ledger.ts'
import { pinnedConnect, Process } from './machine.ts'
import { findNetwork, type Network } from './netns.ts'

/** A cluster with one replica on each host but the first, which is for clients. */
class Hosts {
  readonly folder = mkdtempSync(join(tmpdir(), 'parley-hosts-'))
  readonly network: Network
  readonly names: readonly string[]
  readonly processes = new Map<string, Process>()
  /** Of the first replica, with the pin of the authority. */
  address = ''
  client: Client | null = null

  constructor(network: Network, names: readonly string[]) {
    this.network = network
    this.names = names
  }

  /** Init on the first host, join on the others, one after another. */
  async make(...flags: readonly string[]): Promise<void> {
    const [first = '', ...others] = this.names
    const making = this.run(first, ['init', ...this.place(first), ...flags])
    const { token, address } = await making.event('serving')
    assert.ok(typeof token === 'string' && typeof address === 'string')
    this.address = address
    for (const name of others) {
      const joining = this.run(name, ['join', token, ...this.place(name)])
      await joining.event('member')
    }
    this.client = createClient({
      addresses: [address],
      connect: pinnedConnect,
      timeoutMs: 30_000,
      read: 'local',
    })
    say(`${this.names.length} hosts have joined`)
  }

  /** The addresses of these hosts for clients. */
  addressesOf(...names: readonly string[]): string[] {
    const pin = this.address.slice(this.address.indexOf('#'))
    return names.map((name) => `parleys://${this.network.host(name).address}:7400${pin}`)
  }

  /** The host that leads, as a replica says that has a quorum. */
  async leader(): Promise<string> {
    let leader = ''
    await until(
      async () => {
        const status = await this.client?.call('getStatus', {}).catch(() => null)
        leader = status?.quorum === true ? (this.names[status.leader - 1] ?? '') : ''
        return leader !== ''
      },
      'somebody leads',
      60_000,
    )
    return leader
  }

  /** Resolves when each replica has its vote, which one in the fail-stop model gets back some time after it has started. */
  async untilAllVote(): Promise<void> {
    await until(
      async () => {
        const status = await this.client?.call('getStatus', {}).catch(() => null)
        return status?.quorum === true && status.replicas.every(({ voter }) => voter)
      },
      'all have a vote',
      60_000,
    )
  }

  start(name: string): void {
    this.run(name, ['serve', '--data', join(this.folder, name), '--log', 'file'])
  }

  async kill(...names: readonly string[]): Promise<void> {
    await Promise.all(names.map((name) => this.processes.get(name)?.end('SIGKILL')))
  }

  async close(): Promise<void> {
    this.client?.close()
    await this.kill(...this.names)
    rmSync(this.folder, { recursive: true, force: true })
  }

  private run(name: string, words: readonly string[]): Process {
    const process = new Process(words, { host: this.network.host(name) })
    this.processes.set(name, process)
    return process
  }

  private place(name: string): string[] {
    const { address } = this.network.host(name)
    return ['--host', address, '--data', join(this.folder, name), '--log', 'file', '--json']
  }
}

async function five(hosts: Hosts): Promise<void> {
  await hosts.make()
  const { network, names } = hosts
  // One address is enough: the others are learned.
  using ledger = new Ledger([hosts.address])
  await ledger.open(4)
  ledger.start(2)
  await ledger.progress(100)
  say('people talk')

  const followers = async (): Promise<[string, string, string]> => {
    const leader = await hosts.leader()
    const [one = '', two = ''] = names.filter((name) => name !== leader)
    return [leader, one, two]
  }

  let [leader, one, two] = await followers()
  network.cut({ from: leader, to: one })
  network.cut({ from: two, to: leader })
  await ledger.progress(100)
  network.healAll()
  say(`${leader} did not reach ${one}, and ${two} not ${leader}`)

  ;[leader, one, two] = await followers()
  for (const to of [one, two]) network.slow({ from: leader, to }, 100)
  await ledger.progress(100)
  network.healAll()
  say(`the links from ${leader} to ${one} and ${two} were slow`)

  // The leader is cut off from all but one, which is its only witness.
  ;[leader, one] = await followers()
  for (const other of names)
    if (other !== leader && other !== one) {
      network.cut({ from: leader, to: other })
      network.cut({ from: other, to: leader })
    }
  await ledger.progress(100)
  network.healAll()
  say(`${leader} reached only ${one}`)

  ;[leader, one] = await followers()
  network.unplug(leader)
  network.unplug(one)
  await ledger.progress(100)
  say(`${leader}, which led, and ${one} had no network`)
  await hosts.kill(leader, one)
  network.plug(leader)
  network.plug(one)
  hosts.start(leader)
  hosts.start(one)
  await ledger.progress(100)
  say('and came back after they had died')

  // The host that all clients were told of at the start.
  const [first = ''] = names
  network.unplug(first)
  await ledger.progress(100)
  network.plug(first)
  say(`${first} had no network`)

  await hosts.kill(...names)
  for (const name of names) hosts.start(name)
  await ledger.progress(100)
  await ledger.stop()
  say('all hosts lost their power')
  await ledger.check(hosts.addressesOf(...names))
  say(`${ledger.acknowledgedCount} messages are there, once and in order, on every host`)
}

/** The fail-stop model: hosts crash, the network is never cut. The last one goes on alone. */
async function three(hosts: Hosts): Promise<void> {
  await hosts.make('--fault-model', 'fail-stop')
  const { names } = hosts
  using ledger = new Ledger([hosts.address])
  await ledger.open(3)
  ledger.start(2)
  await ledger.progress(100)
  say('people talk')

  const first = await hosts.leader()
  await hosts.kill(first)
  await ledger.progress(100)
  const second = await hosts.leader()
  await hosts.kill(second)
  await ledger.progress(100)
  say(`${first} and then ${second} crashed, each while it led`)
  hosts.start(first)
  hosts.start(second)
  await hosts.untilAllVote()
  await ledger.progress(100)
  say('and came back')

  const leader = await hosts.leader()
  const [other = ''] = names.filter((name) => name !== leader)
  await hosts.kill(leader, other)
  await ledger.progress(100)
  say(`${leader}, which led, and ${other} crashed at once`)
  hosts.start(leader)
  hosts.start(other)
  await hosts.untilAllVote()
  await ledger.progress(100)
  await ledger.stop()
  await ledger.check(hosts.addressesOf(...names))
  say(`${ledger.acknowledgedCount} messages are there, once and in order, on every host`)
}

function say(line: string): void {
  console.log(line)
}

const proofs: Readonly<Record<string, (hosts: Hosts) => Promise<void>>> = { five, three }
const [proof = '', networkName = '', ...all] = process.argv.slice(2)
const prove = proofs[proof]
if (prove === undefined) throw new Error(`there is no proof ${proof}`)
const hosts = new Hosts(findNetwork(networkName, all), all.slice(1))
try {
  await prove(hosts)
} finally {
  await hosts.close()
}
