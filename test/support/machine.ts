import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { createNodeConnect } from '../../src/tls/connect.ts'
import type { Host } from './netns.ts'

const entry = resolve(import.meta.dirname, '../../bin/parley.js')

/** The `connect` of clients that pin an authority; what it has to say is thrown away. */
export const pinnedConnect = createNodeConnect(() => undefined)

export interface MachineOptions {
  /** Where replicas run. Default: right here. */
  readonly host?: Host
  readonly environment?: Readonly<Record<string, string>>
  /** All of its standard input. Default: none. */
  readonly input?: string
}

type Event = Readonly<Record<string, unknown>>

/** A process of the command line, with what it says. Every line of stdout is an object when `--json` is among its words. */
export class Process {
  readonly lines: string[] = []
  readonly errors: string[] = []
  /** With how it ended. */
  readonly ended: Promise<number | string>
  private readonly child: ChildProcess
  private watchers: (() => void)[] = []
  private over = false

  constructor(words: readonly string[], { host, environment, input }: MachineOptions = {}) {
    const command = [process.execPath, '--max-semi-space-size=8', entry, ...words]
    const [file = '', ...rest] = host?.on(command) ?? command
    this.child = spawn(file, rest, {
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      env: { ...process.env, PARLEY_PASSWORD_MEMORY_KIB: '64', ...environment },
    })
    this.child.stdin?.end(input)
    for (const [stream, lines] of [
      [this.child.stdout, this.lines],
      [this.child.stderr, this.errors],
    ] as const) {
      if (stream === null) throw new Error('no pipe')
      createInterface({ input: stream }).on('line', (line) => {
        lines.push(line)
        this.changed()
      })
    }
    this.ended = once(this.child, 'close').then(([code, signal]: unknown[]) => {
      this.over = true
      this.changed()
      return typeof code === 'number' ? code : String(signal)
    })
  }

  /** The first event of this name; fails when the process ends without it. */
  async event(name: string): Promise<Event> {
    for (;;) {
      const found = this.lines.map((line) => JSON.parse(line) as Event).find(({ event }) => event === name)
      if (found !== undefined) return found
      if (this.over)
        throw new Error(`ended without "${name}":\n${[...this.lines, ...this.errors].join('\n')}`)
      await new Promise<void>((resolve) => this.watchers.push(resolve))
    }
  }

  async end(signal: NodeJS.Signals): Promise<number | string> {
    this.child.kill(signal)
    return this.ended
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal)
  }

  private changed(): void {
    const watchers = this.watchers
    this.watchers = []
    for (const watcher of watchers) watcher()
  }
}
