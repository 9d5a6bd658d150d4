import { stripVTControlCharacters } from 'node:util'
import { UsageError } from './io.ts'

/**
 * Text of others, made safe for a terminal: control characters, and those that reorder text, are shown as what they are and do nothing.
 * Line ends stay when `lines` is set.
 */
export function printable(text: string, lines = false): string {
  return text.replaceAll(
    // oxlint-disable-next-line no-control-regex
    /[\u0000-\u001F\u007F-\u009F\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069\u2028\u2029\uFEFF]/g,
    (character) => {
      const code = character.codePointAt(0) ?? 0
      if (character === '\n') return lines ? '\n' : '⏎'
      if (character === '\t') return ' '
      if (code < 0x20) return String.fromCodePoint(0x2400 + code)
      if (code === 0x7f) return '␡'
      return `\\u${code.toString(16).padStart(4, '0')}`
    },
  )
}

/** JSON that does nothing to a terminal either. */
export function safeJson(value: unknown): string {
  return safeJsonText(JSON.stringify(value))
}

/** The same of what is JSON already. */
export function safeJsonText(json: string): string {
  return json.replaceAll(
    /[\u007F-\u009F\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069\u2028\u2029\uFEFF]/g,
    (character) => `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`,
  )
}

/** Columns that the text takes in a terminal. */
export function widthOf(text: string): number {
  let width = 0
  for (const { segment } of graphemes.segment(stripVTControlCharacters(text))) width += graphemeWidth(segment)
  return width
}

const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' })
const wide =
  /^[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}\u3000-\u303E\uFF01-\uFF60\uFFE0-\uFFE6]|\uFE0F/u
const nothing = /^[\p{Mn}\p{Me}\p{Cf}]/u

function graphemeWidth(segment: string): number {
  if (nothing.test(segment)) return 0
  return wide.test(segment) ? 2 : 1
}

/** Rows that the text takes in a terminal of so many columns, where no wide character is moved to the next row. */
export function rowsOf(text: string, columns: number): number {
  let rows = 0
  for (const line of text.split('\n')) rows += Math.max(1, Math.ceil(widthOf(line) / columns))
  return rows
}

/** The text, or when it takes more than one row of so many columns its beginning, with … behind it. */
export function oneRow(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text
  let kept = ''
  let width = 1
  for (const { segment } of graphemes.segment(text)) {
    width += graphemeWidth(segment)
    if (width > columns) break
    kept += segment
  }
  return `${kept}…`
}

/** Columns side by side, each as wide as its widest cell; the last one is not padded. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = []
  for (const row of rows)
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, widthOf(cell))
  return rows.map((row) =>
    row
      .map((cell, i) => (i === row.length - 1 ? cell : cell + ' '.repeat((widths[i] ?? 0) - widthOf(cell))))
      .join('  ')
      .trimEnd(),
  )
}

/** As {@link table}, without those of the columns in `dispensable` (the first of them first) that make it too wide. */
export function tableWithin(
  columns: number,
  rows: readonly (readonly string[])[],
  dispensable: readonly number[],
): string[] {
  for (let count = 0; ; count += 1) {
    const without = dispensable.slice(0, count)
    const lines = table(rows.map((row) => row.filter((_, i) => !without.includes(i))))
    if (count === dispensable.length || lines.every((line) => widthOf(line) <= columns)) return lines
  }
}

/** Lines of at most so many columns, the first of `firstColumns`, broken between words; a word that is longer stays whole. */
export function wrapWords(text: string, columns: number, firstColumns = columns): string[] {
  if (widthOf(text) <= firstColumns) return [text]
  const lines: string[] = []
  let line = ''
  for (const [piece] of text.matchAll(words)) {
    const room = lines.length === 0 ? firstColumns : columns
    const word = piece.trimStart()
    // At the beginning of a line that is as long as the next one nothing is won by going there.
    const isBetterBelow = line !== '' || (room < columns && widthOf(word) <= columns)
    if (isBetterBelow && widthOf(line + piece) > room) {
      lines.push(line)
      line = word
    } else line += piece
  }
  return [...lines, line]
}

/** A word with the blanks before it. Scripts without blanks are broken between their signs, but not before a mark or after an opening bracket. */
const words =
  / *(?:\p{Ps}*[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}][^\p{L}\p{N}\p{Ps}\p{Cc} ]*|(?:(?![\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}])[^ ])+)/gu

