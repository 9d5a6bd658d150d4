import { execFile } from 'node:child_process'
import { accessSync, constants, existsSync, globSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'

import { ServerError } from './problems.ts'

const root = resolve(import.meta.dirname, '../..')
const built = join(root, 'dist', 'web', 'index.html')
const buildingLine = 'Building the web app (a second or two).'
const sources = [
  'src/web/**/*',
  'src/client/**/*',
  'src/base/**/*',
  'src/gen/**/*',
  'vite.config.ts',
  'package-lock.json',
]

/**
 * Builds the web app when it is missing or older than its sources.
 *
 * @param tell is called before the build begins, since it takes a second or two.
 * @throws whatever the build fails with; the replicas serve without a web app then.
 */
export async function buildWebApp(tell: (line: string) => void): Promise<void> {
  if (!isStale()) return
  checkMayBuild()
  tell(buildingLine)
  const { build } = await import('vite')
  await build({ root: join(root, 'src', 'web'), configFile: join(root, 'vite.config.ts'), logLevel: 'warn' })
}

/** The same in a process of its own, for one that goes on as a replica: what the build needs in memory is not given back. */
export async function buildWebAppApart(tell: (line: string) => void): Promise<void> {
  if (!isStale()) return
  checkMayBuild()
  tell(buildingLine)
  const code = `const { buildWebApp } = await import(${JSON.stringify(import.meta.url)}); await buildWebApp(() => {})`
  await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', code])
}

/** A replica that runs as a user of its own should not be able to. @throws ServerError with the way out. */
function checkMayBuild(): void {
  try {
    accessSync(root, constants.W_OK)
  } catch (error) {
    throw new ServerError(`this user may not write ${root}; its owner may: npm run build:web`, {
      cause: error,
    })
  }
}

function isStale(): boolean {
  if (!existsSync(built)) return true
  const builtAtMs = statSync(built).mtimeMs
  return sources.some((pattern) =>
    globSync(pattern, { cwd: root }).some((path) => {
      const file = statSync(join(root, path))
      return file.isFile() && file.mtimeMs > builtAtMs
    }),
  )
}
