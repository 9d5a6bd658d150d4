import assert from 'node:assert/strict'
import { readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { Running, startUp } from './support/running.ts'

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

test('a killed leader is told, and the next one, and nothing that would alarm anybody', async (t) => {
  const { up } = await startUp(t, 3)
  const { leader } = await up.event('serving')
  const { pid } = await up.event('started', ({ replica }) => replica === leader)
  process.kill(pid, 'SIGKILL')
  const next = await up.event('leader', (event) => event.leader !== leader)
  const started = await up.event('started', ({ replica }) => replica === next.leader)
  assert.equal(next.pid, started.pid, 'whoever leads can be killed next')
  assert.deepEqual(
    up.lines.filter((line) => line.includes('"noQuorum"')),
    [],
  )
  up.child.kill('SIGKILL')
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

test('a replica whose folder is lost does not come back, and does not keep the others from starting', async (t) => {
  const { folder, up } = await startUp(t, 3)
  up.child.kill('SIGTERM')
  await up.end()
  rmSync(join(folder, 'r2'), { recursive: true })
  const again = new Running(['up', '--json', '--data', folder])
  t.after(() => again.child.kill('SIGKILL'))
  await again.event('serving')
  assert.deepEqual(await again.event('lost'), { event: 'lost', replica: 2, data: join(folder, 'r2') })
  const way = await again.line(
    'the way out',
    (line) => /parley replica replace r2 --data .*/.exec(line)?.[0] ?? null,
  )
  const replacing = new Running(way.replace(/^parley /, '').split(' '))
  await replacing.end()
  assert.match(replacing.lines.join('\n'), /r4 is added, has caught up and has a vote/)
  again.child.kill('SIGTERM')
  await again.end()
  const last = new Running(['up', '--json', '--data', folder])
  t.after(() => last.child.kill('SIGKILL'))
  await last.event('started', ({ replica }) => replica === 4)
  assert.ok(last.lines.every((line) => !line.includes('"lost"')))
})

test('nobody else may read what a replica stores, even in a folder that is open to all', async (t) => {
  const { folder, up } = await startUp(t, 1)
  const own = join(folder, 'r1')
  const files = readdirSync(own, { recursive: true, encoding: 'utf8' })
  const isOpen = (name: string): boolean => (statSync(join(own, name)).mode & 0o077) !== 0
  assert.ok(files.includes('state-1.db') && files.includes('parley.log'))
  assert.deepEqual(files.filter(isOpen), [])
  up.child.kill('SIGKILL')
})

test('SIGTERM to a Node that is too old stops the cluster that the pinned one runs for it', async (t) => {
  const { folder, up } = await startUp(t, 1)
  up.child.kill('SIGTERM')
  await up.end()
  const older = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.0.0' } })`
  const byOlder = new Running(
    ['up', '--json', '--data', folder],
    ['--import', `data:text/javascript,${encodeURIComponent(older)}`],
  )
  await byOlder.event('serving')
  byOlder.child.kill('SIGTERM')
  await byOlder.event('stopped')
  await byOlder.end()
  assert.equal(byOlder.child.exitCode, 0)
})

async function untilServing(folder: string): Promise<Running> {
  for (;;) {
    const up = new Running(['up', '--json', '--data', folder])
    if (await Promise.race([up.event('serving').then(() => true), up.end().then(() => false)])) return up
  }
}
