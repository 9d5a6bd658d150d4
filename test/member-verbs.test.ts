import assert from 'node:assert/strict'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { runInteractive } from '../src/cli/interactive/run.ts'
import { processIo } from '../src/cli/process-io.ts'
import { runCli } from '../src/cli/program.ts'
import { FakeProcess } from '../src/cli/testing.ts'
import { startUp } from './support/running.ts'

const { files } = processIo()

/** Runs a verb of the command line in this process; all else is real. */
async function parley(argv: readonly string[], server = 'localhost:1'): Promise<Ran> {
  const fake = new FakeProcess(null)
  fake.environment['PARLEY_SERVER'] = server
  const code = await runCli(argv, { ...fake.io, files }, runInteractive)
  return { code, out: fake.outLines.join('\n'), err: fake.errLines.join('\n') }
}

interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

function done({ code, out, err }: Ran): string {
  assert.equal(code, 0, `${out}\n${err}`)
  return out
}

test('a local cluster is grown, its leader moved, a lost replica replaced, one removed, and one leaves, all by verbs', async (t) => {
  const { folder, up } = await startUp(t, 1)
  const { http } = await up.event('started')
  const list = async (): Promise<readonly Record<string, unknown>[]> => {
    const { replicas } = JSON.parse(done(await parley(['replica', '--json'], http))) as {
      replicas: readonly Record<string, unknown>[]
    }
    return replicas
  }

  const only = await parley(['leave', '--data', join(folder, 'r1')])
  assert.equal(only.code, 1)
  assert.match(only.err, /r1 is the only replica with a vote.*parley replica add/)

  const places = ['--http', 'h:1', '--grpc', 'h:2', '--peer', 'h:3']
  const taken = await parley(['replica', 'add', '--data', join(folder, 'r1'), ...places])
  assert.equal(taken.code, 2)
  assert.match(taken.err, /is the folder of a replica already/)
  assert.match(done(await parley(['replica', 'add', '--data', folder])), /r2 is added.*has a vote/)
  const added: unknown = JSON.parse(done(await parley(['replica', 'add', '--data', folder, '--json'])))
  assert.ok(typeof added === 'object' && added !== null && 'added' in added && added.added === 3)
  assert.match(done(await parley(['replica', 'transfer', 'r2', '--data', folder])), /r2 leads now/)
  const before = await list()
  assert.deepEqual(
    before.map(({ name, voter, leader }) => `${String(name)} ${String(voter)} ${String(leader)}`),
    ['r1 true false', 'r2 true true', 'r3 true false'],
  )

  const alive = await parley(['replica', 'replace', 'r3', '--data', folder])
  assert.match(alive.err, /r3 answers the others.*parley replica remove r3/)
  const { pid } = await up.event('started', ({ replica }) => replica === 3)
  process.kill(pid, 'SIGKILL')
  await up.event('ended', ({ replica }) => replica === 3)
  rmSync(join(folder, 'r3'), { recursive: true })
  const risky = await parley(['replica', 'remove', 'r1', '--data', folder])
  assert.equal(risky.code, 1)
  assert.match(
    risky.err,
    /Without r1, 2 of r2 and r3 would be needed, and only r2 can be reached. Start r3 first, or remove it in place of r1: parley replica remove r3/,
  )
  assert.match(done(await parley(['replica', 'replace', 'r3', '--data', folder])), /r4 is added.*has a vote/)
  const place = (await list()).find(({ id }) => id === 4)
  assert.equal(place?.['httpAddress'], before[2]?.['httpAddress'])

  assert.match(done(await parley(['leave', '--data', join(folder, 'r2')])), /r2 has left the cluster/)
  const left = await up.event('ended', ({ replica }) => replica === 2)
  assert.equal(left.code, 3)
  const again = await parley(['replica', 'promote', 'r2', '--data', folder])
  assert.match(again.err, /There is no r2; there are r1 and r4/)
  assert.match(done(await parley(['replica', 'add', '--data', folder])), /r5 is added/)
  const fifth = await up.event('started', ({ replica }) => replica === 5)
  process.kill(fifth.pid, 'SIGKILL')
  await up.event('ended', ({ replica }) => replica === 5)
  const room = done(await parley(['replica', 'replace', 'r5', '--data', join(folder, 'r1')]))
  assert.match(room, /r5 has left the cluster[^]*parley join TOKEN/)
  assert.match(done(await parley(['replica', 'remove', 'r1', '--data', folder])), /r1 has left/)
  await up.event('ended', ({ replica }) => replica === 1)
  const last = await parley(['replica', 'list', '--json'], String(place?.['httpAddress']))
  assert.match(done(last), /"leader":4/)
})

test('a lost replica that was removed is forgotten by its local cluster, and a replacement that broke off after the removal goes on', async (t) => {
  const { folder, up } = await startUp(t, 3)
  const { http } = await up.event('started', ({ replica }) => replica === 1)
  const lose = async (replica: number): Promise<void> => {
    const { pid } = await up.event('started', (event) => event.replica === replica)
    process.kill(pid, 'SIGKILL')
    await up.event('ended', (event) => event.replica === replica)
    rmSync(join(folder, `r${replica}`), { recursive: true })
  }
  const known = (): unknown => {
    const { replicas } = JSON.parse(readFileSync(join(folder, 'cluster.json'), 'utf8')) as {
      replicas: readonly { readonly id: number }[]
    }
    return replicas.map(({ id }) => id)
  }
  await lose(3)
  // As the removal that is the first half of a replacement.
  done(await parley(['replica', 'remove', 'r3', '--data', join(folder, 'r1')], http))
  assert.deepEqual(known(), [1, 2, 3])
  assert.match(done(await parley(['replica', 'replace', 'r3', '--data', folder])), /r4 is added.*has a vote/)
  assert.deepEqual(known(), [1, 2, 4])
  await lose(4)
  done(await parley(['replica', 'remove', 'r4', '--data', folder]))
  assert.deepEqual(known(), [1, 2])
  up.child.kill('SIGTERM')
  await up.end()
  const silent = await parley(['token', 'create', '--data', folder])
  assert.equal(silent.code, 5)
  assert.ok(silent.err.endsWith(`Start it first: parley up --data ${folder}`), silent.err)
  const one = await parley(['leave', '--data', join(folder, 'r1')])
  assert.ok(one.err.endsWith(`Start it first: parley serve --data ${join(folder, 'r1')}`), one.err)
})

test('what is missing on the command line is said, with what works', async () => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [['replica', 'add'], /name a folder with --data DIR.*parley join/],
    [['replica', 'add', '--data', '/nonexistent'], /--http is missing/],
    [['replica', 'remove', '2'], /a replica is named as r2, not "2"/],
    [['leave'], /parley leave --data DIR/],
  ]
  for (const [argv, message] of cases) {
    const { code, err } = await parley(argv)
    assert.equal(code, 2, err)
    assert.match(err, message)
  }
  const stranger = await parley(['replica', 'promote', 'r2'])
  assert.equal(stranger.code, 4)
  const nothing = await parley(['leave', '--data', '/nonexistent'])
  assert.match(nothing.err, /not the data folder of a replica/)
})
