import { runCli } from './program.ts'
import { processIo } from './process-io.ts'

const code = await runCli(process.argv.slice(2), processIo(), async (context) => {
  const { runInteractive } = await import('./interactive/run.ts')
  return runInteractive(context)
})
// What is still open (a connection that says goodbye, an unanswered prompt) must not hold up the shell.
process.exit(code)
