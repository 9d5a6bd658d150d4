import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StoredItem } from '../client/index.ts'
import { browserOutboxStorage } from './outbox-storage.ts'

const item: StoredItem = {
  key: '0a',
  id: '0a',
  account: 5,
  to: { target: { $case: 'account', value: 'bob' } },
  text: 'hello',
  queuedAtMs: 0,
  failed: null,
}

/** A browser whose storage cannot be opened: what `open` does with the request. */
function factoryThat(open: (request: EventTarget) => void): IDBFactory {
  return {
    open() {
      const request = new EventTarget()
      open(request)
      return request
    },
  } as unknown as IDBFactory
}

test('where the browser cannot open its storage there is nothing to load, and the outbox goes on without', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const factories = {
    refused: factoryThat((request) => queueMicrotask(() => request.dispatchEvent(new Event('error')))),
    forbidden: factoryThat(() => {
      throw new DOMException('not here', 'SecurityError')
    }),
  }
  for (const [name, factory] of Object.entries(factories)) {
    const storage = browserOutboxStorage(factory)
    // Both may give a promise, which nobody looks at.
    await Promise.all([storage.put(item), storage.remove(item.key)])
    assert.deepEqual(await storage.load(), [], name)
  }
})

test('a browser that never says whether its storage is open holds nothing up for ever', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const storage = browserOutboxStorage(factoryThat(() => undefined))
  const loaded = storage.load()
  t.mock.timers.tick(10_000)
  assert.deepEqual(await loaded, [])
})
