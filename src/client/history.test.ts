import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../base/random.ts'
import { Account } from '../gen/parley/v1/model.ts'
import { createClient } from './client.ts'
import { history } from './history.ts'
import { FakeNetwork } from './testing.ts'

for (const count of [0, 1, 499, 500, 501, 1000, 1001, 1700])
  test(`all of ${count} messages are read from the first one on`, async () => {
    const network = new FakeNetwork(1)
    for (let i = 1; i <= count; i += 1)
      network.chat.send({ id: Uint8Array.of(i >> 8, i), to: undefined, text: '' }, Account.create())
    const client = createClient({
      addresses: network.addresses,
      clock: network.clock,
      random: seededRandom(1),
      connect: network.connect,
    })
    const seqs: number[] = []
    const reading = (async () => {
      for await (const page of history(client, { target: { $case: 'conversation', value: 7 } }))
        seqs.push(...page.map(({ seq }) => seq))
    })()
    await network.clock.pass(1000)
    await reading
    assert.deepEqual(
      seqs,
      Array.from({ length: count }, (_, i) => i + 1),
    )
  })
