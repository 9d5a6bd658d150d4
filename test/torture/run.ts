// `npm run torture`: real replicas under load, with kill -9, halts, cut networks and full disks; what their clients saw is checked.
import { spawn, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { createNetwork, findNetwork, networkProblem, type Network } from '../support/netns.ts'
import { torture } from './torture.ts'

const help = `npm run torture -- [options]

  --minutes M     go on for so long (default 1)
  --seed S        of the first round; each round has the next one. Default: from the clock
  --model NAME    majority (default), or fail-stop: then processes end, and nothing else
  --replicas N    default 5, or 3 in the fail-stop model
  --tls           replicas and clients speak TLS, with certificates of the cluster's authority
  --members       the replica set changes too: replicas leave, are lost with their disks and replaced, and lead
  --people N      clients that talk at the same time; default 16
  --pause MS      mean time between two acts of each; default 60
  --round S       how long faults go on in each round, in seconds, roughly; default 20
  --no-network    do not make network namespaces: nothing is cut, no disk is full
  --out FOLDER    where the record of a failure goes; default torture-failures
  --keep          keep the record of a run in which no rule was broken, too
`

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string' },
    model: { type: 'string', default: 'majority' },
    replicas: { type: 'string' },
    people: { type: 'string', default: '16' },
    pause: { type: 'string', default: '60' },
    round: { type: 'string', default: '20' },
    tls: { type: 'boolean', default: false },
    members: { type: 'boolean', default: false },
    'no-network': { type: 'boolean', default: false },
    out: { type: 'string', default: 'torture-failures' },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
    /** Given by this program to itself: the network that it was started in. */
    inside: { type: 'string' },
    /** And where to put the data. */
    folder: { type: 'string' },
  },
})

const faultModel = values.model === 'fail-stop' ? 'fail-stop' : 'majority'
if (faultModel !== values.model) throw new Error('--model must be majority or fail-stop')
const replicas = values.replicas === undefined ? (faultModel === 'fail-stop' ? 3 : 5) : number('replicas')
const hosts = ['clients', ...Array.from({ length: replicas }, (_, at) => `r${at + 1}`)]

const program = [process.execPath, resolve(import.meta.dirname, '../../bin/run.js'), 'test/torture/run.ts']
/** In a user namespace whoever starts it is root, over what lies in there; `ip` keeps namespaces in /run. */
const ownRoot = ['unshare', '--user', '--map-root-user', '--mount', '--net', 'sh', '-c']
const ownRun = 'mount -t tmpfs parley-torture /run && exec "$@"'

if (values.help) console.log(help)
else if (values.inside !== undefined)
  process.exit(await inside(findNetwork(values.inside, hosts), values.folder ?? ''))
else {
  const problem = values['no-network'] ? 'as asked for' : networkProblem()
  if (problem !== null && !values['no-network'] && isRootSomewhere())
    process.exit(await again([...ownRoot, ownRun, 'sh'], []))
  const folder = mkdtempSync(join(tmpdir(), 'parley-torture-'))
  if (problem !== null)
    console.log(`Without a network of hosts, so nothing is cut and no disk is full: ${problem}.`)
  const code = problem === null ? await outside(folder) : await inside(null, folder)
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  process.exit(code)
}

/** Whether this process, which is not root, may make namespaces in which it is. */
function isRootSomewhere(): boolean {
  const [file = '', ...args] = [...ownRoot, ownRun, 'sh', 'true']
  return process.getuid?.() !== 0 && spawnSync(file, args, { stdio: 'ignore' }).status === 0
}

/** Makes the hosts, runs this program again on the one for clients, and removes them whatever becomes of it. */
async function outside(folder: string): Promise<number> {
  using network = createNetwork(hosts)
  // A mount namespace of its own, with which the small disks go.
  const alone = ['unshare', '--mount', '--propagation', 'slave']
  // Awaited here, since the hosts go when this function returns.
  return await again(network.host('clients').on(alone), ['--inside', network.name, '--folder', folder])
}

/** Runs this program again with the same arguments and some more, behind another command line. */
function again(before: readonly string[], more: readonly string[]): Promise<number> {
  const [file = '', ...args] = [...before, ...program, ...process.argv.slice(2), ...more]
  // A process group of its own: signals reach this process alone, and it passes them on.
  const child = spawn(file, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], detached: true })
  const pass = (signal: NodeJS.Signals): void => void child.kill(signal)
  process
    .on('SIGINT', pass)
    .on('SIGTERM', pass)
    .on('SIGHUP', pass)
    .on('disconnect', () => pass('SIGTERM'))
  return new Promise((done) => child.on('close', (code) => done(code ?? 1)))
}

async function inside(network: Network | null, folder: string): Promise<number> {
  const stop = new AbortController()
  const end = (): void => {
    // Who asks a second time does not want to wait.
    if (stop.signal.aborted) process.exit(130)
    console.log('ending')
    stop.abort()
  }
  process.on('SIGINT', end).on('SIGTERM', end).on('SIGHUP', end).on('disconnect', end)
  const seed = values.seed === undefined ? Date.now() % 1_000_000_000 : number('seed')
  console.log(`seed ${seed}, ${replicas} replicas, fault model ${faultModel}; record in ${folder}`)
  const { violation, summary } = await torture({
    minutes: number('minutes'),
    seed,
    replicas,
    faultModel,
    folder,
    network,
    tls: values.tls,
    changesMembers: values.members,
    people: number('people'),
    pauseMs: number('pause'),
    roundMs: number('round') * 1000,
    say: (line) => console.log(line),
    signal: stop.signal,
  })
  console.log(summary)
  if (violation !== null) {
    console.log(
      `\nVIOLATED: ${violation.rule} (seed ${violation.seed})\n${violation.message}\n\nthe plan was:\n${violation.plan.join('\n')}`,
    )
    console.log(
      `\nrepeat, more or less: npm run torture -- --seed ${violation.seed} --model ${faultModel} --replicas ${replicas}${values.tls ? ' --tls' : ''}${values.members ? ' --members' : ''}`,
    )
  }
  if (violation !== null || values.keep) {
    const out = join(values.out, `seed-${violation?.seed ?? seed}-${process.pid}`)
    cpSync(folder, out, { recursive: true })
    console.log(`record, logs, history and data: ${out}`)
  }
  if (violation !== null) return 1
  if (stop.signal.aborted) return 130
  console.log('no rule was broken')
  return 0
}

function number(name: 'minutes' | 'seed' | 'replicas' | 'people' | 'pause' | 'round'): number {
  const value = Number(values[name])
  if (!Number.isFinite(value) || value < 0) throw new Error(`--${name} must be a number`)
  return value
}
