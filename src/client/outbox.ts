import { toHex } from '../base/bytes.ts'
import type { Target } from '../gen/parley/v1/model.ts'
import type { SendMessageResponse } from '../gen/parley/v1/service.ts'
import { type ParleyError, reasonKinds } from './error.ts'
import type { Outbox, OutboxChange, OutboxItem, OutboxStorage, StoredItem } from './types.ts'

export interface OutboxPorts {
  readonly storage: OutboxStorage
  /** Sends until it is done, or rejected for good. */
  readonly send: (
    message: { readonly id: Uint8Array; readonly to: Target; readonly text: string },
    done: (error: ParleyError | null, response: SendMessageResponse | null) => void,
  ) => void
  readonly newId: () => Uint8Array
  readonly nowMs: () => number
  /** The number of the account that is signed in, or 0. */
  readonly account: () => number
  readonly onChange: () => void
}

interface Entry {
  stored: StoredItem
  item: OutboxItem
  sending: boolean
}

/**
 * Sends one message at a time to each target, so that a refusal of one can never let a later one of the same conversation pass it; different targets go side by side.
 */
export class MessageOutbox implements Outbox {
  readonly loaded: Promise<void>
  private readonly ports: OutboxPorts
  private readonly entries = new Map<string, Entry>()
  private readonly busyTargets = new Set<string>()
  private readonly listeners = new Set<(change: OutboxChange) => void>()
  private isLoaded = false
  private toldAccount = 0
  private closed = false

  constructor(ports: OutboxPorts) {
    this.ports = ports
    this.loaded = this.load()
  }

  get items(): readonly OutboxItem[] {
    return [...this.entries.values()].filter((entry) => this.isOwn(entry)).map((entry) => entry.item)
  }

  /** How many wait to be sent. */
  get pending(): number {
    let count = 0
    for (const entry of this.entries.values())
      if (entry.stored.failed === null && this.isOwn(entry)) count += 1
    return count
  }

  add(to: Target, text: string): OutboxItem {
    const id = this.ports.newId()
    const stored: StoredItem = {
      key: toHex(id),
      id: toHex(id),
      account: this.ports.account(),
      to,
      text,
      queuedAtMs: this.ports.nowMs(),
      failed: null,
    }
    const entry = this.append(stored)
    this.changed({ kind: 'added', item: entry.item })
    this.sendNext()
    return entry.item
  }

  retry(key: string): void {
    const entry = this.ownEntry(key)
    if (entry === null || entry.stored.failed === null) return
    // The rejection is kept under the id for ever, so the same id would only be told it again. Where the outcome is not certain the id must stay.
    const id =
      reasonKinds[entry.stored.failed.reason] === 'final' && entry.stored.failed.reason !== 'REASON_INTERNAL'
        ? toHex(this.ports.newId())
        : entry.stored.id
    this.entries.delete(key)
    this.ports.storage.remove(key)
    const again = this.append({ ...entry.stored, id, failed: null })
    this.changed({ kind: 'retried', item: again.item })
    this.sendNext()
  }

  discard(key: string): boolean {
    const entry = this.ownEntry(key)
    if (entry === null) return true
    this.entries.delete(key)
    this.ports.storage.remove(key)
    this.changed({ kind: 'discarded', item: entry.item })
    return !entry.sending
  }

