import type { OutboxStorage, StoredItem } from '../client/index.ts'

const databaseName = 'parley-outbox'
const storeName = 'items'
/** What is written waits so long for what was stored before: a browser may never say whether its storage is open. */
const loadMs = 10_000

/** Keeps the outbox in the browser's IndexedDB, so that what was written survives a reload. What the browser cannot store is not there after one. */
export function browserOutboxStorage(factory: IDBFactory): OutboxStorage {
  const opened = openDatabase(factory)
  // Operations take effect in the order in which they were asked for, each as a whole: one that removes an item comes after all of the one that adds it.
  let last: Promise<unknown> = opened
  const inOrder = <T>(otherwise: T, work: (store: IDBObjectStore) => Promise<T>): Promise<T> => {
    const result = last
      .then(async () => {
        const transaction = (await opened).transaction(storeName, 'readwrite', { durability: 'strict' })
        return work(transaction.objectStore(storeName))
      })
      .catch(() => otherwise)
    last = result
    return result
  }
  return {
    load: () =>
      Promise.race([
        inOrder([], (store) => settled(store.getAll() as IDBRequest<StoredItem[]>)),
        new Promise<[]>((resolve) => {
          setTimeout(() => resolve([]), loadMs)
        }),
      ]),
    put: (item) =>
      inOrder(undefined, async (store) => {
        const place = await settled(store.index('key').getKey(item.key))
        await settled(place === undefined ? store.add(item) : store.put(item, place))
      }),
    remove: (key) =>
      inOrder(undefined, async (store) => {
        const place = await settled(store.index('key').getKey(key))
        if (place !== undefined) await settled(store.delete(place))
      }),
  }
}

async function openDatabase(factory: IDBFactory): Promise<IDBDatabase> {
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
