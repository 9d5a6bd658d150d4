import { createHash, randomBytes } from 'node:crypto'
import { toHex } from '../../base/bytes.ts'
import type { JoinToken } from '../../gen/parley/v1/service.ts'
import { tokenOptions } from '../../server/options.ts'
import { formatJoinToken, secretBytes } from '../../tls/join-token.ts'
import type { Client } from '../../client/index.ts'
import { dataOption, openAuthority } from '../authority.ts'
import { UsageError } from '../io.ts'
import { plural, printable, table } from '../text.ts'
import { type Context, verb } from '../verb.ts'
import { flagsOf, serverOptions } from './up.ts'

const dataOf = (options: Readonly<Record<string, unknown>>): string | null =>
  typeof options['data'] === 'string' ? options['data'] : null

async function asAdministrator<T>(
  context: Context,
  data: string | null,
  work: (client: Client) => Promise<T>,
): Promise<T> {
  const authority = await openAuthority(context, data)
  try {
    return await work(authority.client)
  } finally {
    authority.close()
  }
}

export const tokenCreate = verb(
  {
    name: 'token create',
    summary: 'make a token with which other machines join the cluster',
    arguments: [],
    options: [...flagsOf(tokenOptions), dataOption],
    examples: ['parley token create --uses 1 --hours 1', 'parley token create --data /var/lib/parley'],
  },
  (given, { io }) => ({
    ...serverOptions(tokenOptions, given, io.environment, undefined, false),
    data: dataOf(given.options),
  }),
  async ({ uses, hours, data }, context) => {
    const secret = randomBytes(secretBytes)
    const secretHash = createHash('sha256').update(secret).digest()
    const made = await asAdministrator(context, data, (client) =>
      client.call('createJoinToken', { secretHash, uses, lifetimeS: hours * 3600 }),
    )
    const { addresses } = made
    const [clusterId, authority] = [toHex(made.clusterId), toHex(made.authority)]
    const word = formatJoinToken({ clusterId, authority, secret, addresses })
    return {
      data: { token: word, number: made.token?.number ?? 0, uses, expiresAtMs: made.token?.expiresAtMs ?? 0 },
      lines: [
        `On another machine, up to ${plural(uses, 'time')} within ${plural(hours, 'hour')}:`,
        '',
        `parley join ${word} --host ADDRESS --data DIR`,
      ],
    }
  },
)

export const tokenList = verb(
  {
    name: 'token list',
    summary: 'the tokens with which other machines can join',
    arguments: [],
    options: [dataOption],
  },
  ({ options }) => ({ data: dataOf(options) }),
  async ({ data }, context) => {
    const { tokens } = await asAdministrator(context, data, (client) => client.call('listJoinTokens', {}))
    const nowMs = context.io.nowMs()
    return {
      data: { tokens },
      lines:
        tokens.length === 0
          ? ['There are no tokens.']
          : table([
              ['number', 'good for', 'until', 'made by'],
              ...tokens.map((token) => cells(token, nowMs)),
            ]),
    }
  },
)

export const tokenRevoke = verb(
  {
    name: 'token revoke',
    summary: 'let nobody join with a token any more',
    arguments: ['<number>'],
    options: [dataOption],
  },
  ({ arguments: [word = ''], options }) => {
    if (!/^[1-9][0-9]{0,14}$/.test(word))
      throw new UsageError(`a token has a number, not "${word}": parley token list`)
    return { number: Number(word), data: dataOf(options) }
  },
  async ({ number, data }, context) => {
    await asAdministrator(context, data, (client) => client.call('revokeJoinToken', { number }))
    return { data: { number }, lines: [`Nobody can join with token ${number} any more.`] }
  },
)

function cells({ number, usesLeft, expiresAtMs, createdBy }: JoinToken, nowMs: number): string[] {
  return [
    String(number),
    expiresAtMs <= nowMs
      ? 'nothing, it has expired'
      : usesLeft === 0
        ? 'nothing, it is used up'
        : plural(usesLeft, 'replica'),
    new Date(expiresAtMs).toISOString().replace('T', ' ').slice(0, 16),
    createdBy === '' ? "a replica's own machine" : printable(createdBy),
  ]
}
