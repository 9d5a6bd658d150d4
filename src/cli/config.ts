import { homedir } from 'node:os'
import { join } from 'node:path'
import { parse } from 'smol-toml'
import { formatServerAddress, parseServerAddress } from '../client/index.ts'
import { CliError, type Files, UsageError } from './io.ts'

/** What every verb needs to know, from flags, environment and configuration file, the strongest first. */
export interface Settings {
  readonly profile: string
  /** Addresses of replicas, in the forms of the client library. */
  readonly servers: readonly string[]
  readonly timeoutMs: number
  /** Somebody has said so: then it holds also for what takes longer than other things do. */
  readonly isTimeoutGiven: boolean
  readonly json: boolean
  /** The interactive client signs out when it ends. */
  readonly logOut: boolean
  /** The `up` and `serve` tables of the configuration file. */
  readonly file: Readonly<Record<string, unknown>>
  readonly configPath: string
  /** Where the session of the profile is kept. */
  readonly statePath: string
}

/** The flags that every verb has. */
export interface GlobalFlags {
  readonly server?: string
  readonly profile?: string
  readonly timeout?: string
  readonly json?: boolean
  readonly logOut?: boolean
}

export const defaultServers = [0, 1, 2, 3, 4].map((i) => `localhost:${7400 + i}`)
const defaultTimeoutS = 10

/**
 * @throws UsageError for flags and environment, CliError for the file, each naming what is wrong.
 */
export function readSettings(
  flags: GlobalFlags,
  environment: Readonly<Record<string, string | undefined>>,
  files: Files,
): Settings {
  const configPath = join(folder(environment, 'XDG_CONFIG_HOME', '.config'), 'parley', 'config.toml')
  const file = readConfig(configPath, files)
  const profile =
    flags.profile ?? given(environment, 'PARLEY_PROFILE') ?? textOf(file['profile']) ?? 'default'
  // The name becomes a file's name.
  if (!/^[A-Za-z0-9_-]{1,50}$/.test(profile))
    throw new UsageError(`a profile's name is 1 to 50 letters, digits, _ and -, not "${profile}"`)
  const profiles = tableOf(file['profiles'], configPath, 'profiles')
  const own = tableOf(profiles[profile], configPath, `profiles.${profile}`)
  const timeout = flags.timeout ?? given(environment, 'PARLEY_TIMEOUT') ?? own['timeout']
  const servers = flags.server ?? given(environment, 'PARLEY_SERVER')
  return {
    profile,
    servers: servers === undefined ? serversOf(own['servers'], configPath, profile) : splitServers(servers),
    timeoutMs: timeoutOf(timeout),
    isTimeoutGiven: timeout !== undefined,
    json: flags.json ?? false,
    logOut: flags.logOut ?? false,
    file,
    configPath,
    statePath: join(folder(environment, 'XDG_STATE_HOME', '.local/state'), 'parley', `${profile}.json`),
  }
}

function readConfig(path: string, files: Files): Readonly<Record<string, unknown>> {
  const text = files.read(path)
  if (text === null) return {}
  try {
    return parse(text)
  } catch (error) {
    const why = error instanceof Error ? (error.message.split('\n')[0] ?? '') : ''
    throw new CliError(`${path} is not good TOML: ${why}`)
  }
}

function folder(
  environment: Readonly<Record<string, string | undefined>>,
  variable: string,
  fallback: string,
): string {
  return given(environment, variable) ?? join(given(environment, 'HOME') ?? homedir(), fallback)
}

function given(environment: Readonly<Record<string, string | undefined>>, name: string): string | undefined {
  const value = environment[name]
  return value === '' ? undefined : value
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function tableOf(value: unknown, path: string, name: string): Readonly<Record<string, unknown>> {
  if (value === undefined) return {}
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value }
  throw new CliError(`${path}: ${name} must be a table`)
}

function splitServers(text: string): readonly string[] {
  return text.split(',').map((server) => checkServer(server.trim()))
}

function serversOf(value: unknown, path: string, profile: string): readonly string[] {
  if (value === undefined) return defaultServers
  const list: unknown[] = Array.isArray(value) ? value : [value]
  if (list.length === 0 || !list.every((one) => typeof one === 'string'))
    throw new CliError(`${path}: servers of profile ${profile} must be a list of "host:port"`)
  return list.map((server) => checkServer(String(server)))
}

function checkServer(server: string): string {
  if (/^wss?:\/\/\S+$/.test(server)) return server
  const address = parseServerAddress(server)
  if (address === null)
    throw new UsageError(
      `a server is given as host:port or parleys://host:port#sha256=FINGERPRINT, such as localhost:7400, not "${server}"`,
    )
  return /:[0-9]+$/.test(address.host)
    ? server
    : formatServerAddress({ ...address, host: `${address.host}:7400` })
}

function timeoutOf(value: unknown): number {
  const seconds = value === undefined ? defaultTimeoutS : Number(value)
  if (!(seconds > 0 && seconds <= 3600))
    throw new UsageError(`a timeout is given in seconds, above 0 and up to 3600, not "${String(value)}"`)
  return seconds * 1000
}
