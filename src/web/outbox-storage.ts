import type { OutboxStorage, StoredItem } from '../client/index.ts'

const databaseName = 'parley-outbox'
const storeName = 'items'

/** Keeps the outbox in the browser's IndexedDB, so that what was written survives a reload. */
export function browserOutboxStorage(factory: IDBFactory): OutboxStorage {
  const opened = openDatabase(factory)
  // Operations take effect in the order in which they were asked for, each as a whole: one that removes an item comes after all of the one that adds it.
  let last: Promise<unknown> = opened
  const inOrder = <T>(work: (store: IDBObjectStore) => Promise<T>): Promise<T> => {
    const result = last.then(async () => {
      const transaction = (await opened).transaction(storeName, 'readwrite', { durability: 'strict' })
      return work(transaction.objectStore(storeName))
    })
    last = result.catch(() => undefined)
    return result
  }
  return {
    load: () => inOrder((store) => settled(store.getAll() as IDBRequest<StoredItem[]>)),
    put: (item) =>
      inOrder(async (store) => {
        const place = await settled(store.index('key').getKey(item.key))
        await settled(place === undefined ? store.add(item) : store.put(item, place))
      }),
    remove: (key) =>
      inOrder(async (store) => {
        const place = await settled(store.index('key').getKey(key))
        if (place !== undefined) await settled(store.delete(place))
      }),
  }
}

function openDatabase(factory: IDBFactory): Promise<IDBDatabase> {
  const request = factory.open(databaseName, 1)
  request.addEventListener('upgradeneeded', () => {
    // The place in the order is the store's own key; the item's key finds it.
    request.result
      .createObjectStore(storeName, { autoIncrement: true })
      .createIndex('key', 'key', { unique: true })
  })
  return settled(request)
}

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.addEventListener('success', () => resolve(request.result))
    request.addEventListener('error', () => reject(request.error ?? new Error('the browser storage failed')))
  })
}
