import { describeState } from '../../client/index.ts'
import { accountJson } from '../present.ts'
import { inboxWords } from '../sign-in.ts'
import { printable } from '../text.ts'
import { verb } from '../verb.ts'

export const whoami = verb(
  { name: 'whoami', summary: 'who is signed in, and through which replica', arguments: [], options: [] },
  () => ({}),
  async (_, { session, settings }) => {
    const client = session().signedIn()
    const { account, session: number, inbox } = await client.call('getMe', {})
    const state = client.state
    return {
      data: {
        account: accountJson(account),
        session: number,
        inbox,
        profile: settings.profile,
        replica: 'replica' in state ? state.replica : null,
      },
      lines: [
        `${printable(account?.name ?? '')}${account?.admin === true ? ' (administrator)' : ''}, ${describeState(state)}, ${inboxWords(inbox)} in the inbox`,
      ],
    }
  },
)
