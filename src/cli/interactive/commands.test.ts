import assert from 'node:assert/strict'
import { test } from 'node:test'
import { paint, widthOf } from '../text.ts'
import { commandNames, helpLines } from './commands.ts'

const words = (lines: readonly string[]): string => lines.join(' ').replaceAll(/ +/g, ' ')

test('the help fits terminals from 40 columns on without a broken word', () => {
  const wide = helpLines(200, paint(false))
  for (let columns = 40; columns <= 200; columns += 1) {
    const lines = helpLines(columns, paint(false))
    for (const line of lines) assert.ok(widthOf(line) <= columns, `${columns}: ${line}`)
    assert.equal(words(lines), words(wide))
  }
  for (const name of commandNames()) assert.match(wide.join('\n'), new RegExp(`^/${name}\\b`, 'm'))
})
