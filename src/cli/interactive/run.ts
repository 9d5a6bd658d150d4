import { describeState, ParleyError } from '../../client/index.ts'
import { exitCodes, type Io } from '../io.ts'
import { lookOf } from '../present.ts'
import { inboxWords, greeting, keepSession, signIn, type SignedIn } from '../sign-in.ts'
import { openSession, type Session } from '../session.ts'
import { paint, printable } from '../text.ts'
import type { Context } from '../verb.ts'
import { completeLine, runLine } from './commands.ts'
import { Screen } from './screen.ts'
import { Talk } from './talk.ts'

/** The interactive client: signs in when nobody is, then talks until it is told to quit. */
export async function runInteractive(context: Context): Promise<number> {
  const { io, settings } = context
  const { session, welcome } = await begin(context)
  const colors = paint(io.color)
  const { client } = session
  let question: ((line: string) => void) | null = null
  let finish: (code: number) => void = () => {}
  const finished = new Promise<number>((resolve) => {
    finish = resolve
  })
  const screen = new Screen(io.terminal(), {
    line(text) {
      const answered = question
      question = null
      if (answered === null) runLine(text, commandContext)
      else answered(text)
    },
    end: () => finish(exitCodes.ok),
    complete: (line) => completeLine(line, talk),
  })
  const talk = new Talk({
    client,
    view: screen,
    look: () => lookOf(io),
    after: io.after,
    onSignedOut(why) {
      session.forget()
      screen.print(colors.red(why))
      finish(exitCodes.notSignedIn)
    },
  })
  const commandContext = {
    talk,
    io,
    settings,
    colors,
    ask(text: string, answered: (line: string) => void) {
      talk.tell(colors.yellow(text))
      question = answered
    },
    quit: () => finish(exitCodes.ok),
    signOut() {
      talk.stop()
      leave(session).then(
        () => finish(exitCodes.ok),
        () => finish(exitCodes.unavailable),
      )
    },
    forget() {
      session.forget()
      talk.stop()
      screen.print('Your account is deleted. Goodbye.')
      finish(exitCodes.ok)
    },
  }
  void io.stopped.then(() => finish(exitCodes.ok))
  try {
    // Who is not connected yet is told when they are.
    const connected = client.state.kind === 'connected'
    talk.tell(connected ? `${welcome} ${colors.dim(`(${describeState(client.state)})`)}` : welcome)
    talk.tell(colors.dim('/query NAME opens a conversation, /inbox shows what waits, /help the rest.'))
    await talk.start()
    const code = await finished
    if (settings.logOut && code === exitCodes.ok) {
      talk.stop()
      await leave(session)
    }
    return code
  } finally {
    const waiting = talk.waiting()
    talk.stop()
    screen.close()
    session.close()
    if (waiting.length > 0)
      io.err(['You have quit before it was known that these were sent:', ...waiting].join('\n'))
  }
}

/** Signs out, when somebody is signed in still. */
async function leave(session: Session): Promise<void> {
  session.forget()
  if (session.client.account !== null) await session.client.logOut()
}

/** Asks again when the name or the password was not right. */
async function signInPatiently({ client }: Session, io: Io): Promise<SignedIn> {
  for (let triesLeft = 5; ; triesLeft -= 1) {
    try {
      return await signIn(client, io, { name: undefined, source: { fromInput: false } })
    } catch (error) {
      if (!(error instanceof ParleyError) || !mistakes.has(error.reason) || triesLeft === 1) throw error
      io.err(`${printable(error.message)} Try again, or Ctrl-C.`)
    }
  }
}

/** What a person at the keyboard can do better at the next try. */
const mistakes: ReadonlySet<ParleyError['reason']> = new Set([
  'REASON_INVALID_ARGUMENT',
  'REASON_WRONG_CREDENTIALS',
  'REASON_NAME_TAKEN',
])

/** Goes on with the session that was kept, or signs in anew. */
async function begin({
  io,
  settings,
}: Context): Promise<{ readonly session: Session; readonly welcome: string }> {
  const kept = openSession(settings, io)
  if (kept.saved !== null) {
    try {
      const { account, inbox } = await kept.client.call('getMe', {}, { timeoutMs: Infinity })
      const count = inbox === 0 ? 'no new messages' : `${inboxWords(inbox)} waiting`
      return { session: kept, welcome: `Welcome back, ${printable(account?.name ?? '')}: ${count}.` }
    } catch (error) {
      if (!(error instanceof ParleyError)) throw error
      io.err(describeState({ kind: 'signedOut', reason: error.reason }))
      kept.forget()
    }
  }
  kept.close()
  const session = openSession(settings, io, true)
  const signedIn = await signInPatiently(session, io)
  await keepSession(session, signedIn)
  return { session, welcome: greeting(signedIn) }
}
