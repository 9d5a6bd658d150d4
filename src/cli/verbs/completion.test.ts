import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { globalOptions, verbs } from '../program.ts'
import { completionScript } from './completion.ts'

const words = { verbs, globalOptions }

test('the scripts name every verb and every flag', () => {
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    const script = completionScript(shell, words)
    for (const { name, options } of verbs) {
      for (const word of name.split(' ')) assert.ok(script.includes(word), `${shell}: ${word}`)
      for (const [flags] of options)
        for (const flag of flags.match(/--[a-z-]+/g) ?? [])
          assert.ok(script.includes(shell === 'fish' ? `-l ${flag.slice(2)}` : flag), `${shell}: ${flag}`)
    }
  }
})

function completeInBash(...line: readonly string[]): string[] {
  const asked = [
    completionScript('bash', words),
    `COMP_WORDS=(${line.map((word) => `'${word}'`).join(' ')})`,
    `COMP_CWORD=${line.length - 1}`,
    // The function that bash calls for the first word.
    `[[ "$(complete -p '${line[0]}')" =~ -F\\ ([^ ]+) ]] && "\${BASH_REMATCH[1]}"`,
    'printf "%s\\n" "${COMPREPLY[@]}"',
  ].join('\n')
  const { stdout, stderr, error } = spawnSync('bash', ['-c', asked], { encoding: 'utf8' })
  assert.deepEqual([error, stderr], [undefined, ''])
  return stdout.trim().split('\n').sort()
}

test('bash completes verbs, second words and flags', () => {
  assert.deepEqual(completeInBash('parley', 'se'), ['search', 'send', 'serve', 'sessions'])
  assert.deepEqual(completeInBash('parley', 'rooms', 'c'), ['create'])
  assert.deepEqual(completeInBash('parley', 'rooms', 'create', '--t'), ['--timeout', '--topic'])
  assert.deepEqual(completeInBash('parley', '--json', 'delete', '--for'), ['--for-all'])
  assert.deepEqual(completeInBash('parley', 'completion', 'z'), ['zsh'])
  assert.deepEqual(completeInBash('parley', 'send', 'b'), [''])
})

test('bash completes what stands behind npx parley, and nothing else behind npx', () => {
  assert.deepEqual(completeInBash('npx', 'parley', 'rooms', 'c'), ['create'])
  assert.deepEqual(completeInBash('npx', 'parley', 'rooms', 'create', '--t'), ['--timeout', '--topic'])
  assert.deepEqual(completeInBash('npx', 'prettier', '--t'), [''])
  assert.deepEqual(completeInBash('npx', 'p'), [''])
})
