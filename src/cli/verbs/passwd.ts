import { UsageError } from '../io.ts'
import { askTwice } from '../sign-in.ts'
import { verb } from '../verb.ts'

export const passwd = verb(
  {
    name: 'passwd',
    summary: 'change the password; ends all other sessions',
    arguments: [],
    options: [['--password-stdin', 'read the old and the new password from standard input, a line each']],
    examples: ['parley passwd', 'printf "%s\\n" "$OLD" "$NEW" | parley passwd --password-stdin'],
  },
  ({ options }) => ({ fromInput: options['passwordStdin'] === true }),
  async ({ fromInput }, { io, session }) => {
    const client = session().signedIn()
    let oldPassword: string
    let newPassword: string
    if (fromInput) {
      const [first, second] = (await io.readInput()).split(/\r?\n/)
      if (first === undefined || second === undefined || second === '')
        throw new UsageError('the old and the new password are wanted, a line each')
      oldPassword = first
      newPassword = second
    } else if (io.canAsk) {
      oldPassword = await io.askSecret('Old password')
      newPassword = await askTwice(io)
    } else throw new UsageError('there is no terminal to ask for the passwords: use --password-stdin')
    await client.call('changePassword', { oldPassword, newPassword })
    return { data: { changed: true }, lines: ['The password is changed; all other sessions are ended.'] }
  },
)
