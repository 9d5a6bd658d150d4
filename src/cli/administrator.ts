import { join } from 'node:path'
import type { Client } from '../client/index.ts'
import { CliError } from './io.ts'
import type { Context } from './verb.ts'

/** The flag of verbs that administrators use, and who has a replica's data folder. */
export const dataOption = [
  '--data <dir>',
  'instead of signing in as an administrator: the data folder of a replica that runs on this machine',
] as const

/**
 * Runs `work` with a client that may decide about the cluster: signed in as somebody who hopefully is an administrator, or, with a replica's data folder, as its operator.
 *
 * @param data empty: whoever is signed in.
 */
export async function asAdministrator<T>(
  { io, session, settings }: Context,
  data: string,
  work: (client: Client) => Promise<T>,
): Promise<T> {
  if (data === '') return work(session().signedIn())
  const { token, http } = readOperator(io.files.read(join(data, 'operator.json')), data)
  const client = io.createClient({
    addresses: [http],
    // The token is good at this replica alone.
    discover: false,
    token: Uint8Array.from(Buffer.from(token, 'hex')),
    timeoutMs: settings.timeoutMs,
  })
  try {
    return await work(client)
  } finally {
    client.close()
  }
}

function readOperator(text: string | null, data: string): { readonly token: string; readonly http: string } {
  if (text === null)
    throw new CliError(`${data} has no operator.json: is it the data folder of a replica that runs here?`)
  const { token, http } = JSON.parse(text) as Partial<Record<string, unknown>>
  if (typeof token !== 'string' || typeof http !== 'string')
    throw new CliError(
      `${join(data, 'operator.json')} is damaged: the next start of the replica writes it anew.`,
    )
  return { token, http }
}
