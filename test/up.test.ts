import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { test, type TestContext } from 'node:test'

import type { UpEvent } from '../src/server/up.ts'
import { freePorts } from './support/ports.ts'

const program = resolve(import.meta.dirname, '../bin/parley.js')

/** A program of Parley's with its lines of output as they come. */
class Running {
  readonly child: ChildProcess
  readonly lines: string[] = []
  private listeners = new Set<() => void>()
  private ended = false

  constructor(parameters: readonly string[]) {
    this.child = spawn(process.execPath, [program, ...parameters], {
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

async function startUp(t: TestContext, replicas: number) {
  const folder = mkdtempSync(join(tmpdir(), 'parley-up-'))
  const base = await freePorts(3 * replicas)
  const parameters = ['up', '--json', '--data', folder, '--replicas', String(replicas)]
  const ports = ['--http-port', base, '--grpc-port', base + replicas, '--peer-port', base + 2 * replicas]
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

test('a local cluster tells when it serves, what ends and how to start that again, and stops in order', async (t) => {
  const { folder, up } = await startUp(t, 3)
  const { pid } = await up.event('started', ({ replica }) => replica === 2)
  process.kill(pid, 'SIGKILL')
  const ended = await up.event('ended')
  assert.deepEqual([ended.replica, ended.pid, ended.signal], [2, pid, 'SIGKILL'])

  const byHand = new Running(['serve', '--data', join(folder, 'r2')])
  await byHand.line('r2 listens', (line) => (line.startsWith('r2 listens: http://') ? line : null))
  const second = new Running(['serve', '--data', join(folder, 'r2')])
  await second.end()
  assert.equal(second.child.exitCode, 1)
  assert.match(second.lines.join('\n'), new RegExp(`${byHand.child.pid}`))
  byHand.child.kill('SIGTERM')
  await byHand.end()
  assert.equal(byHand.child.exitCode, 0)

  up.child.kill('SIGINT')
  await up.event('stopped')
  await up.end()
  assert.equal(up.child.exitCode, 0)
})

test('replicas end with a supervisor that is killed, and their cluster comes back with the next one', async (t) => {
  const { folder, up } = await startUp(t, 1)
  const { pid } = await up.event('started')
  up.child.kill('SIGKILL')
  await up.end()
  // The replica needs a moment to stop: until then the folder is in use, which the next supervisor says.
  const again = await untilServing(folder)
  t.after(() => again.child.kill('SIGKILL'))
  assert.notEqual((await again.event('started')).pid, pid)
  again.child.kill('SIGTERM')
  await again.end()
  assert.equal(again.child.exitCode, 0)
})

async function untilServing(folder: string): Promise<Running> {
  for (;;) {
    const up = new Running(['up', '--json', '--data', folder])
    if (await Promise.race([up.event('serving').then(() => true), up.end().then(() => false)])) return up
  }
}
