import { Worker } from 'node:worker_threads'

import { pause, type Cancel, type Clock } from '../base/clock.ts'
import type { Logger } from '../base/logger.ts'
import type { SearchMessagesRequest, SearchMessagesResponse } from '../gen/parley/v1/service.ts'
import type { Search } from './replica.ts'

export interface SearchWorkerData {
  readonly indexPath: string
}

export type SearchJob = { readonly number: number; readonly statePath: string } & (
  | { readonly kind: 'advance'; readonly limit: number }
  | { readonly kind: 'search'; readonly account: number; readonly request: SearchMessagesRequest }
)

export type SearchReply = { readonly number: number } & (
  | { readonly kind: 'advanced'; readonly position: number; readonly more: boolean }
  | { readonly kind: 'found'; readonly response: SearchMessagesResponse }
  | { readonly kind: 'failed'; readonly message: string }
)

export interface SearchOptions {
  readonly indexPath: string
  /** The database file of the state at this moment. */
  readonly statePath: () => string
  readonly position: () => number
  readonly clock: Clock
  readonly logger: Logger
}

/** Search with a thread of its own. */
export interface SearchThread extends Search {
  close(): Promise<void>
}

/** How long a search waits for the index to get as far as the state; after that it answers with what there is. */
const maxWaitMs = 3000
const advanceLimit = 1000
/** The index follows so often while nobody searches, if it lags by so many commands. */
const followMs = 2000
const followLag = 200
/** A thread that had nothing to do for so long is ended: it holds some 15 MB. */
const idleMs = 10_000
/** With more commands than this in that time, the replica has better things to do than to index: it waits for a quieter time, or for somebody who searches. */
const busyCommands = 2000

/**
 * Keeps the index near the state while the replica is not busy, and brings it up to the state when somebody searches. The thread is started when there is something to index.
 */
export function createSearch(options: SearchOptions): SearchThread {
  const { clock, logger } = options
  const waiting = new Map<number, (reply: SearchReply) => void>()
  let worker: Worker | null = null
  let nextNumber = 1
  let reached = 0
  let advancing: Promise<boolean> | null = null
  let seen = 0
  let cancelFollow: Cancel | null = null
  let closed = false
  let cancelEnd: Cancel | null = null

  function ask(
    job: { readonly kind: 'advance'; readonly limit: number } | Extract<SearchJob, { kind: 'search' }>,
  ): Promise<SearchReply> {
    const number = nextNumber
    nextNumber += 1
    cancelEnd?.()
    cancelEnd = null
    worker ??= start()
    const message: SearchJob = { ...job, number, statePath: options.statePath() }
    worker.postMessage(message, [])
    return new Promise((resolve) => {
      waiting.set(number, resolve)
    })
  }

  function start(): Worker {
    const data: SearchWorkerData = { indexPath: options.indexPath }
    const started = new Worker(new URL('search.worker.ts', import.meta.url), {
      workerData: data,
      resourceLimits: { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4 },
    })
    started.on('message', (reply: SearchReply) => {
      const resolve = waiting.get(reply.number)
      waiting.delete(reply.number)
      if (waiting.size === 0) rest(started)
      resolve?.(reply)
    })
    started.on('error', (error) => logger.error({ error: String(error) }, 'the search thread failed'))
    started.on('exit', () => {
      if (worker !== started) return
      worker = null
      for (const [number, resolve] of waiting)
        resolve({ kind: 'failed', number, message: 'the search thread has ended' })
      waiting.clear()
    })
    return started
  }

  function rest(resting: Worker): void {
    cancelEnd?.()
    cancelEnd = clock.after(idleMs, () => {
      cancelEnd = null
      worker = null
      void resting.terminate()
    })
  }

  /** One slice; calls that come while it is under way share it. Returns whether there is more. */
  function advance(): Promise<boolean> {
    advancing ??= ask({ kind: 'advance', limit: advanceLimit }).then((reply) => {
      advancing = null
      if (reply.kind === 'advanced') {
        reached = reply.position
        return reply.more
      }
      if (reply.kind === 'failed' && !closed) logger.warn({ error: reply.message }, 'indexing failed')
      return false
    })
    return advancing
  }

  function follow(): void {
    cancelFollow = clock.after(followMs, () => {
      const position = options.position()
      const isBusy = position - seen > busyCommands
      seen = position
      const isNear = position - reached < followLag
      void (isNear || isBusy ? Promise.resolve() : catchUp()).then(() => {
        if (!closed) follow()
      })
    })
  }

  async function catchUp(): Promise<void> {
    const began = options.position()
    for (;;) {
      if (closed || reached >= options.position()) return
      const sinceMs = clock.monotonicMs()
      const more = await advance()
      // The load may have begun since.
      if (!more || options.position() - began > busyCommands) return
      // Nobody waits for it: half of a processor is enough.
      await pause(clock, clock.monotonicMs() - sinceMs)
    }
  }

  follow()
  return {
    async search(account, request, position) {
      const endMs = clock.monotonicMs() + maxWaitMs
      while (reached < position && clock.monotonicMs() < endMs) {
        const before = reached
        await advance()
        if (reached === before) break
      }
      const reply = await ask({ kind: 'search', number: 0, statePath: '', account, request })
      if (reply.kind === 'found') return reply.response
      throw new Error(reply.kind === 'failed' ? reply.message : 'the search thread answered something else')
    },
    async close() {
      closed = true
      cancelFollow?.()
      cancelEnd?.()
      await worker?.terminate()
    },
  }
}
