// Runs the tests: `npm test` (all but *.long.test.ts), `npm run test:long` (those), or the files named as arguments.
import { globSync } from 'node:fs'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'

const arguments_ = process.argv.slice(2)
const long = arguments_.includes('--long')
const named = arguments_.filter((argument) => argument !== '--long')
/** First, so that at the end neither is left to run alone while a processor is idle. */
const longest = ['test/web.test.ts', 'src/sim/simulate.test.ts']
const files =
  named.length > 0
    ? named
    : globSync(['test/**/*.test.ts', 'src/**/*.test.ts'])
        .filter((file) => file.endsWith('.long.test.ts') === long)
        .sort((a, b) => Number(longest.includes(b)) - Number(longest.includes(a)) || (a < b ? 1 : -1))

/** More than processors, since tests of whole clusters also wait. */
const concurrency = 3

// Both only keep what hangs from hanging for ever.
const testMs = long ? 900_000 : 480_000
const allMs = long ? 3_000_000 : 1_500_000
run({ files, concurrency, timeout: testMs, signal: AbortSignal.timeout(allMs) })
  .on('test:fail', () => {
    process.exitCode = 1
  })
  .compose(new spec())
  .pipe(process.stdout)
