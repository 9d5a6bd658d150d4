import { parseHostPort } from './ports.ts'

/** One setting: where it comes from, what it may be, and what help says about it. */
export interface OptionSpec {
  /** `--data <dir>`, or `--restart` for a switch: the long flag and, after a blank, the placeholder of its value. */
  readonly flag: string
  /** An `address` is `host:port`, or empty for what was before. */
  readonly type: 'text' | 'address' | 'integer' | 'switch' | 'choice'
  readonly choices?: readonly string[]
  readonly min?: number
  readonly max?: number
  readonly default: string | number | boolean
  /** One sentence with unit, default and range, for `--help` and docs/OPERATIONS.md. */
  readonly help: string
  /** Given to the verb that makes a replica, it is kept in the data folder for `parley serve` (remembered.ts). */
  readonly remembered?: true
}

export type OptionSchema = Readonly<Record<string, OptionSpec>>

/** The complete, checked values of a schema. */
export type OptionValues<S extends OptionSchema> = {
  readonly [K in keyof S]: S[K]['type'] extends 'integer'
    ? number
    : S[K]['type'] extends 'switch'
      ? boolean
      : string
}

/** Where values come from, the strongest first. Flags and file use the schema's names; the environment `PARLEY_` and the flag in capitals. */
export interface OptionSources {
  readonly flags: Readonly<Record<string, unknown>>
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly file: Readonly<Record<string, unknown>>
}

/** A setting that is wrong; the message names where it came from and what it may be. */
export class OptionError extends Error {
  override readonly name = 'OptionError'
}

/**
 * Reads the options of a schema: flags before environment before file before defaults.
 *
 * @throws OptionError when a value is not what it may be.
 */
export function readOptions<S extends OptionSchema>(schema: S, sources: OptionSources): OptionValues<S> {
  const values: Record<string, unknown> = {}
  for (const [name, spec] of Object.entries(schema)) {
    const variable = environmentName(spec)
    const flag = sources.flags[name]
    const set = sources.environment[variable]
    const filed = sources.file[name]
    if (flag !== undefined) values[name] = check(spec, flag, flagName(spec))
    else if (set !== undefined && set !== '') values[name] = check(spec, set, variable)
    else if (filed !== undefined) values[name] = check(spec, filed, `${name} in the configuration file`)
    else values[name] = spec.default
  }
  // Each value was made by `check` from the type that the schema names.
  return values as OptionValues<S>
}

/** `--http-port`. */
export function flagName(spec: OptionSpec): string {
  return spec.flag.split(' ')[0] ?? spec.flag
}

/** `PARLEY_HTTP_PORT`. */
export function environmentName(spec: OptionSpec): string {
  return `PARLEY_${flagName(spec).replace(/^--/, '').replaceAll('-', '_').toUpperCase()}`
}

function check(spec: OptionSpec, value: unknown, source: string): string | number | boolean {
  const shown = JSON.stringify(value)
  switch (spec.type) {
    case 'text':
      if (typeof value === 'string') return value
      throw new OptionError(`${source} must be a text, not ${shown}`)
    case 'address':
      if (typeof value === 'string' && (value === '' || parseHostPort(value) !== null)) return value
      throw new OptionError(`${source} must be host:port, such as 127.0.0.1:7400, not ${shown}`)
    case 'choice': {
      const choices = spec.choices ?? []
      if (typeof value === 'string' && choices.includes(value)) return value
      throw new OptionError(`${source} must be one of ${choices.join(', ')}, not ${shown}`)
    }
    case 'integer': {
      const number = typeof value === 'string' && /^-?[0-9]+$/.test(value) ? Number(value) : value
      const min = spec.min ?? 0
      const max = spec.max ?? Number.MAX_SAFE_INTEGER
      if (typeof number === 'number' && Number.isInteger(number) && number >= min && number <= max)
        return number
      throw new OptionError(`${source} must be a whole number from ${min} to ${max}, not ${shown}`)
    }
    case 'switch':
      if (typeof value === 'boolean') return value
      if (value === 'true' || value === '1') return true
      if (value === 'false' || value === '0') return false
      throw new OptionError(`${source} must be true or false, not ${shown}`)
  }
}

