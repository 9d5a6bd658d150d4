import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { shellWord } from './shell-word.ts'

test('a shell takes any text for one word, and an ordinary path is left as it is', () => {
  assert.equal(shellWord('/var/lib/parley-2/r1'), '/var/lib/parley-2/r1')
  for (const text of ['two words', "it's", '', '$HOME', 'a;b', '*', '~/x', 'Köln', 'a\nb'])
    assert.equal(execFileSync('sh', ['-c', `printf %s ${shellWord(text)}`], { encoding: 'utf8' }), text)
})
