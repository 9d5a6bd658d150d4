import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Of this program. */
export const version = versionOf(join(import.meta.dirname, '../../package.json'))

function versionOf(path: string): string {
  const value: unknown = JSON.parse(readFileSync(path, 'utf8'))
  return typeof value === 'object' && value !== null && 'version' in value ? String(value.version) : ''
}
