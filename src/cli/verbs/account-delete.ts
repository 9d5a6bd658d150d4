import { CliError, UsageError } from '../io.ts'
import { printable } from '../text.ts'
import { verb } from '../verb.ts'

export const accountDelete = verb(
  {
    name: 'account delete',
    summary: 'delete your account for good; asks for its name',
    arguments: [],
    options: [['--confirm <name>', 'the name of the account, instead of typing it']],
  },
  ({ options }) => ({ confirm: typeof options['confirm'] === 'string' ? options['confirm'] : null }),
  async ({ confirm }, { io, session: open }) => {
    const session = open()
    const client = session.signedIn()
    if (confirm === null && !io.canAsk)
      throw new UsageError('there is no terminal to ask: confirm with --confirm and the name of the account')
    const { account } = await client.call('getMe', {})
    const name = account?.name ?? ''
    if (confirm === null)
      io.err(
        `This deletes the account ${printable(name)} for good. Its messages stay with those who got them; its name becomes free.`,
      )
    const typed = confirm ?? (await io.ask(`Type ${printable(name)} to delete it`)).trim()
    if (typed.toLowerCase() !== name.toLowerCase())
      throw new CliError('That is not the name: nothing was deleted.')
    await client.call('deleteAccount', { confirmName: name })
    session.forget()
    return { data: { deleted: name }, lines: [`${printable(name)} is deleted. Goodbye.`] }
  },
)
