import assert from 'node:assert/strict'
import { test } from 'node:test'
import { UnsentTexts } from './unsent-texts.ts'

/** A browser's storage with room for so many characters. */
function storageOf(room: number): Storage {
  const kept: Record<string, string> = {}
  const methods: Omit<Storage, 'length'> = {
    getItem: (key: string) => kept[key] ?? null,
    setItem(key: string, value: string) {
      if (value.length > room) throw new DOMException('full', 'QuotaExceededError')
      kept[key] = value
    },
    removeItem: (key: string) => void delete kept[key],
    clear: assert.fail,
    key: assert.fail,
  }
  // Its keys are those of what it holds.
  return new Proxy(kept, {
    get: (_, name) => (name in methods ? methods[name as keyof typeof methods] : kept[String(name)]),
  }) as unknown as Storage
}

test('what was typed is there after a reload, in its place only', () => {
  const storage = storageOf(100)
  storage.setItem('another', 'key')
  const before = new UnsentTexts(storage)
  before.set('1 room', 'half a tho')
  before.set('1 room', 'half a thought')
  before.set('1 wes', 'sent')
  before.set('1 wes', '')
  const after = new UnsentTexts(storage)
  assert.equal(after.get('1 room'), 'half a thought')
  assert.equal(after.get('1 wes'), '')
  assert.equal(after.get('2 room'), '')
  assert.deepEqual(Object.keys(storage), ['another', 'parley-unsent 1 room'])
})

test('who signs out leaves nothing behind', () => {
  const storage = storageOf(100)
  const texts = new UnsentTexts(storage)
  texts.set('1 room', 'a secret')
  texts.set('1 wes', 'another one')
  texts.clear()
  assert.equal(texts.get('1 room'), '')
  assert.deepEqual(Object.keys(storage), [])
})

test('what the browser has no room for lasts as long as the page', () => {
  const texts = new UnsentTexts(storageOf(5))
  texts.set('1 room', 'too long')
  assert.equal(texts.get('1 room'), 'too long')
})
