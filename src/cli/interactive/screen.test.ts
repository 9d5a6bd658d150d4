import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { FakeTerminal, turn } from '../testing.ts'
import { widthOf } from '../text.ts'
import { Screen } from './screen.ts'

function open(columns: number): { terminal: FakeTerminal; screen: Screen; lines: string[] } {
  const terminal = new FakeTerminal(columns)
  const lines: string[] = []
  const screen = new Screen(terminal, {
    line: (text) => lines.push(text),
    end: () => lines.push('(end)'),
    complete: (line) => Promise.resolve([line === '/he' ? ['/help '] : [], line]),
  })
  screen.show([], '> ')
  return { terminal, screen, lines }
}

const left = '\u001B[D'
const home = '\u0001'

/** Rows that a text takes on a screen of so many columns. */
function wrap(text: string, columns: number): string[] {
  const rows: string[] = []
  for (const line of text.split('\n')) {
    let row = ''
    for (const character of line) {
      if (widthOf(row) + widthOf(character) > columns) {
        rows.push(row)
        row = ''
      }
      row += character
    }
    rows.push(row)
  }
  return rows.map((row) => row.trimEnd())
}

test('what comes in is written above the line that is being typed', async () => {
  const { terminal, screen } = open(40)
  await terminal.type('half a sent')
  screen.print('bob: hi')
  await turn()
  await terminal.type('ence')
  assert.deepEqual(terminal.rows, ['bob: hi', '> half a sentence'])
})

test('a line of several rows with the cursor in its middle stays whole', async () => {
  const { terminal, screen, lines } = open(20)
  const text = 'a line that is so long that it wraps over several rows'
  // All at once, as a paste comes.
  await terminal.type(text)
  await terminal.type(left.repeat(30))
  const before = terminal.cursor
  screen.print('bob: this message wraps over two rows')
  await turn()
  const incoming = wrap('bob: this message wraps over two rows', 20)
  assert.deepEqual(terminal.rows, [...incoming, ...wrap(`> ${text}`, 20)])
  assert.deepEqual(terminal.cursor, [before[0] + incoming.length, before[1]])
  await terminal.type('XX')
  screen.print('carol: and again')
  await terminal.type('\r')
  const whole = `${text.slice(0, -30)}XX${text.slice(-30)}`
  assert.deepEqual(lines, [whole])
  assert.deepEqual(terminal.rows, [...incoming, 'carol: and again', '>'])
})

test('an entered line leaves nothing behind', async () => {
  const { terminal, screen, lines } = open(20)
  await terminal.type(`a line that takes more than one row${left.repeat(25)}`)
  await terminal.type('\r')
  screen.print('ann: a line that takes more than one row')
  await turn()
  assert.deepEqual(lines, ['a line that takes more than one row'])
  assert.deepEqual(terminal.rows, [...wrap('ann: a line that takes more than one row', 20), '>'])
})

test('lines that wait are shown above the prompt and replaced there', async () => {
  const { terminal, screen } = open(30)
  await terminal.type('typing')
  screen.show(['… bob  you: one', '… bob  you: two'], 'bob> ')
  await turn()
  assert.deepEqual(terminal.rows, ['… bob  you: one', '… bob  you: two', 'bob> typing'])
  screen.print('bob/1 you: one ✓')
  screen.show(['… bob  you: two'], 'bob> ')
  await turn()
  await terminal.type(' on')
  assert.deepEqual(terminal.rows, ['bob/1 you: one ✓', '… bob  you: two', 'bob> typing on'])
})

test('pasted lines are entered one after the other', async () => {
  const { terminal, lines } = open(20)
  await terminal.type('one\rtwo which is longer than a row\rthree')
  assert.deepEqual(lines, ['one', 'two which is longer than a row'])
  assert.deepEqual(terminal.rows, ['> three'])
})

test('a command is completed, and the line goes on', async () => {
  const { terminal, lines } = open(40)
  await terminal.type('/he\t')
  await terminal.type('me\r')
  assert.deepEqual(lines, ['/help me'])
})

test('Ctrl-C and the end of input end it; closing removes what was being typed', async () => {
  const { terminal, screen, lines } = open(20)
  screen.print('bob: hi')
  await terminal.type('half a line that wraps over rows')
  await terminal.type('\u0003')
  assert.deepEqual(lines, ['(end)'])
  screen.close()
  assert.deepEqual(terminal.rows, ['bob: hi'])
  const other = open(20)
  other.terminal.input.end()
  await turn()
  assert.deepEqual(other.lines, ['(end)'])
})

test('Ctrl-Z stops the job with the terminal as it was before; then the line goes on below what the shell wrote', async () => {
  const { terminal, screen, lines } = open(30)
  await terminal.type(`half a line${left}`)
  await terminal.type('\u001A')
  assert.deepEqual([terminal.isRaw, terminal.goOn === null], [false, false])
  terminal.output.write('\nStopped\n$ fg\n')
  terminal.goOn?.()
  await turn()
  assert.equal(terminal.isRaw, true)
  assert.deepEqual(terminal.rows, ['> half a line', 'Stopped', '$ fg', '> half a line'])
  await terminal.type('X\r')
  assert.deepEqual(lines, ['half a linXe'])
  screen.close()
})

test('a terminal that is gone, or cannot be read, ends it; a line that was being typed is not entered', async () => {
  const closed = open(20)
  await closed.terminal.type('half a line')
  await closed.terminal.hangUp()
  // Until all is done that is to be done at the end.
  closed.screen.print('bob: hi')
  closed.screen.show(['… bob  you: one'], 'bob> ')
  closed.screen.close()
  assert.deepEqual(closed.lines, ['(end)'])
  const broken = open(20)
  broken.terminal.input.destroy(new Error('read EIO'))
  await turn()
  broken.screen.close()
  assert.deepEqual(broken.lines, ['(end)'])
})

test('whatever is typed and whatever comes in: the screen shows all that came in, then the line', async () => {
  const letters = fc.constantFrom(
    'a',
    'b c',
    'long word ',
    'é',
    '你',
    '👍',
    left,
    left + left,
    home,
    '\u0005',
    '\u007F',
  )
  const incoming = fc.constantFrom(
    'hi',
    'a message that wraps over the edge',
    '你好你好你好你好你好你好',
    'two\nlines',
  )
  const step = fc.oneof(
    { weight: 4, arbitrary: letters.map((keys) => ({ keys, text: null })) },
    { weight: 1, arbitrary: incoming.map((text) => ({ keys: null, text })) },
  )
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 40 }),
      fc.integer({ min: 12, max: 30 }),
      async (steps, columns) => {
        const { terminal, screen, lines } = open(columns)
        await turn()
        const printed: string[] = []
        for (const { keys, text } of steps) {
          if (keys !== null) await terminal.type(keys)
          if (text !== null) {
            screen.print(text)
            printed.push(...wrap(text, columns))
            await turn()
          }
        }
        const shown = terminal.rows
        assert.deepEqual(shown.slice(0, printed.length), printed)
        await terminal.type('\r')
        // Wide characters that do not fit at the end of a row leave a blank there.
        assert.deepEqual(
          shown.slice(printed.length),
          wrap(`> ${lines[0] ?? ''}`, columns).filter((row, i) => row !== '' || i === 0),
        )
        assert.deepEqual(terminal.rows, [...printed, '>'])
        screen.close()
      },
    ),
    { numRuns: 100 },
  )
})
