import { once } from 'node:events'

/** What a verb of the server may do with the process it runs in. */
export interface ServerIo {
  /** A line of data, on stdout. */
  readonly out: (line: string) => void
  /** A line for people, on stderr. */
  readonly err: (line: string) => void
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Calls back on SIGINT and SIGTERM, each time, until the result is called. */
  readonly onStop: (listener: (signal: 'SIGINT' | 'SIGTERM') => void) => () => void
  /** The supervisor that started this process, when there is one. */
  readonly supervisor: SupervisorLink | null
}

/** How a replica process talks with the supervisor that started it. */
export interface SupervisorLink {
  readonly report: (report: ReplicaReport) => void
  /** The supervisor's process has ended. */
  readonly onGone: (listener: () => void) => void
}

/** What a replica tells its supervisor, at the start and whenever it changes. */
export interface ReplicaReport {
  readonly kind: 'state'
  readonly replica: number
  readonly leader: number
  readonly quorum: boolean
}

/** The real process. */
export function processIo(): ServerIo {
  return {
    out: (line) => process.stdout.write(`${line}\n`),
    err: (line) => process.stderr.write(`${line}\n`),
    environment: process.env,
    onStop: (listener) => {
      const onInt = (): void => listener('SIGINT')
      const onTerm = (): void => listener('SIGTERM')
      process.on('SIGINT', onInt)
      process.on('SIGTERM', onTerm)
      return () => {
        process.off('SIGINT', onInt)
        process.off('SIGTERM', onTerm)
      }
    },
    supervisor: process.send === undefined ? null : parentLink(),
  }
}

function parentLink(): SupervisorLink {
  return {
    // A supervisor that has just ended cannot be told, and need not be.
    report: (report) => {
      if (process.connected) process.send?.(report, () => undefined)
    },
    // It may have ended before anybody listened.
    onGone: (listener) =>
      void (process.connected ? once(process, 'disconnect') : Promise.resolve()).then(() => listener()),
  }
}
