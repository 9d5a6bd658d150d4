import { toHex } from '../../base/bytes.ts'
import { exitCodes } from '../io.ts'
import { accountJson } from '../present.ts'
import { openSession, type Session } from '../session.ts'
import { endQuietly, greeting, keepSession, signIn, type SignedIn } from '../sign-in.ts'
import { type Context, type Report, verb } from '../verb.ts'

export const login = verb(
  {
    name: 'login',
    summary: 'sign in; asks for the name first, and makes the account when it is new',
    arguments: ['[name]'],
    options: [['--password-stdin', 'read the password from standard input']],
    examples: ['parley login ann', 'parley login ann --password-stdin < password.txt'],
  },
  ({ arguments: [name], options }) => ({ name, fromInput: options['passwordStdin'] === true }),
  (options, context) =>
    signInAnew(context, (session) =>
      signIn(session.client, context.io, { name: options.name, source: options }),
    ),
)

/** Signs in on a connection of its own, keeps the session, and ends the one that was kept before. */
export async function signInAnew(
  { io, settings }: Context,
  work: (session: Session) => Promise<SignedIn>,
): Promise<Report> {
  const before = openSession(settings, io)
  const session = openSession(settings, io, true)
  try {
    const signedIn = await work(session)
    await keepSession(session, signedIn)
    if (before.saved !== null && toHex(before.saved.token) !== toHex(signedIn.token))
      await endQuietly(before.client)
    return {
      data: {
        account: accountJson(signedIn.account),
        session: signedIn.session,
        inbox: signedIn.inbox,
        new: signedIn.isNew,
      },
      lines: [greeting(signedIn)],
      exitCode: exitCodes.ok,
    }
  } finally {
    session.close()
    before.close()
  }
}
