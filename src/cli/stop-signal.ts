import { CliError, type Io } from './io.ts'

/** Aborted when the process is asked to stop, for work that has something to put away then. @param words what is said of it. */
export function stopSignal(io: Io, words: string): AbortSignal {
  const controller = new AbortController()
  void io.stopped.then(() => controller.abort(new CliError(words)))
  return controller.signal
}
