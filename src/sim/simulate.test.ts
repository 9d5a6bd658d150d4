import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { mutants, seamProblem } from './mutants.ts'
import { shrink } from './shrink.ts'
import { describePlan, simulate, workloadNames } from './simulate.ts'
import { assertClean, options } from './testing.ts'
import { traceLine } from './trace.ts'

/** How long fresh seeds are tried for, in seconds. `npm run test:long` and `npm run sim` do the same for longer. */
const freshS = 15

for (const workload of workloadNames)
  test(`fixed seeds of the ${workload} break no rule`, async () => {
    for (let seed = 1; seed <= 4; seed += 1) await assertClean(seed, workload)
  })

test('a cluster that has lost more than it survives stops safely', async () => {
  for (const workload of workloadNames)
    for (let seed = 1; seed <= 3; seed += 1) await assertClean(seed, workload, { beyond: true })
})

const parted = { faultModel: 'fail-stop', beyond: true } as const

/** Besides the first few: 10 and 5010 gave up in silence what one side had committed before a power cut; in 2284 all waited for one that could not lead. */
const partedSeeds = [1, 2, 3, 4, 5, 6, 10, 2284, 5010]

test('when the living are taken for dead in the fail-stop model, sides that parted notice it and overwrite nothing', async () => {
  let diverged = 0
  let takenForDead = 0
  const fresh = Date.now() % 1_000_000_000
  for (const seed of [...partedSeeds, fresh, fresh + 1, fresh + 2]) {
    const { cluster } = await assertClean(seed, 'ledger', parted)
    diverged += cluster.diverged
    takenForDead += cluster.takenForDead
  }
  assert.ok(diverged > 0 && takenForDead > 0)
})

test('crashes alone break no rule of the fail-stop model, and nobody halts', async () => {
  for (let seed = 1; seed <= 3; seed += 1) await assertClean(seed, 'ledger', { faultModel: 'fail-stop' })
})

test('fresh seeds break no rule', async () => {
  const endMs = Date.now() + freshS * 1000
  for (let seed = Date.now() % 1_000_000_000; Date.now() < endMs; seed += 1)
    await assertClean(seed, workloadNames[seed % workloadNames.length] ?? 'ledger')
})

test('the same seed gives the same run in another process, to the last byte of its trace', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'parley-sim-'))
  for (const workload of workloadNames) {
    const file = join(folder, workload)
    await promisify(execFile)(process.execPath, [
      join(import.meta.dirname, 'run.ts'),
      '--seed=77',
      '--duration=5',
      `--workload=${workload}`,
      `--trace=${file}`,
    ])
    const here = await simulate({ ...options(77, workload), durationMs: 5000, keepEvents: 10_000_000 })
    assert.ok(here.events > 1000)
    assert.equal(here.trace.map((event) => `${traceLine(event)}\n`).join(''), readFileSync(file, 'utf8'))
    const other = await simulate({ ...options(78, workload), durationMs: 5000 })
    assert.notEqual(here.digest, other.digest)
  }
  rmSync(folder, { recursive: true })
})

test('a run has only the kinds of faults that were asked for', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [
    join(import.meta.dirname, 'run.ts'),
    '--seed=77',
    '--workload=ledger',
    '--faults=stall',
    '--duration=6',
  ])
  assert.match(stdout, /^faults: stall \d+$/m)
})

test('every seam of the mutants is where it was', () => {
  assert.ok(mutants.length >= 25)
  assert.equal(new Set(mutants.map(({ name }) => name)).size, mutants.length)
  assert.deepEqual(
    mutants.map(seamProblem).filter((problem) => problem !== null),
    [],
  )
})

// Each from a seed that is not far from one that shows it.
for (const [name, first] of [
  ['commit with one replica too few', 1],
  ['serve a read without asking a quorum', 1],
  ['a stale append cuts what was acknowledged', 32],
] as const)
  test(`the simulator notices it when replicas ${name}`, async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [
      join(import.meta.dirname, 'hunt.ts'),
      name,
      '60',
      String(first),
    ])
    const hunt = JSON.parse(stdout) as { readonly caught: string | null; readonly seeds: number }
    assert.notEqual(hunt.caught, null, `not caught in ${hunt.seeds} seeds`)
  })

test('the shrinker keeps only faults that a violation needs', async () => {
  // A cluster that is told to come to an end while its only replica is down makes no progress: a violation on purpose.
  const wanted = { ...options(5, 'ledger'), replicas: 1, durationMs: 3000 } as const
  const plan = (await simulate({ ...wanted, maxEvents: 0 })).plan
  const needed = new Set(plan.slice(0, 2).map((fault) => fault.number))
  const shrunk = await shrink(
    wanted,
    { rule: 'all needed', message: '' },
    async ({ only }) => only !== null && [...needed].every((number) => only.has(number)),
  )
  assert.deepEqual(shrunk.only, needed)
  assert.equal(describePlan(plan, shrunk.only).length, needed.size)
})
