import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'

import type { UpEvent } from '../../src/server/up.ts'
import { freePorts } from './ports.ts'

const program = resolve(import.meta.dirname, '../../bin/parley.js')

/** A program of Parley's with its lines of output as they come. */
export class Running {
  readonly child: ChildProcess
  readonly lines: string[] = []
  private listeners = new Set<() => void>()
  private ended = false

  /** @param nodeFlags of the process that is started. */
  constructor(parameters: readonly string[], nodeFlags: readonly string[] = []) {
    this.child = spawn(process.execPath, [...nodeFlags, program, ...parameters], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, PARLEY_PASSWORD_MEMORY_KIB: '64' },
    })
    for (const stream of [this.child.stdout, this.child.stderr]) {
      if (stream === null) continue
      createInterface({ input: stream }).on('line', (line) => {
        this.lines.push(line)
        for (const listener of this.listeners) listener()
      })
    }
    this.child.on('close', () => {
      this.ended = true
      for (const listener of this.listeners) listener()
    })
  }

  /** Resolves with what `find` finds in a line; the limit only keeps a failing test from hanging. */
  line<T>(what: string, find: (line: string) => T | null): Promise<T> {
    return this.wait(what, () => {
      for (const line of this.lines) {
        const found = find(line)
        if (found !== null) return found
      }
      return null
    })
  }

  event<K extends UpEvent['event']>(
    kind: K,
    matches: (event: Extract<UpEvent, { event: K }>) => boolean = () => true,
  ): Promise<Extract<UpEvent, { event: K }>> {
    return this.line(kind, (line) => {
      const event = line.startsWith('{') ? (JSON.parse(line) as UpEvent) : null
      // `event` is the field by which the kinds are told apart.
      const wanted = event?.event === kind ? (event as Extract<UpEvent, { event: K }>) : null
      return wanted !== null && matches(wanted) ? wanted : null
    })
  }

  end(): Promise<true> {
    return this.wait('the end', () => (this.ended ? true : null))
  }

  private wait<T>(what: string, look: () => T | null): Promise<T> {
    return new Promise((done, fail) => {
      const timer = setTimeout(() => {
        this.listeners.delete(check)
        fail(new Error(`${what}: did not come\n${this.lines.join('\n')}`))
      }, 30_000)
      const check = (): void => {
        const found = look()
        if (found === null) return
        clearTimeout(timer)
        this.listeners.delete(check)
        done(found)
      }
      this.listeners.add(check)
      check()
    })
  }
}

/** `parley up` with a new cluster that serves; it ends with the test. */
export async function startUp(
  t: TestContext,
  replicas: number,
): Promise<{ readonly folder: string; readonly up: Running }> {
  const folder = mkdtempSync(join(tmpdir(), 'parley-up-'))
  // Room for replicas that are added later.
  const most = replicas + 4
  const base = await freePorts(3 * most)
  const parameters = ['up', '--json', '--data', folder, '--replicas', String(replicas)]
  const ports = ['--http-port', base, '--grpc-port', base + most, '--peer-port', base + 2 * most]
  const up = new Running([...parameters, ...ports.map(String)])
  t.after(async () => {
    // The replicas end with their supervisor.
    up.child.kill('SIGKILL')
    await up.end()
    rmSync(folder, { recursive: true, force: true, maxRetries: 20 })
  })
  await up.event('serving')
  return { folder, up }
}
