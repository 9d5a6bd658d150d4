import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { getCompileCacheDir } from 'node:module'
import { dirname, join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')
const entry = join(root, 'bin', 'parley.js')
/** What that one runs. */
const main = join(root, 'src', 'cli', 'main.ts')

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

/** How a replica's process is started: `command` with the verb and its arguments appended. */
export const replicaProcess = {
  command: [process.execPath, ...flags, entry],
  /** To be added to the environment, as far as it does not say otherwise. */
  environment: allocation,
} as const

/**
 * The verb that this process was started with goes on, from its beginning, as {@link replicaProcess} says: with the same process number, where the system can do that. Does not
 * return then.
 */
export function becomeReplicaProcess(): void {
  // What a supervisor started is one already, and the link to it would not survive.
  const isOne = process.channel !== undefined || flags.every((flag) => process.execArgv.includes(flag))
  if (isOne || process.argv[1] !== main || process.execve === undefined) return
  prepareReplicaProcesses()
  const [file = '', ...parameters] = [...replicaProcess.command, ...process.argv.slice(2)]
  try {
    process.execve(file, [file, ...parameters], { ...allocation, ...process.env })
  } catch {
    // It only takes more memory as it is.
  }
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
  try {
    // The folder may be one that only others may write to.
    writeFileSync(stamp, '')
    const parameters = [...flags, join(root, 'bin', 'run.js'), 'src/cli/prepare.ts']
    const { status } = spawnSync(process.execPath, parameters, { stdio: 'ignore' })
    if (status === 0) writeFileSync(stamp, words)
  } catch {
    // Then they compile for themselves.
  }
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
