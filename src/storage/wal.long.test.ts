import { test } from 'node:test'
import { crashRun } from './wal-testing.ts'

const kinds = [
  { how: 'crashed', runs: 4000 },
  { how: 'killed', runs: 1000 },
  { how: 'failed', runs: 1000 },
] as const

for (const { how, runs } of kinds)
  test(`all that was acknowledged is there after ${runs} random runs in which the machine or the process ${how}`, () => {
    for (let seed = 100_001; seed <= 100_000 + runs; seed += 1) crashRun(seed, how)
  })
