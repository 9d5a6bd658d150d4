import { createInterface, type Interface } from 'node:readline'
import { Writable } from 'node:stream'
import type { Terminal } from '../io.ts'

export interface ScreenHandlers {
  /** A line was entered; it is no longer on the screen. */
  readonly line: (text: string) => void
  /** Ctrl-C, Ctrl-D on an empty line, or the end of input. */
  readonly end: () => void
  /** The words that may stand at the end of `line`, and the part of it that they replace. */
  readonly complete: (line: string) => Promise<readonly [candidates: readonly string[], part: string]>
}

/** What readline keeps for itself. Both are set right here, since what it believes about the screen is wrong after a paste and after other things were written. */
interface DrawnState {
  /** Rows from the top of what is drawn to the cursor: it goes up so many before it draws again. */
  prevRows: number
  /** False while the keys of a paste are taken, all but the last: then it writes them where the cursor is and draws nothing else. */
  isCompletionEnabled: boolean
}

/**
 * A terminal with two parts: what was said, which scrolls and is never touched again, and below it the live part: lines that may still change, then the prompt
 * with the line that is being typed. What comes in is written above the live part, which is drawn anew below it; the line, and the cursor in it, stay as they are.
 *
 * Node's readline edits and draws the line (editing keys, history, wide characters, lines longer than the screen). The live lines are the first lines of its prompt.
 */
export class Screen {
  private readonly readline: Interface & DrawnState
  private readonly output: Batched
  private readonly terminal: Terminal
  private readonly handlers: ScreenHandlers
  private prompt = ''
  /** The live part is on the screen. */
  private drawn = false
  /** Rows from the top of the live part to the end of the line that is about to be entered. */
  private rowsToEnd = 0
  /** Nothing is entered any more, and nothing shown: the terminal may be gone. */
  private ended = false
  private closed = false

  constructor(terminal: Terminal, handlers: ScreenHandlers) {
    this.terminal = terminal
    this.handlers = handlers
    this.output = new Batched(terminal.output)
    const readline = createInterface({
      input: terminal.input,
      output: this.output,
      terminal: true,
      historySize: 200,
      removeHistoryDuplicates: true,
      completer: (line: string, answer: (error: null, result: [string[], string]) => void) => {
        handlers.complete(line).then(
          ([candidates, part]) => answer(null, [[...candidates], part]),
          () => answer(null, [[], line]),
        )
      },
    })
    this.readline = Object.assign(readline, { prevRows: 0, isCompletionEnabled: true })
    // Before readline takes the key: once the line is entered nobody knows how many rows it had.
    terminal.input.prependListener('keypress', (_: unknown, key: { readonly name?: string } | undefined) => {
      if (key?.name !== 'return' && key?.name !== 'enter') return
      this.readline.write(null, { ctrl: true, name: 'e' })
      this.rowsToEnd = this.readline.getCursorPos().rows
    })
    terminal.input.on('keypress', () => this.typed())
    // A terminal of another width has laid out anew what it shows. Before readline, which draws again then.
    this.output.prependListener('resize', () => {
      if (this.drawn) this.readline.prevRows = this.readline.getCursorPos().rows
    })
    this.readline.on('line', (text) => this.entered(text))
    this.readline.on('SIGINT', () => this.end())
    this.readline.on('SIGTSTP', () => void this.suspend())
    this.readline.on('close', () => this.end())
    // A terminal that is gone refuses what readline asks of it, also to be as it was before.
    this.readline.on('error', () => this.end())
    // Before readline, which at the end of input takes what is being typed for entered.
    terminal.input.prependListener('end', () => this.end())
  }

  get rows(): number {
    // Some terminals do not know, and say 0.
    return this.terminal.output.rows || 24
  }

  /** Writes lines above the live part. */
  print(text: string): void {
    if (this.ended) return
    if (!this.drawn) {
      this.output.write(`${text}\n`)
      return
    }
    this.output.write(`${up(this.readline.getCursorPos().rows)}\r\u001B[J${text}\n`)
    this.readline.prevRows = 0
    this.readline.prompt(true)
  }

  /** Replaces the live lines and the prompt. */
  show(live: readonly string[], prompt: string): void {
    if (this.ended) return
    const text = [...live, prompt].join('\n')
    if (text === this.prompt && this.drawn) return
    this.prompt = text
    this.readline.setPrompt(text)
    this.readline.prompt(true)
    this.drawn = true
  }

  /** Removes the live part; nothing is written after this. */
  close(): void {
    if (this.closed) return
    if (this.drawn) this.output.write(`${up(this.readline.getCursorPos().rows)}\r\u001B[J`)
    this.ended = true
    this.closed = true
    this.readline.close()
    this.output.flush()
  }

  private typed(): void {
    if (!this.drawn || this.ended) return
    const { rows, cols } = this.readline.getCursorPos()
    // A terminal stays at the end of a row that is just full until more comes, and then would be a row above where the cursor should be.
    if (cols === 0 && rows > 0 && !this.readline.isCompletionEnabled) this.output.write(' \r')
    this.readline.prevRows = rows
  }

  private entered(text: string): void {
    if (this.ended) return
    // readline has left the line on the screen and gone to the row below it.
    this.output.write(`${up(this.rowsToEnd + 1)}\r\u001B[J`)
    this.drawn = false
    this.handlers.line(text)
    if (this.ended) return
    this.readline.prompt(true)
    this.drawn = true
  }

  /** Ctrl-Z. readline by itself would stop this process and not what started it, which has the terminal too, and would read no key after `fg`. */
  private async suspend(): Promise<void> {
    const { input } = this.terminal
    input.setRawMode?.(false)
    await this.terminal.suspend()
    if (this.ended) return
    input.setRawMode?.(true)
    if (!this.drawn) return
    // Others have written below it.
    this.readline.prevRows = 0
    this.readline.prompt(true)
  }

  private end(): void {
    if (this.ended) return
    this.ended = true
    this.handlers.end()
  }
}

function up(rows: number): string {
  return rows === 0 ? '' : `\u001B[${rows}A`
}

/** Collects what is written in one go and passes it on at once: the terminal never shows a half-drawn line. */
class Batched extends Writable {
  readonly isTTY = true
  private readonly target: Terminal['output']
  private pending = ''

  constructor(target: Terminal['output']) {
    super({ decodeStrings: false })
    this.target = target
    target.on('resize', () => this.emit('resize'))
  }

  get columns(): number {
    return this.target.columns ?? 80
  }

  flush(): void {
    const text = this.pending
    this.pending = ''
    if (text !== '') this.target.write(text)
  }

  override _write(chunk: string | Uint8Array, _: string, done: () => void): void {
    if (this.pending === '') queueMicrotask(() => this.flush())
    this.pending += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('utf8')
    done()
  }
}
