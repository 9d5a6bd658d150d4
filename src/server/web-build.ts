import { existsSync, globSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')
const built = join(root, 'dist', 'web', 'index.html')
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
  tell('Building the web app (a second or two).')
  const { build } = await import('vite')
  await build({ root: join(root, 'src', 'web'), configFile: join(root, 'vite.config.ts'), logLevel: 'warn' })
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
