// For the tests of this folder: a terminal that can be looked at, and a process that is none.
import { PassThrough, Writable } from 'node:stream'
import { createClient, type ClientOptions } from '../client/index.ts'
import type { FakeNetwork } from '../client/testing.ts'
import type { Io, Terminal } from './io.ts'
import { widthOf } from './text.ts'

/** What a terminal shows after all that was written to it: enough of a VT100 for what the interactive client writes. */
export class FakeTerminal implements Terminal {
  readonly input: PassThrough & { isTTY: boolean; setRawMode: (on: boolean) => unknown }
  readonly output: Writable & { columns: number; isTTY: boolean }
  isRaw = false
  /** Lets the job go on, as `fg` does; null while it is not stopped. */
  goOn: (() => void) | null = null
  /** Rows from the first one ever written; nothing scrolls away. */
  private cells: string[][] = [[]]
  private row = 0
  private column = 0

  constructor(columns: number) {
    this.input = Object.assign(new PassThrough(), {
      isTTY: true,
      setRawMode: (isRaw: boolean) => (this.isRaw = isRaw),
    })
    this.output = Object.assign(
      new Writable({
        decodeStrings: false,
        write: (chunk: string | Uint8Array, _, done) => {
          this.write(typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('utf8'))
          done()
        },
      }),
      { columns, isTTY: true },
    )
  }

  /** The rows as they are seen, without blanks at their ends. */
  get rows(): readonly string[] {
    const rows = this.cells.map((row) =>
      Array.from(row, (cell) => cell ?? ' ')
        .join('')
        .trimEnd(),
    )
    while (rows.at(-1) === '') rows.pop()
    return rows
  }

  get cursor(): readonly [row: number, column: number] {
    return [this.row, Math.min(this.column, this.output.columns - 1)]
  }

  /** Types keys, and lets what they cause happen. */
  async type(keys: string): Promise<void> {
    this.input.write(keys)
    await turn()
  }

  /** The window is closed: what is asked of its input fails as Node's does then, and nothing comes any more. */
  async hangUp(): Promise<void> {
    this.input.setRawMode = () => this.input.emit('error', new Error('setRawMode EIO'))
    this.input.end()
    await turn()
  }

  async suspend(): Promise<void> {
    await new Promise<void>((resolve) => (this.goOn = resolve))
    this.goOn = null
  }

  private write(text: string): void {
    const columns = this.output.columns
    // Escape becomes a character that nothing else is written with, since no expression may hold a control character.
    for (const [, sequence, character] of text
      .replaceAll('\u001B', '\uE000')
      .matchAll(/\uE000\[([0-9;]*[A-Za-z])|([\s\S])/gu)) {
      if (sequence !== undefined) this.control(sequence)
      else if (character === '\r') this.column = 0
      else if (character === '\n') {
        // As a terminal in raw mode that still turns a line feed into a new line.
        this.row += 1
        this.column = 0
      } else if (character !== undefined) {
        const width = widthOf(character)
        if (this.column + width > columns) {
          this.row += 1
          this.column = 0
        }
        const row = (this.cells[this.row] ??= [])
        row[this.column] = character
        if (width === 2) row[this.column + 1] = ''
        this.column += width
      }
      while (this.cells.length <= this.row) this.cells.push([])
    }
  }

  private control(sequence: string): void {
    const count = Number.parseInt(sequence, 10)
    const by = Number.isNaN(count) ? 1 : count
    const columns = this.output.columns
    switch (sequence.at(-1)) {
      case 'A':
        if (by > this.row) throw new Error('the cursor would leave the screen')
        this.row -= by
        break
      case 'B':
        this.row += by
        break
      case 'C':
        this.column = Math.min(columns - 1, this.column + by)
        break
      case 'D':
        this.column = Math.max(0, Math.min(this.column, columns - 1) - by)
        break
      case 'G':
        this.column = by - 1
        break
      case 'J':
        this.cells = this.cells.slice(0, this.row + 1)
        this.cells[this.row]?.splice(Math.min(this.column, columns - 1))
        break
      case 'K':
        this.cells[this.row]?.splice(Math.min(this.column, columns - 1))
        break
      case 'm':
        break
      default:
        throw new Error(`the terminal does not know ${JSON.stringify(sequence)}`)
    }
  }
}

/** Lets everything that is ready happen. */
export async function turn(): Promise<void> {
  for (let i = 0; i < 3; i += 1)
    await new Promise<void>((resolve) => {
      setImmediate(resolve)
    })
}

/** A process for verbs: what it printed, and the files that it has. */
export class FakeProcess {
  readonly outLines: string[] = []
  readonly errLines: string[] = []
  readonly files = new Map<string, string>()
  readonly environment: Record<string, string | undefined> = { HOME: '/home/ann' }
  /** Answers to questions, in order. */
  readonly answers: string[] = []
  readonly asked: string[] = []
  input = ''
  canAsk = false
  /** For the interactive client. */
  terminalShown: FakeTerminal | null = null
  private readonly network: FakeNetwork | null
  /** Asks the process to stop. */
  readonly stop: () => void
  private readonly stopped: Promise<void>

  /** @param network null: the real one, in real time. */
  constructor(network: FakeNetwork | null) {
    this.network = network
    const { promise, resolve } = Promise.withResolvers<void>()
    this.stopped = promise
    this.stop = resolve
  }

  /** As the process is now: whether somebody can be asked may change between runs. */
  get io(): Io {
    const { network, canAsk } = this
    const answer = (question: string): Promise<string> => {
      this.asked.push(question)
      return Promise.resolve(this.answers.shift() ?? '')
    }
    return {
      out: (text) => this.outLines.push(text),
      drained: () => Promise.resolve(true),
      err: (text) => this.errLines.push(text),
      environment: this.environment,
      canAsk,
      isTerminal: canAsk,
      color: false,
      columns: () => this.terminalShown?.output.columns ?? 80,
      ask: answer,
      askSecret: answer,
      readInput: () => Promise.resolve(this.input),
      files: {
        read: (path) => this.files.get(path) ?? null,
        writePrivate: (path, text) => void this.files.set(path, text),
        remove: (path) => void this.files.delete(path),
      },
      createClient: (options: ClientOptions) =>
        createClient(
          network === null ? options : { ...options, clock: network.clock, connect: network.connect },
        ),
      nowMs: () => (network === null ? Date.now() : network.clock.wallMs()),
      device: 'test',
      after(delayMs, callback) {
        if (network !== null) return network.clock.after(delayMs, callback)
        const timer = setTimeout(callback, delayMs)
        return () => clearTimeout(timer)
      },
      stopped: this.stopped,
      server: () => {
        throw new Error('this test has no server')
      },
      terminal: () => {
        if (this.terminalShown === null) throw new Error('this test has no terminal')
        return this.terminalShown
      },
    }
  }
}

/** Lets virtual time pass until the promise is settled. */
export async function finish<T>(network: FakeNetwork, promise: Promise<T>): Promise<T> {
  const done = promise.then(
    () => true,
    // What goes wrong is reported by whoever awaits the result.
    () => true,
  )
  for (let i = 0; i < 10_000; i += 1)
    if (await Promise.race([done, network.clock.pass(10).then(() => false)])) break
  return promise
}
