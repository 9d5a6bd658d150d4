// `npm run check`: format, lint, types, dead code, generated code up to date, import table. Runs all and says which failed.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const fresh = mkdtempSync(join(tmpdir(), 'parley-generated-'))
const checks: readonly (readonly [string, string, readonly string[]])[] = [
  ['format', 'prettier', ['--check', '--log-level', 'warn', '.']],
  ['lint', 'oxlint', ['--deny-warnings']],
  ['types', 'tsc', ['-p', '.']],
  ['dead code', 'knip', []],
  ['proto lint', 'buf', ['lint']],
  ['generate', 'buf', ['generate', '-o', fresh]],
  ['generated code is up to date (npm run generate)', 'diff', ['-r', join(fresh, 'src/gen'), 'src/gen']],
  ['import table', process.execPath, ['--test', '--test-reporter=dot', 'test/tidy.test.ts']],
]
const failed: string[] = []
for (const [name, command, parameters] of checks) {
  const result = spawnSync(command, parameters, { encoding: 'utf8' })
  const good = result.status === 0
  console.log(`${good ? 'ok    ' : 'FAILED'}  ${name}`)
  if (good) continue
  failed.push(name)
  console.log((result.stdout ?? '') + (result.stderr ?? '') + (result.error?.message ?? ''))
}
rmSync(fresh, { recursive: true })
process.exitCode = failed.length === 0 ? 0 : 1
