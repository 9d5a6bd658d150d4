import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Message } from '../gen/parley/v1/model.ts'
import { createClient } from './client.ts'
import { findMessages } from './search.ts'
import { FakeNetwork } from './testing.ts'
import type { Client } from './types.ts'

/** Pages with so many messages each. */
function start(...sizes: readonly number[]): { readonly network: FakeNetwork; readonly client: Client } {
  const network = new FakeNetwork(1)
  for (const size of sizes)
    network.chat.searchPages.push(Array.from({ length: size }, () => Message.create({ text: 'lunch' })))
  const { addresses, clock, connect } = network
  return { network, client: createClient({ addresses, clock, connect }) }
}

test('a search goes on over pages that are short or empty, until there is enough or no more', async () => {
  for (const { sizes, least, found, next } of [
    { sizes: [0, 0, 2, 0], least: 1, found: 2, next: '3' },
    { sizes: [0, 0, 2, 0], least: 20, found: 2, next: '' },
    { sizes: [0, 12, 0, 8, 5], least: 20, found: 20, next: '4' },
    { sizes: [0, 0], least: 1, found: 0, next: '' },
    { sizes: [], least: 1, found: 0, next: '' },
  ]) {
    const { network, client } = start(...sizes)
    const searching = findMessages(client, { query: 'lunch' }, { least, most: 20 })
    await network.clock.pass(1000)
    const { messages, nextPageToken } = await searching
    assert.deepEqual([messages.length, nextPageToken], [found, next])
    client.close()
  }
})

test('a search that is no longer wanted ends with the page that it waits for', async () => {
  const { network, client } = start(0, 0, 0, 1)
  let wanted = 2
  const searching = findMessages(
    client,
    { query: 'lunch', pageToken: '1' },
    { least: 1, most: 20 },
    () => (wanted -= 1) > 0,
  )
  await network.clock.pass(1000)
  assert.deepEqual(await searching, { messages: [], nextPageToken: '3' })
  client.close()
})
