import { UsageError } from '../io.ts'
import { sessionJson } from '../present.ts'
import { clockTime, paint, printable, table } from '../text.ts'
import { verb } from '../verb.ts'

export const sessionsList = verb(
  { name: 'sessions list', summary: 'the devices that are signed in', arguments: [], options: [] },
  () => ({}),
  async (_, { io, session }) => {
    const { sessions } = await session().signedIn().call('listSessions', {})
    const colors = paint(io.color)
    return {
      data: { sessions: sessions.map(sessionJson) },
      lines: table(
        sessions.map((one) => [
          String(one.id),
          printable(one.device),
          one.online ? colors.green('online') : colors.dim('offline'),
          `active ${clockTime(one.lastActiveAtMs, io.nowMs())}`,
          one.current ? 'this one' : '',
        ]),
      ),
    }
  },
)

export const sessionsRevoke = verb(
  {
    name: 'sessions revoke',
    summary: 'sign a device out, by the number that "sessions list" shows',
    arguments: ['<session>'],
    options: [],
  },
  ({ arguments: [session] }) => {
    if (session === undefined || !/^[1-9][0-9]{0,14}$/.test(session))
      throw new UsageError('a session is named by the number that "sessions list" shows')
    return { number: Number(session) }
  },
  async ({ number }, { session }) => {
    await session().signedIn().call('revokeSession', { session: number })
    return { data: { revoked: number }, lines: ['That device is signed out.'] }
  },
)
