import { join } from 'node:path'
import { fromHex } from '../base/bytes.ts'
import { replicaName } from '../base/ids.ts'
import { shellWord } from '../base/shell-word.ts'
import type { Client } from '../client/index.ts'
import type { GetStatusResponse } from '../gen/parley/v1/service.ts'
import { CliError, exitCodes, type Io } from './io.ts'
import type { Context } from './verb.ts'

/** A connection with the right to decide about the cluster. */
export interface Authority {
  readonly client: Client
  /** What the replica that is asked said last of the cluster. */
  readonly status: GetStatusResponse
  close(): void
}

/** The flag of verbs that need an administrator or, on the machine of a replica, its data folder. */
export const dataOption: readonly [flags: string, description: string] = [
  '--data <dir>',
  'the data folder of a replica on this machine, or of "parley up": whoever may read it need not be an administrator',
]

/**
 * Connects as an administrator who is signed in or, when a data folder is given, with what its owner can read there.
 *
 * @throws CliError when there is neither.
 */
export async function openAuthority({ io, session }: Context, data: string | null): Promise<Authority> {
  if (data !== null) return await openWithFolder(io, data)
  const client = session().signedIn()
  return { client, status: await client.call('getStatus', {}), close: () => {} }
}

/** A replica that is gone leaves its file behind: another one of the same folder may answer. */
const answerMs = 2000

async function openWithFolder(io: Io, data: string): Promise<Authority> {
  const operators = operatorsIn(io, data)
  if (operators.length === 0)
    throw new CliError(
      `${data} is not the data folder of a replica that has run on this machine, nor that of "parley up".`,
    )
  for (const { token, http } of operators) {
    const client = io.createClient({ addresses: [http], discover: false, token })
    try {
      const status = await client.call('getStatus', {}, { timeoutMs: answerMs })
      return { client, status, close: () => client.close() }
    } catch {
      client.close()
    }
  }
  const start = localReplicas(io, data).length > 0 ? 'up' : 'serve'
  throw new CliError(
    `No replica of ${data} answers. Start it first: parley ${start} --data ${shellWord(data)}`,
    exitCodes.unavailable,
  )
}

interface Operator {
  readonly token: Uint8Array
  readonly http: string
}

/** Those of a replica's own folder, or of all replicas in the folder of a local cluster. */
function operatorsIn(io: Io, data: string): readonly Operator[] {
  const own = readOperator(io, data)
  if (own !== null) return [own]
  return localReplicas(io, data)
    .map((id) => readOperator(io, join(data, replicaName(id))))
    .filter((operator) => operator !== null)
}

function readOperator(io: Io, folder: string): Operator | null {
  const { token, http } = readJson(io, join(folder, 'operator.json'))
  if (typeof http !== 'string' || typeof token !== 'string' || !/^[0-9a-f]{64}$/.test(token)) return null
  return { http, token: fromHex(token) }
}

/** The ids of the replicas that `parley up` runs in this folder; empty when it is not such a folder. */
export function localReplicas(io: Io, data: string): readonly number[] {
  const { replicas } = readJson(io, join(data, 'cluster.json'))
  if (!Array.isArray(replicas)) return []
  return replicas.map((one: { readonly id?: unknown }) => one.id).filter((id) => typeof id === 'number')
}

/** Empty when there is no such file, or something else in it. @throws CliError when it may not be read. */
function readJson(io: Io, path: string): Partial<Record<string, unknown>> {
  const text = io.files.read(path) ?? '{}'
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? { ...value } : {}
  } catch {
    return {}
  }
}
