import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RandomCluster } from './random-cluster.ts'
import type { FaultModel } from './types.ts'

for (const faultModel of ['majority', 'fail-stop'] as const)
  test(`safety holds under random schedules, and progress follows when they end: ${faultModel}`, () =>
    play(faultModel))

function play(faultModel: FaultModel): void {
  const first = Number(process.env['SEED'] ?? 1)
  const seeds = Number(process.env['SEEDS'] ?? 80)
  const totals = { elections: 0, commits: 0, reads: 0, changes: 0, snapshots: 0, restarts: 0 }
  for (let seed = first; seed < first + seeds; seed += 1) {
    const cluster = new RandomCluster(seed, faultModel)
    try {
      cluster.run(2000)
      cluster.heal()
    } catch (error) {
      throw new Error(`with SEED=${seed} SEEDS=1`, { cause: error })
    }
    for (const key of Object.keys(totals) as (keyof typeof totals)[]) totals[key] += cluster.counts[key]
  }
  if (seeds < 50) return
  for (const [what, count] of Object.entries(totals)) assert.ok(count > seeds, `${count} ${what} happened`)
}
