/*
 * Hosts on one machine: network namespaces of Linux, joined by a bridge in a namespace of its own, so that nothing of the machine's own network changes. It takes root, iproute2,
 * util-linux and a kernel with namespaces, veth and bridges (`networkProblem` tells). Links are cut in one direction by a neighbour entry with an address that no host has: packets leave and reach
 * nobody, as with a broken cable, and neither side is told. Links are slowed by tc's htb, which limits the rate, so that what is sent queues up; a delay without a queue would take
 * tc's netem, which many kernels lack.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'

/** One host of a {@link Network}. */
export interface Host {
  readonly name: string
  /** Its IPv4 address, which the other hosts of the network reach it at. */
  readonly address: string
  /** The command line that runs `command` on this host. The process keeps its pid, so signals reach it. */
  on(command: readonly string[]): readonly string[]
}

/** A direction of the link between two hosts, by their names. */
export interface Direction {
  readonly from: string
  readonly to: string
}

export interface Network {
  /** Finds the network again, from another process: see {@link findNetwork}. */
  readonly name: string
  readonly hosts: readonly Host[]
  host(name: string): Host
  /** From now on nothing that `from` sends reaches `to`; the other direction still works. */
  cut(direction: Direction): void
  /** Ends a cut and a slowdown of this direction. */
  heal(direction: Direction): void
  /** From now on what `from` sends to `to` goes at this rate, behind a queue of at most 200 packets. */
  slow(direction: Direction, kilobitsPerSecond: number): void
  /** The host is gone, as when its cable is pulled: nobody reaches it and it reaches nobody. Its processes run on, and are told nothing. */
  unplug(host: string): void
  plug(host: string): void
  /** Ends all cuts and slowdowns and plugs all hosts in. */
  healAll(): void
  /** Kills what still runs on the hosts, and removes them. */
  close(): void
  [Symbol.dispose](): void
}

const namespaces = '/run/netns'
const prefix = 'parley-'

/** Why no network can be made on this machine; null when it can. */
export function networkProblem(): string | null {
  if (process.platform !== 'linux') return 'network namespaces are a thing of Linux'
  if (process.getuid?.() !== 0) return 'only root can make network namespaces'
  const name = `${prefix}${process.pid}-probe`
  try {
    ip('netns', 'add', name)
  } catch (error) {
    return `network namespaces cannot be made: ${error instanceof Error ? error.message : String(error)}`
  }
  try {
    ip('-n', name, 'link', 'add', 'probe', 'type', 'bridge')
    ip('-n', name, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'other')
    return null
  } catch (error) {
    return `hosts cannot be joined: ${error instanceof Error ? error.message : String(error)}`
  } finally {
    ip('netns', 'delete', name)
  }
}

/** Makes hosts of these names (letters and digits), which reach each other. Close it in a `finally`, or use `using`. */
export function createNetwork(names: readonly string[]): Network {
  removeForgotten()
  const name = `${prefix}${process.pid}-${made}`
  made += 1
  const network = findNetwork(name, names)
  try {
    ip('netns', 'add', bridgeOf(name))
    ip('-n', bridgeOf(name), 'link', 'add', 'bridge', 'type', 'bridge', 'stp_state', '0')
    ip('-n', bridgeOf(name), 'link', 'set', 'bridge', 'up')
    for (const [at, host] of names.entries()) {
      const own = namespaceOf(name, host)
      ip('netns', 'add', own)
      const peer = ['peer', 'name', 'eth0', 'address', hardwareAddress(at), 'netns', own]
      ip('-n', bridgeOf(name), 'link', 'add', portOf(at), 'type', 'veth', ...peer)
      ip('-n', bridgeOf(name), 'link', 'set', portOf(at), 'master', 'bridge', 'up')
      ip('-n', own, 'link', 'set', 'lo', 'up')
      ip('-n', own, 'address', 'add', `${addressOf(at)}/24`, 'dev', 'eth0')
      ip('-n', own, 'link', 'set', 'eth0', 'up')
    }
    network.healAll()
  } catch (error) {
    network.close()
    throw error
  }
  return network
}