const logOptions = {
  log: {
    flag: '--log <where>',
    type: 'choice',
    choices: ['file', 'stderr'],
    default: 'stderr',
    help: 'where the log goes: "file" writes JSON lines to parley.log in the data folder, "stderr" readable lines',
  },
  logLevel: {
    flag: '--log-level <level>',
    type: 'choice',
    choices: ['debug', 'info', 'warn', 'error'],
    default: 'info',
    help: 'the least important entries that are logged',
  },
} as const satisfies OptionSchema

const insecure = {
  flag: '--insecure',
  type: 'switch',
  default: false,
  help: 'speak plain text where others can listen in too, not on loopback alone; said again at every start and in "parley status"',
} as const

const securityOptions = {
  insecure: { ...insecure, remembered: true },
  tlsCert: {
    flag: '--tls-cert <file>',
    type: 'text',
    default: '',
    help: "certificate for clients, PEM, with its issuers behind it; read again when the file changes. Default: one of the cluster's own authority",
    remembered: true,
  },
  tlsKey: {
    flag: '--tls-key <file>',
    type: 'text',
    default: '',
    help: 'the key of --tls-cert, PEM',
    remembered: true,
  },
  listen: {
    flag: '--listen <address>',
    type: 'text',
    default: '',
    help: 'the address to listen on when it is not the one that others use, such as 0.0.0.0 for all of this machine',
    remembered: true,
  },
} as const satisfies OptionSchema

const faultModel = {
  flag: '--fault-model <name>',
  type: 'choice',
  choices: ['majority', 'fail-stop'],
  default: 'majority',
  help: 'what a new cluster survives: with "majority" two of five may fail and the network may do what it likes, with "fail-stop" any two of three may crash and the network must never be cut',
} as const

const trustTimeouts = {
  flag: '--trust-timeouts',
  type: 'switch',
  default: false,
  help: 'fault model fail-stop: a replica that is silent for two seconds is taken for dead. Only for a network that never cuts replicas off from each other, or messages are lost',
} as const

/** Of `parley serve`. */
export const serveOptions = {
  data: {
    flag: '--data <dir>',
    type: 'text',
    default: '',
    help: "the replica's data folder",
  },
  ...logOptions,
  http: {
    flag: '--http <host:port>',
    type: 'address',
    default: '',
    help: "where the replica's HTTP and WebSocket are found from now on; the other replicas and the clients learn of it",
  },
  grpc: {
    flag: '--grpc <host:port>',
    type: 'address',
    default: '',
    help: 'where its gRPC is found from now on',
  },
  peer: {
    flag: '--peer <host:port>',
    type: 'address',
    default: '',
    help: 'where the other replicas find it from now on',
  },
  logMib: {
    flag: '--log-mib <n>',
    type: 'integer',
    min: 1,
    max: 65_536,
    default: 64,
    help: 'the log is shortened each time it has grown by so many MiB; half as much is kept for replicas that fall behind, others get a snapshot',
    remembered: true,
  },
  passwordMemoryKib: {
    flag: '--password-memory-kib <n>',
    type: 'integer',
    min: 64,
    max: 1_048_576,
    default: 19_456,
    help: 'memory that hashing one new password takes, in KiB; less makes guessing stolen hashes cheaper; the same at all replicas',
    remembered: true,
  },
  trustTimeouts: { ...trustTimeouts, remembered: true },
  ...securityOptions,
} as const satisfies OptionSchema

