import { join } from 'node:path'

import { shellWord } from '../base/shell-word.ts'
import { issueToken } from './issue-token.ts'
import type { ServerIo } from './io.ts'
import { makeFirstReplica, toServe } from './make-replica.ts'
import type { InitOptions } from './options.ts'
import { problemOf } from './problems.ts'
import { runServe, type Running } from './serve.ts'
import { buildWebAppApart } from './web-build.ts'

/** What `parley init --json` prints, one object to a line. */
type InitEvent =
  | { readonly event: 'made'; readonly replica: number; readonly data: string; readonly http: string }
  | {
      readonly event: 'serving'
      readonly address: string
      readonly token: string
      readonly hours: number
      readonly uses: number
    }

/**
 * Makes the first replica of a new cluster and runs it until it is told to stop.
 *
 * @returns the exit code. The caller ends the process with it.
 * @throws ServerError when the replica cannot be made.
 */
export async function runInit(options: InitOptions, json: boolean, io: ServerIo): Promise<number> {
  const tell = (event: InitEvent, text: string): void => io.out(json ? JSON.stringify(event) : text)
  const { http } = await makeFirstReplica(options)
  tell(
    { event: 'made', replica: 1, data: options.data, http },
    `Made a new cluster. Its first replica, r1, is in ${options.data}, and the key of its authority too: guard that folder.`,
  )
  await buildWebAppApart(io.err).catch((error: unknown) =>
    io.err(`The web app could not be built (${problemOf(error)}); everything else works without it.`),
  )
  return await runServe(toServe(options), json ? { ...io, out: io.err } : io, (running) => {
    offer(running, options, tell).catch((error: unknown) => io.err(problemOf(error)))
  })
}

async function offer(
  { replica, joinDesk, address }: Running,
  options: InitOptions,
  tell: (event: InitEvent, text: string) => void,
): Promise<void> {
  const { uses, hours, data } = options
  if (joinDesk === null) {
    const text = `Nobody can join as long as r1 speaks plain text with clients: take "insecure" out of ${join(data, 'serve.toml')}, start it again, and then: parley token create --data ${shellWord(data)}`
    tell({ event: 'serving', address, token: '', hours: 0, uses: 0 }, text)
    return
  }
  const token = await issueToken(replica, joinDesk, { uses, hours })
  tell(
    { event: 'serving', address, token, hours, uses },
    [
      'Parley serves.',
      '',
      `  talk      parley -s '${address}'`,
      `            or in a browser: https://${address.replace(/^parleys:\/\/|#.*$/g, '')}`,
      `  grow      on another machine, up to ${uses} times within ${hours === 1 ? 'an hour' : `${hours} hours`}:`,
      '',
      `parley join ${token} --host ADDRESS --data DIR`,
      '',
      `  another   parley token create --data ${shellWord(data)}`,
      `  later     parley serve --data ${shellWord(data)}`,
      '  stop      Ctrl-C',
      '',
    ].join('\n'),
  )
}
