import type { Client, ClientOptions } from '../client/index.ts'
import type { ServerIo } from '../server/io.ts'

/** What a verb may do with the process it runs in; tests put their own in its place. */
export interface Io {
  /** Data, on stdout; a line end is added. */
  readonly out: (text: string) => void
  /**
   * Fulfilled when what was given to `out` has been taken; with false when nobody takes any more, since whoever read it has gone.
   *
   * @throws CliError when it cannot be written.
   */
  readonly drained: () => Promise<boolean>
  /** Everything else, on stderr; a line end is added. */
  readonly err: (text: string) => void
  readonly environment: Readonly<Record<string, string | undefined>>
  /** A person sits there and can be asked. */
  readonly canAsk: boolean
  /** A person reads what is written to stdout. */
  readonly isTerminal: boolean
  readonly color: boolean
  /** Width of the terminal in columns. */
  readonly columns: () => number
  readonly ask: (question: string) => Promise<string>
  /** As `ask`, without showing what is typed. */
  readonly askSecret: (question: string) => Promise<string>
  /** All of stdin, as text. */
  readonly readInput: () => Promise<string>
  readonly files: Files
  readonly createClient: (options: ClientOptions) => Client
  readonly nowMs: () => number
  /** What the session list calls this device. */
  readonly device: string
  /** Calls `callback` once after so long; the result cancels it. */
  readonly after: (delayMs: number, callback: () => void) => () => void
  /** Resolves when the process is asked to stop: Ctrl-C, SIGTERM, or nobody takes what is printed any more. */
  readonly stopped: Promise<void>
  readonly server: () => ServerIo
  readonly terminal: () => Terminal
}

export interface Files {
  /** Null when there is no such file. */
  readonly read: (path: string) => string | null
  /** Writes a file that only its owner may read, at once or not at all. */
  readonly writePrivate: (path: string, text: string) => void
  readonly remove: (path: string) => void
}

/** What the interactive client draws on and reads from. */
export interface Terminal {
  readonly input: NodeJS.ReadableStream & {
    readonly isTTY?: boolean
    setRawMode?(isRaw: boolean): unknown
  }
  readonly output: NodeJS.WritableStream & {
    readonly columns?: number
    readonly rows?: number
    readonly isTTY?: boolean
  }
  /** Stops the job, as Ctrl-Z does: this process and what started it. Fulfilled when it goes on. */
  readonly suspend: () => Promise<void>
}

/** A command line that cannot be meant so: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** An error with its exit code; the message is for people. */
export class CliError extends Error {
  override readonly name = 'CliError'
  readonly exitCode: number

  constructor(message: string, exitCode: number = exitCodes.error) {
    super(message)
    this.exitCode = exitCode
  }
}

export const exitCodes = { ok: 0, error: 1, usage: 2, notSignedIn: 4, unavailable: 5 } as const
