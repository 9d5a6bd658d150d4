// Runs a TypeScript file of this repository on the pinned Node, or on any Node 24 or newer: `node bin/run.js FILE [arguments]`.
// Plain JavaScript that Node 20 understands, since this is what an older Node meets first.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import module from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** Runs `file` (a path below the repository) in this process, or in the pinned Node when this one is too old. */
export async function run(file, args) {
  if (Number(process.versions.node.split('.')[0]) >= 24) {
    process.argv = [process.argv[0], join(root, file), ...args]
    process.removeAllListeners('warning')
    // Starting takes a fifth of the time, and less memory, when the sources need not be stripped of their types and compiled again.
    const cache = join(root, 'node_modules', '.cache', 'parley')
    module.enableCompileCache?.(cache)
    // For the threads that are started later.
    process.env.NODE_COMPILE_CACHE ??= cache
    try {
      await import(pathToFileURL(join(root, file)).href)
    } catch (error) {
      // An option that nobody knows: where in the code that was found helps nobody.
      if (!String(error?.code).startsWith('ERR_PARSE_ARGS')) throw error
      console.error(error.message)
      process.exitCode = 2
    }
    return
  }
  const pinned = join(root, 'node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
  if (!existsSync(pinned)) {
    console.error(
      `Parley needs Node 24 or newer; this is ${process.version} and the pinned one is not installed. Run "npm ci" here, or install Node 24 or newer.`,
    )
    process.exit(1)
  }
  const child = spawn(pinned, [join(root, 'bin', 'run.js'), file, ...args], { stdio: 'inherit' })
  // Whoever stops this process means that one, which decides how it ends. A terminal sends its signals to both by itself.
  process.on('SIGTERM', () => child.kill('SIGTERM'))
  for (const signal of ['SIGINT', 'SIGHUP']) process.on(signal, () => undefined)
  const [code] = await once(child, 'exit')
  process.exit(code ?? 1)
}

if (process.argv[1] && fileURLToPath(import.meta.url) === process.argv[1])
  await run(process.argv[2], process.argv.slice(3))
