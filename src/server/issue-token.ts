import { createHash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import type { JoinDesk } from '../api/service.ts'
import { toHex } from '../base/bytes.ts'
import { makeUuidV7 } from '../base/ids.ts'
import type { Executed, Replica } from '../replica/types.ts'
import { formatJoinToken, secretBytes } from '../tls/join-token.ts'
import { ServerError } from './problems.ts'

const timeoutMs = 5000
const againMs = 50

/**
 * Makes a token at the replica that this process runs, as soon as there is a quorum.
 *
 * @throws ServerError when the cluster refuses.
 */
export async function issueToken(
  replica: Replica,
  desk: JoinDesk,
  { uses, hours }: { readonly uses: number; readonly hours: number },
): Promise<string> {
  const secret = randomBytes(secretBytes)
  const secretHash = createHash('sha256').update(secret).digest()
  const id = makeUuidV7(replica.nowMs, randomBytes(10))
  const value = { id, secretHash, uses, lifetimeS: hours * 3600 }
  const op = { $case: 'createJoinToken', value } as const
  const command = { id, fingerprint: crc32(secretHash), account: 0, session: 0, op }
  for (;;) {
    const executed = await new Promise<Executed>((resolve) => replica.execute(command, timeoutMs, resolve))
    if (executed.kind === 'applied') {
      const { outcome } = executed.outcome
      if (outcome?.$case !== 'createJoinToken')
        throw new ServerError(
          `No join token could be made: ${outcome?.$case === 'rejected' ? outcome.value.message : 'the cluster gave no answer'}`,
        )
      const clusterId = toHex(replica.state.clusterId)
      return formatJoinToken({
        clusterId,
        authority: toHex(desk.authority),
        secret,
        addresses: desk.addresses(),
      })
    }
    await new Promise((resolve) => setTimeout(resolve, againMs))
  }
}