/** Of the verbs that make a replica and then run it. */
const makingOptions = {
  data: {
    flag: '--data <dir>',
    type: 'text',
    default: 'data',
    help: 'the data folder of the replica; made when it does not exist',
  },
  host: {
    flag: '--host <address>',
    type: 'text',
    default: '',
    help: 'the name or address at which the other replicas and the clients find this machine. Default: its first address that is not loopback',
  },
  httpPort: {
    flag: '--http-port <n>',
    type: 'integer',
    min: 1,
    max: 65_535,
    default: 7400,
    help: 'HTTP and WebSocket port',
  },
  grpcPort: {
    flag: '--grpc-port <n>',
    type: 'integer',
    min: 1,
    max: 65_535,
    default: 7500,
    help: 'gRPC port',
  },
  peerPort: {
    flag: '--peer-port <n>',
    type: 'integer',
    min: 1,
    max: 65_535,
    default: 7600,
    help: 'port for the other replicas',
  },
  ...logOptions,
  log: { ...logOptions.log, default: 'file' },
  logMib: serveOptions.logMib,
  passwordMemoryKib: serveOptions.passwordMemoryKib,
  ...securityOptions,
  trustTimeouts: { ...trustTimeouts, remembered: true },
} as const satisfies OptionSchema

/** How long a join token is good, and for how many replicas. */
export const tokenOptions = {
  uses: {
    flag: '--uses <n>',
    type: 'integer',
    min: 1,
    max: 100,
    default: 10,
    help: 'how many replicas may join with the token',
  },
  hours: {
    flag: '--hours <n>',
    type: 'integer',
    min: 1,
    max: 8760,
    default: 24,
    help: 'how long the token is good',
  },
} as const satisfies OptionSchema

/** Of `parley init`. */
export const initOptions = { ...makingOptions, ...tokenOptions, faultModel } as const satisfies OptionSchema

/** Of `parley join`. */
export const joinOptions = makingOptions

/** Of `parley up`. */
export const upOptions = {
  data: {
    flag: '--data <dir>',
    type: 'text',
    default: 'data',
    help: 'the data folder of the cluster; made when it does not exist',
  },
  replicas: {
    flag: '--replicas <n>',
    type: 'integer',
    min: 1,
    max: 9,
    default: 5,
    help: 'how many replicas a new cluster gets, 1 to 9; of five any two may fail',
  },
  faultModel,
  host: {
    flag: '--host <address>',
    type: 'text',
    default: '127.0.0.1',
    help: 'the address that a new cluster listens on',
  },
  httpPort: {
    flag: '--http-port <n>',
    type: 'integer',
    min: 1,
    max: 65_000,
    default: 7400,
    help: 'HTTP and WebSocket port of the first replica of a new cluster; the others take the next ones',
  },
  grpcPort: {
    flag: '--grpc-port <n>',
    type: 'integer',
    min: 1,
    max: 65_000,
    default: 7500,
    help: 'gRPC port of the first replica of a new cluster; the others take the next ones',
  },
  peerPort: {
    flag: '--peer-port <n>',
    type: 'integer',
    min: 1,
    max: 65_000,
    default: 7600,
    help: 'port of the first replica for the other replicas of a new cluster; the others take the next ones',
  },
  restart: {
    flag: '--restart',
    type: 'switch',
    default: false,
    help: 'start a replica again when its process ends',
  },
  trustTimeouts,
  insecure,
  json: {
    flag: '--json',
    type: 'switch',
    default: false,
    help: 'print one JSON object per event',
  },
  logLevel: logOptions.logLevel,
} as const satisfies OptionSchema

/** Of `parley restore`. */
export const restoreOptions = {
  data: { ...upOptions.data, default: '', help: 'the new folder that the cluster is made in' },
  replicas: upOptions.replicas,
  logOutAll: {
    flag: '--log-out-all',
    type: 'switch',
    default: false,
    help: 'end all sessions, so that everybody has to sign in again; without it tokens stay good',
  },
  faultModel,
  host: upOptions.host,
  httpPort: upOptions.httpPort,
  grpcPort: upOptions.grpcPort,
  peerPort: upOptions.peerPort,
  listen: makingOptions.listen,
} as const satisfies OptionSchema

export type ServeOptions = OptionValues<typeof serveOptions>
export type InitOptions = OptionValues<typeof initOptions>
export type JoinOptions = OptionValues<typeof joinOptions>
export type UpOptions = OptionValues<typeof upOptions>
export type RestoreOptions = OptionValues<typeof restoreOptions>
