import { test } from 'node:test'
import { workloadNames } from './simulate.ts'
import { assertClean } from './testing.ts'

/** How long fresh seeds are tried for, in seconds. */
const freshS = 30

for (const workload of workloadNames)
  test(`more fixed seeds of the ${workload} break no rule`, async () => {
    for (let seed = 5; seed <= 12; seed += 1) await assertClean(seed, workload)
  })

test('clusters that have lost more than they survive stop safely', async () => {
  for (const workload of workloadNames)
    for (let seed = 4; seed <= 6; seed += 1) await assertClean(seed, workload, { beyond: true })
})

test('fresh seeds break no rule', async () => {
  const endMs = Date.now() + freshS * 1000
  for (let seed = Date.now() % 1_000_000_000; Date.now() < endMs; seed += 1)
    await assertClean(seed, workloadNames[seed % workloadNames.length] ?? 'ledger')
})
