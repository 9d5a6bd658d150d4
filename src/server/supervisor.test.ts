import assert from 'node:assert/strict'
import { once, EventEmitter } from 'node:events'
import { tmpdir } from 'node:os'
import { test, type TestContext } from 'node:test'
import { createSupervisor, type Supervisor, type SupervisorEvent } from './supervisor.ts'

interface Watched {
  readonly supervisor: Supervisor
  /** The processes that were started. */
  readonly pids: readonly number[]
  next(kind: SupervisorEvent['kind']): Promise<unknown>
}

/** @param commands of the processes in the order in which they are started; the last one is of all others too. */
function supervise(t: TestContext, ...commands: readonly (readonly string[])[]): Watched {
  const told = new EventEmitter()
  const pids: number[] = []
  let starts = 0
  const supervisor = createSupervisor({
    replicas: [{ id: 1, folder: tmpdir() }],
    restart: true,
    logLevel: 'info',
    place() {
      starts += 1
      return commands[starts - 1] ?? commands.at(-1) ?? []
    },
    onEvent(event) {
      if (event.kind === 'started') pids.push(event.pid)
      told.emit(event.kind)
    },
  })
  t.after(() => {
    for (const pid of pids) if (isAlive(pid)) process.kill(pid, 'SIGKILL')
  })
  return { supervisor, pids, next: (kind) => once(told, kind) }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

test('a replica that is started by hand while its restart waits has one process', async (t) => {
  const { supervisor, pids, next } = supervise(t, ['false'], ['sleep', '20'])
  t.mock.timers.enable({ apis: ['setTimeout'] })
  supervisor.start(1)
  await next('ended')
  supervisor.start(1)
  t.mock.timers.tick(10_000)
  assert.equal(pids.length, 2)
  assert.equal(supervisor.running.get(1), pids[1])
  t.mock.timers.reset()
  await supervisor.stop(0)
  assert.deepEqual(pids.filter(isAlive), [])
})

test('once all are being stopped none is started any more', async (t) => {
  const { supervisor, pids } = supervise(t, ['sleep', '20'])
  await supervisor.stop(0)
  supervisor.start(1)
  assert.deepEqual(pids, [])
})