  onChange(listener: (change: OutboxChange) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Somebody may have signed in or out: tells so when the account is another one than it was. */
  accountChanged(): void {
    const account = this.ports.account()
    if (account === this.toldAccount) return
    this.toldAccount = account
    this.changed({ kind: 'accountChanged' })
  }

  /** Sends what can be sent: somebody has signed in, perhaps. */
  sendNext(): void {
    const account = this.ports.account()
    if (!this.isLoaded || this.closed || account === 0) return
    const passedOver = new Set<string>()
    for (const entry of this.entries.values()) {
      const target = targetKey(entry.stored.to)
      if (
        !this.isOwn(entry) ||
        entry.stored.failed !== null ||
        this.busyTargets.has(target) ||
        passedOver.has(target)
      )
        continue
      passedOver.add(target)
      this.send(entry, target, account)
    }
  }

  close(): void {
    this.closed = true
  }

  private ownEntry(key: string): Entry | null {
    const entry = this.entries.get(key)
    return entry !== undefined && this.isOwn(entry) ? entry : null
  }

  /** What another account has left is not there for the one that is signed in. While none is, all is there: who was signed out can still be told what was not sent. */
  private isOwn({ stored }: Entry): boolean {
    const account = this.ports.account()
    return account === 0 || stored.account === 0 || stored.account === account
  }

  private send(entry: Entry, target: string, account: number): void {
    if (entry.stored.account === 0) this.store(entry, { ...entry.stored, account })
    entry.sending = true
    this.busyTargets.add(target)
    const { key } = entry.stored
    this.ports.send(
      { id: entry.item.id, to: entry.stored.to, text: entry.stored.text },
      (error, response) => {
        entry.sending = false
        this.busyTargets.delete(target)
        if (this.closed) return
        if (this.entries.get(key) === entry) this.ended(entry, error, response)
        this.sendNext()
      },
    )
  }

  private ended(entry: Entry, error: ParleyError | null, response: SendMessageResponse | null): void {
    if (response !== null) {
      this.entries.delete(entry.stored.key)
      this.ports.storage.remove(entry.stored.key)
      this.changed({ kind: 'sent', item: entry.item, response })
      return
    }
    if (error === null) return
    // Signed out meanwhile, or too much under way here: it keeps its place.
    const waits =
      error.reason === 'REASON_NOT_SIGNED_IN' ||
      error.reason === 'REASON_SESSION_EXPIRED' ||
      reasonKinds[error.reason] !== 'final'
    if (waits) return
    this.store(entry, { ...entry.stored, failed: { reason: error.reason, message: error.message } })
    this.changed({ kind: 'failed', item: entry.item })
  }

  private append(stored: StoredItem): Entry {
    const entry: Entry = { stored, item: itemOf(stored), sending: false }
    this.entries.set(stored.key, entry)
    this.ports.storage.put(stored)
    return entry
  }

  private store(entry: Entry, stored: StoredItem): void {
    entry.stored = stored
    entry.item = itemOf(stored)
    this.ports.storage.put(stored)
  }

  private async load(): Promise<void> {
    const stored = await this.loadStored()
    // What was added meanwhile comes behind what was there before.
    const added = [...this.entries.values()]
    this.entries.clear()
    for (const item of stored)
      this.entries.set(item.key, { stored: item, item: itemOf(item), sending: false })
    for (const entry of added) this.entries.set(entry.stored.key, entry)
    this.isLoaded = true
    this.changed({ kind: 'loaded' })
    this.sendNext()
  }

  /** A storage that breaks its word, and rejects, would keep everything from being sent. */
  private async loadStored(): Promise<readonly StoredItem[]> {
    try {
      return await this.ports.storage.load()
    } catch {
      return []
    }
  }

  private changed(change: OutboxChange): void {
    this.ports.onChange()
    for (const listener of this.listeners) listener(change)
  }
}

function itemOf(stored: StoredItem): OutboxItem {
  return {
    key: stored.key,
    id: fromHex(stored.id),
    to: stored.to,
    text: stored.text,
    queuedAtMs: stored.queuedAtMs,
    status:
      stored.failed === null
        ? { kind: 'pending' }
        : { kind: 'failed', reason: stored.failed.reason, message: stored.failed.message },
  }
}

function fromHex(text: string): Uint8Array {
  return Uint8Array.from({ length: text.length / 2 }, (_, i) =>
    Number.parseInt(text.slice(2 * i, 2 * i + 2), 16),
  )
}

/** Names are the same without regard to case. */
function targetKey(to: Target): string {
  return to.target === undefined ? '' : `${to.target.$case} ${String(to.target.value).toLowerCase()}`
}

/** Keeps the outbox while the process runs. */
export function memoryStorage(): OutboxStorage {
  const items = new Map<string, StoredItem>()
  return {
    load: () => Promise.resolve([...items.values()]),
    put: (item) => {
      items.set(item.key, item)
    },
    remove: (key) => {
      items.delete(key)
    },
  }
}