/** The network of this name, made by another process with these hosts. */
export function findNetwork(name: string, names: readonly string[]): Network {
  const hosts = names.map((host, at): Host => ({
    name: host,
    address: addressOf(at),
    // 'ip netns exec' would bring a mount namespace along.
    on: (command) => ['nsenter', `--net=${namespaces}/${namespaceOf(name, host)}`, ...command],
  }))
  /** Directions that are slow, `from to`. */
  const slowed = new Set<string>()

  function at(host: string): number {
    const found = names.indexOf(host)
    if (found === -1) throw new Error(`there is no host ${host}, only ${names.join(', ')}`)
    return found
  }

  /** Where `from` sends what is for `to`. */
  function aim({ from, to }: Direction, hardware: string): void {
    const entry = [addressOf(at(to)), 'lladdr', hardware, 'dev', 'eth0', 'nud', 'permanent']
    ip('-n', namespaceOf(name, from), 'neighbour', 'replace', ...entry)
  }

  function slow(direction: Direction, kilobitsPerSecond: number): void {
    const { from, to } = direction
    unslow(direction)
    const tc = (...args: readonly string[]) => run('tc', '-n', namespaceOf(name, from), ...args)
    if (![...slowed].some((other) => other.startsWith(`${from} `)))
      tc('qdisc', 'add', 'dev', 'eth0', 'root', 'handle', '1:', 'htb')
    const number = String(at(to) + 1)
    const parent = ['dev', 'eth0', 'parent', '1:']
    tc('class', 'add', ...parent, 'classid', `1:${number}`, 'htb', 'rate', `${kilobitsPerSecond}kbit`)
    tc('qdisc', 'add', 'dev', 'eth0', 'parent', `1:${number}`, 'pfifo', 'limit', '200')
    const match = ['u32', 'match', 'ip', 'dst', `${addressOf(at(to))}/32`]
    tc('filter', 'add', ...parent, 'protocol', 'ip', 'prio', number, ...match, 'flowid', `1:${number}`)
    slowed.add(`${from} ${to}`)
  }

  function unslow({ from, to }: Direction): void {
    if (!slowed.delete(`${from} ${to}`)) return
    const tc = (...args: readonly string[]) => run('tc', '-n', namespaceOf(name, from), ...args)
    if (![...slowed].some((other) => other.startsWith(`${from} `))) {
      tc('qdisc', 'delete', 'dev', 'eth0', 'root')
      return
    }
    const number = String(at(to) + 1)
    tc('filter', 'delete', 'dev', 'eth0', 'parent', '1:', 'protocol', 'ip', 'prio', number)
    tc('class', 'delete', 'dev', 'eth0', 'classid', `1:${number}`)
  }

  function heal(direction: Direction): void {
    aim(direction, hardwareAddress(at(direction.to)))
    unslow(direction)
  }

  function plug(host: string): void {
    ip('-n', bridgeOf(name), 'link', 'set', portOf(at(host)), 'master', 'bridge')
  }

  function close(): void {
    for (const namespace of [...names.map((host) => namespaceOf(name, host)), bridgeOf(name)])
      remove(namespace)
  }

  return {
    name,
    hosts,
    host(wanted) {
      const host = hosts[at(wanted)]
      if (host === undefined) throw new Error(`there is no host ${wanted}`)
      return host
    },
    // Locally administered, and none of `hardwareAddress`: the bridge sends it to all, and nobody takes it.
    cut: (direction) => aim(direction, '02:00:00:00:ff:ff'),
    heal,
    slow,
    unplug(host) {
      ip('-n', bridgeOf(name), 'link', 'set', portOf(at(host)), 'nomaster')
    },
    plug,
    healAll() {
      for (const from of names)
        for (const to of names) {
          if (from === to) plug(from)
          else heal({ from, to })
        }
    },
    close,
    [Symbol.dispose]: close,
  }
}

/** How many networks this process has made. */
let made = 0

function addressOf(at: number): string {
  return `10.77.0.${at + 1}`
}

function hardwareAddress(at: number): string {
  return `02:00:00:00:00:${(at + 1).toString(16).padStart(2, '0')}`
}

/** Where the cable of a host ends in the bridge. */
function portOf(at: number): string {
  return `port${at + 1}`
}

function namespaceOf(network: string, host: string): string {
  return `${network}-${host}`
}

function bridgeOf(network: string): string {
  return `${network}-bridge`
}

/** Removes what processes that were killed have left behind. */
function removeForgotten(): void {
  if (!existsSync(namespaces)) return
  for (const namespace of readdirSync(namespaces)) {
    const maker = /^parley-([0-9]+)-/.exec(namespace)?.[1]
    if (maker !== undefined && !existsSync(`/proc/${maker}`)) remove(namespace)
  }
}

function remove(namespace: string): void {
  if (!existsSync(`${namespaces}/${namespace}`)) return
  for (const line of ip('netns', 'pids', namespace).split('\n')) {
    const pid = Number(line)
    if (pid > 0 && pid !== process.pid) kill(pid)
  }
  ip('netns', 'delete', namespace)
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    // It has ended meanwhile.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

function ip(...args: readonly string[]): string {
  return run('ip', ...args)
}

function run(program: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8' })
  if (status !== 0)
    throw new Error(`${program} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`, { cause: error })
  return stdout
}
