import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { getCompileCacheDir } from 'node:module'
import { dirname, join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')
const entry = join(root, 'bin', 'parley.js')

/** Several replicas often share one machine: none should let 100 MB of young garbage pile up before it is collected. `--expose-gc` is for src/server/memory.ts. */
const flags = ['--expose-gc', '--max-semi-space-size=8']

/**
 * For the C library of Linux. By itself it raises the size from which memory is given back at once to that of the largest piece that was freed, 16 MB here, and keeps a pool
 * for each thread: a replica then holds 35 MB that it does not use.
 */
const allocation = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: '262144',
  MALLOC_TRIM_THRESHOLD_: '2097152',
}

/** How a replica's process is started: `command` with the arguments of `parley serve` appended. */
export const replicaProcess = {
  command: [process.execPath, ...flags, entry, 'serve'],
  /** To be added to the environment, as far as it does not say otherwise. */
  environment: allocation,
} as const

/** Goes on as {@link replicaProcess} says, in the same process, where the system can do that. Does not return then. */
export function becomeReplicaProcess(): void {
  // What a supervisor started is one already; the link to it would not survive either.
  if (process.channel !== undefined || flags.every((flag) => process.execArgv.includes(flag))) return
  const [file = '', ...args] = replicaProcess.command
  prepareReplicaProcesses()
  const given = process.argv.slice(2)
  // The verb is among the words of the command, and options may stand before it.
  given.splice(given.indexOf('serve'), 1)
  process.execve?.(file, [file, ...args, ...given], { ...allocation, ...process.env })
}

/**
 * Compiles what replicas run into the cache, in a process of its own, when something of it has changed. A process that strips a file of its types loads a compiler for that,
 * and keeps the 22 MB to its end.
 */
export function prepareReplicaProcesses(): void {
  const cache = getCompileCacheDir()
  if (cache === undefined) return
  const stamp = join(dirname(cache), 'replica.txt')
  const words = [process.version, ...flags].join(' ')
  if (isNewer(stamp, words)) return
  const parameters = [...flags, join(root, 'bin', 'run.js'), 'src/cli/prepare.ts']
  const { status } = spawnSync(process.execPath, parameters, { stdio: 'ignore' })
  if (status !== 0) return
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, words)
}

/** Whether the file holds `words` and no source is newer. */
function isNewer(stamp: string, words: string): boolean {
  const stamped = statSync(stamp, { throwIfNoEntry: false })
  if (stamped === undefined || readFileSync(stamp, 'utf8') !== words) return false
  const sources = join(root, 'src')
  return readdirSync(sources, { recursive: true, encoding: 'utf8' }).every(
    (path) => !path.endsWith('.ts') || statSync(join(sources, path)).mtimeMs <= stamped.mtimeMs,
  )
}
