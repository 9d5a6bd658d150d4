import { askName, checkName, register as registerAccount } from '../sign-in.ts'
import { verb } from '../verb.ts'
import { signInAnew } from './login.ts'

export const register = verb(
  {
    name: 'register',
    summary: 'make an account and sign in',
    arguments: ['[name]'],
    options: [['--password-stdin', 'read the password from standard input']],
    examples: ['parley register ann', 'PARLEY_PASSWORD=… parley register ann'],
  },
  ({ arguments: [name], options }) => ({ name, fromInput: options['passwordStdin'] === true }),
  (options, context) =>
    signInAnew(context, async ({ client }) => {
      const name = await askName(options.name, context.io)
      // Nobody should type a password twice only to hear that the name is taken.
      if (context.io.canAsk) await checkName(client, name)
      return registerAccount(client, context.io, { name, source: options })
    }),
)
