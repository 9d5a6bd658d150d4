import { ParleyError } from '../../client/index.ts'
import { printable } from '../text.ts'
import { verb } from '../verb.ts'

export const logout = verb(
  { name: 'logout', summary: 'sign out; ends the session on the server', arguments: [], options: [] },
  () => ({}),
  async (_, { session: open }) => {
    const session = open()
    const client = session.signedIn()
    // The token is gone from this machine whatever becomes of the session.
    session.forget()
    try {
      await client.call('logOut', {})
    } catch (error) {
      const already =
        error instanceof ParleyError &&
        (error.reason === 'REASON_NOT_SIGNED_IN' || error.reason === 'REASON_SESSION_EXPIRED')
      if (!already) throw error
    }
    return { data: { signedOut: true }, lines: [`Goodbye, ${printable(session.saved?.name ?? '')}.`] }
  },
)
