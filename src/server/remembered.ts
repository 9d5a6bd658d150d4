import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parse, stringify } from 'smol-toml'
import { writeText } from '../storage/json-file.ts'
import { OptionError, serveOptions, type ServeOptions } from './options.ts'

/** In a replica's data folder; people may edit it. */
const fileName = 'serve.toml'
/** What an attempt to make a replica may leave behind. */
export const rememberedFiles = [fileName, `${fileName}.new`] as const

type Name = keyof typeof serveOptions
const names = (Object.keys(serveOptions) as Name[]).filter((name) => 'remembered' in serveOptions[name])

/** Keeps in the folder what its replica is to be started with from now on: all that is not as usual. */
export function rememberOptions(folder: string, options: Partial<ServeOptions>): void {
  const { tlsCert = '', tlsKey = '' } = options
  const files = { tlsCert: tlsCert && resolve(tlsCert), tlsKey: tlsKey && resolve(tlsKey) }
  const given: Partial<Record<Name, unknown>> = { ...options, ...files }
  const kept = names.filter((name) => given[name] !== undefined && given[name] !== serveOptions[name].default)
  const values = Object.fromEntries(kept.map((name) => [name, given[name]]))
  writeText(
    join(folder, fileName),
    `# "parley serve" starts this replica so, unless a flag or the environment says otherwise. It may be changed while the replica is stopped.\n${stringify(values)}`,
  )
}

/**
 * What the folder's replica is to be started with, by the names of `serveOptions`; nothing when the folder does not say.
 *
 * @throws OptionError when the file is no good.
 */
export function readRemembered(folder: string): Readonly<Record<string, unknown>> {
  const path = join(folder, fileName)
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : ''
    // A folder that is none is told about when the replica is opened.
    if (code === 'ENOENT' || code === 'ENOTDIR') return {}
    throw error
  }
  const values = parsed(path, text)
  const unknown = Object.keys(values).find((name) => !names.some((known) => known === name))
  if (unknown !== undefined) throw new OptionError(`${path} may say ${names.join(', ')}, and says ${unknown}`)
  return values
}

function parsed(path: string, text: string): Readonly<Record<string, unknown>> {
  try {
    return { ...parse(text) }
  } catch (error) {
    const why = error instanceof Error ? (error.message.split('\n')[0] ?? '') : ''
    throw new OptionError(`${path} is not good TOML: ${why}`)
  }
}