/** So far is indented what stands below a head that is too wide to indent by. */
const smallIndent = 4

/**
 * `head` and `text`, in lines of at most so many columns. Lines after the first stand under the beginning of the text, unless that would leave them less than half of
 * the columns, or nobody reads them in a terminal (`columns` is Infinity).
 */
export function hang(head: string, text: string, columns: number): string {
  const headColumns = widthOf(head)
  const indent = columns !== Infinity && 2 * headColumns <= columns ? headColumns : smallIndent
  const room = columns - indent
  const lines = text
    .split('\n')
    .flatMap((line, i) => wrapWords(line, room, i === 0 ? columns - headColumns : room))
  return head + lines.join(`\n${' '.repeat(indent)}`)
}

/** `1 new message`, `2 new messages`. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`
}

/** `14:03` for today, else `2026-01-31 14:03`, in local time. */
export function clockTime(atMs: number, nowMs: number): string {
  const at = new Date(atMs)
  const two = (value: number): string => String(value).padStart(2, '0')
  const day = (date: Date): string =>
    `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  const time = `${two(at.getHours())}:${two(at.getMinutes())}`
  return day(at) === day(new Date(nowMs)) ? time : `${day(at)} ${time}`
}

/** How it is said in the terminal; plain when there are no colors. */
export interface Paint {
  readonly dim: (text: string) => string
  readonly bold: (text: string) => string
  readonly red: (text: string) => string
  readonly green: (text: string) => string
  readonly yellow: (text: string) => string
  readonly cyan: (text: string) => string
}

export function paint(color: boolean): Paint {
  const style =
    (on: number, off: number) =>
    (text: string): string =>
      color ? `\u001B[${on}m${text}\u001B[${off}m` : text
  return {
    dim: style(2, 22),
    bold: style(1, 22),
    red: style(31, 39),
    green: style(32, 39),
    yellow: style(33, 39),
    cyan: style(36, 39),
  }
}

/** The names of `among` that `word` may have been meant to be: those a few typing errors away. */
export function closest(word: string, among: readonly string[]): string | null {
  let best: string | null = null
  let bestDistance = Math.ceil(word.length / 3) + 1
  for (const name of among) {
    const distance = editDistance(word.toLowerCase(), name)
    if (distance >= bestDistance) continue
    best = name
    bestDistance = distance
  }
  return best
}

/** Insertions, deletions, replacements and swaps of neighbours. */
function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)]
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const above = rows[i - 1] ?? []
      const swapped =
        i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
          ? (rows[i - 2]?.[j - 2] ?? 0) + 1
          : Infinity
      row.push(
        Math.min(
          (above[j] ?? 0) + 1,
          (row[j - 1] ?? 0) + 1,
          (above[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
          swapped,
        ),
      )
    }
    rows.push(row)
  }
  return rows[a.length]?.[b.length] ?? 0
}

/** `1.5 MiB`. */
export function byteWords(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`
  const units = ['KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = -1
  do {
    value /= 1024
    unit += 1
  } while (value >= 1024 && unit < units.length - 1)
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`
}

const secondsOf: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }

/**
 * Seconds: `3600`, `60m`, `12h`, `30d`; `forever` and `0` are 0.
 *
 * @throws UsageError
 */
export function parseDuration(text: string): number {
  if (text === 'forever') return 0
  const [, digits, unit = 's'] = /^([0-9]{1,12})([smhd])?$/.exec(text) ?? []
  if (digits === undefined)
    throw new UsageError(
      `a time is a number of seconds, or one like 60m, 12h or 30d, or "forever"; not "${text}"`,
    )
  return Number(digits) * (secondsOf[unit] ?? 1)
}

const durationUnits: readonly (readonly [seconds: number, name: string])[] = [
  [86_400, 'day'],
  [3600, 'hour'],
  [60, 'minute'],
  [1, 'second'],
]

/** `30 days`, `90 minutes`: in the largest unit that says it exactly. */
export function durationWords(seconds: number): string {
  const [size, name] = durationUnits.find(([unit]) => seconds % unit === 0) ?? [1, 'second']
  return plural(seconds / size, name)
}
