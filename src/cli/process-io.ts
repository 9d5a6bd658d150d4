import { readFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { isCancel, password, text } from '@clack/prompts'
import { createClient } from '../client/index.ts'
import { processIo as serverIo } from '../server/io.ts'
import { createNodeConnect } from '../tls/connect.ts'
import { CliError, type Files, type Io } from './io.ts'

/** The real process. */
export function processIo(): Io {
  const canAsk = process.stdin.isTTY && process.stderr.isTTY
  let stop: () => void = () => {}
  const stopped = new Promise<void>((resolve) => {
    stop = resolve
  })
  let listening = false
  const told = new Set<string>()
  const connect = createNodeConnect((problem) => {
    // A client tries again and again; people are told once.
    if (!told.has(problem)) process.stderr.write(`${problem}\n`)
    told.add(problem)
  })
  let outError: NodeJS.ErrnoException | null = null
  process.stdout.on('error', (error) => {
    outError ??= error
    stop()
  })
  process.stderr.on('error', stop)
  return {
    out: (line) => process.stdout.write(`${line}\n`),
    async drained() {
      // The error of a write comes after its callback.
      await new Promise<void>((resolve) => void process.stdout.write('', () => void setImmediate(resolve)))
      if (outError === null) return true
      // Whoever reads the output may go, `parley watch | head`, and so may the terminal. That is no error.
      if (outError.code === 'EPIPE' || (outError.code === 'EIO' && process.stdout.isTTY)) return false
      throw new CliError(`what is printed cannot be written: ${outError.message}`)
    },
    err: (line) => process.stderr.write(`${line}\n`),
    environment: process.env,
    canAsk,
    isTerminal: process.stdout.isTTY,
    color: process.stdout.isTTY && (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb',
    // Some terminals do not know, and say 0.
    columns: () => process.stdout.columns || process.stderr.columns || 80,
    ask: async (question) => answered(text({ message: question, output: process.stderr })),
    askSecret: async (question) => answered(password({ message: question, output: process.stderr })),
    readInput,
    files,
    createClient: (options) => createClient({ connect, ...options }),
    nowMs: () => Date.now(),
    device: `${hostname()}, command line`,
    after(delayMs, callback) {
      const timer = setTimeout(callback, delayMs)
      return () => clearTimeout(timer)
    },
    get stopped() {
      // Only who wants to know takes over Ctrl-C.
      if (!listening) {
        listening = true
        process.on('SIGINT', stop)
        process.on('SIGTERM', stop)
        process.on('SIGHUP', stop)
      }
      return stopped
    },
    server: serverIo,
    terminal: () => ({ input: process.stdin, output: process.stdout, suspend }),
  }
}

/** Where no shell could let it go on nothing is stopped, and no SIGCONT comes. */
const notStoppedMs = 100

async function suspend(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  process.once('SIGCONT', resolve)
  // After what else waits for SIGCONT, which stands behind a timer that is due.
  setTimeout(() => setImmediate(resolve), notStoppedMs)
  process.kill(0, 'SIGTSTP')
  await promise
  process.off('SIGCONT', resolve)
}

async function answered(asked: Promise<string | symbol | undefined>): Promise<string> {
  // The prompt stops this process alone, and then reads no key.
  const stopAll = async (): Promise<void> => {
    process.off('SIGTSTP', stopAll)
    await suspend()
    process.on('SIGTSTP', stopAll)
    process.stdin.setRawMode(true).resume()
  }
  process.on('SIGTSTP', stopAll)
  const answer = await asked.finally(() => process.off('SIGTSTP', stopAll))
  if (typeof answer === 'symbol' || isCancel(answer)) throw new CliError('Given up.')
  return answer ?? ''
}

async function readInput(): Promise<string> {
  const parts: Buffer[] = []
  for await (const part of process.stdin) parts.push(Buffer.from(part as Uint8Array))
  return Buffer.concat(parts).toString('utf8')
}

const files: Files = {
  read(path) {
    try {
      return readFileSync(path, 'utf8')
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : ''
      if (code === 'ENOENT' || code === 'ENOTDIR') return null
      throw new CliError(`cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`)
    }
  },
  writePrivate(path, content) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    const fresh = `${path}.${process.pid}`
    writeFileSync(fresh, content, { mode: 0o600 })
    renameSync(fresh, path)
  },
  remove: (path) => rmSync(path, { force: true }),
}
