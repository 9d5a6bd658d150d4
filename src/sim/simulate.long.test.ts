import { test } from 'node:test'
import { workloadNames } from './simulate.ts'
import { assertClean } from './testing.ts'

/** How long fresh seeds are tried for, in seconds. */
const freshS = 30

for (const workload of workloadNames)
  test(`more fixed seeds of the ${workload} break no rule`, async () => {
    for (let seed = 5; seed <= 12; seed += 1) await assertClean(seed, workload)
  })

test('a room that has become empty since its newest message has expired too is no room that keeps what is old', async () => {
  // The newest message had its time from a clock that was behind the leader's.
  await assertClean(965203793, 'life')
})

test('a message that expires while the last backup is made need not be in it', async () => {
  // The clocks had made leaps of minutes, and it was the only one in the room.
  await assertClean(48447113, 'life')
  // It had gone before the backup was begun.
  await assertClean(95000074, 'life', { faultModel: 'fail-stop' })
})

test('what the life checks at its end waits for the room that it is about', async () => {
  // The faults lasted so long that the room was not made before they ended.
  await assertClean(978403883, 'life')
  // That it was made was never told, and making it again says that it is there.
  await assertClean(70000523, 'life')
})

test('a version is not used on the strength of a removal that comes to nothing', async () => {
  // The one who was of the earlier version led next.
  await assertClean(72000308, 'life')
})

test('a process that is killed while it makes its first file does not go on for ever', async () => {
  // What it writes from then on comes to nothing, and it looked at the length of the file.
  await assertClean(71000153, 'life')
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
