import { flushCompileCache } from 'node:module'
import { parentPort, workerData } from 'node:worker_threads'

import { openChat } from '../chat/machine.ts'
import { standBack } from '../storage/background.ts'
import { isDamage, removeIndex, SearchIndex } from './search-index.ts'
import type { SearchJob, SearchReply, SearchWorkerData } from './search.ts'

/** The thread that keeps `search.db` and answers searches. */
const { indexPath } = workerData as SearchWorkerData
const port = parentPort
if (port === null) throw new Error('this file is run in a worker thread')

// Threads do not get as far as writing it by themselves when the process is killed.
flushCompileCache()

standBack()

let index: SearchIndex | null = null
let statePath = ''

port.on('message', (job: SearchJob) => {
  try {
    if (statePath !== job.statePath) {
      index?.close()
      index = null
      statePath = job.statePath
    }
    index ??= new SearchIndex(indexPath, statePath, (db) => openChat(db).queries)
    port.postMessage(work(index, job))
  } catch (error) {
    index?.close()
    index = null
    if (isDamage(error)) removeIndex(indexPath)
    const reply: SearchReply = { kind: 'failed', number: job.number, message: String(error) }
    port.postMessage(reply)
  }
})

function work(index: SearchIndex, job: SearchJob): SearchReply {
  const { number } = job
  if (job.kind === 'search')
    return { kind: 'found', number, response: index.search(job.account, job.request) }
  const more = index.advance(job.limit)
  return { kind: 'advanced', number, position: index.position, more }
}
