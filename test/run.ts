// Runs the tests: `npm test` (all but *.long.test.ts), `npm run test:long` (those), or the files named as arguments.
import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'

const arguments_ = process.argv.slice(2)
const long = arguments_.includes('--long')
const named = arguments_.filter((argument) => argument !== '--long')
const files =
  named.length > 0
    ? named
    : [...globSync('src/**/*.test.ts'), ...globSync('test/**/*.test.ts')]
        .filter((file) => file.endsWith('.long.test.ts') === long)
        .sort()

// Only keeps a test that hangs from hanging for ever.
const timeoutMs = long ? 900_000 : 480_000
const result = spawnSync(
  process.execPath,
  ['--test', '--test-concurrency=2', `--test-timeout=${timeoutMs}`, ...files],
  { stdio: 'inherit' },
)
process.exit(result.status ?? 1)
