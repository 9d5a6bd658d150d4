import type { Account } from '../gen/parley/v1/model.ts'
import { type Client, ParleyError } from '../client/index.ts'
import { CliError, exitCodes, type Io, UsageError } from './io.ts'
import type { Session } from './session.ts'
import { plural, printable } from './text.ts'

/** Where a password may come from; never from a flag, which others see in the list of processes. */
export interface PasswordSource {
  readonly fromInput: boolean
}

export interface SignedIn {
  readonly account: Account | undefined
  readonly session: number
  readonly token: Uint8Array
  readonly inbox: number
  readonly isNew: boolean
}

export async function askName(given: string | undefined, io: Io): Promise<string> {
  const name = given ?? (io.canAsk ? (await io.ask('Name')).trim() : undefined)
  if (name === undefined) throw new UsageError('say who: there is no terminal to ask for the name')
  return name
}

/** The password of an account that exists. */
export async function readPassword(io: Io, source: PasswordSource, question = 'Password'): Promise<string> {
  const given = await givenPassword(io, source)
  return given ?? (await io.askSecret(question))
}

/** A password for an account that is made, or a new one; typed twice. */
export async function readNewPassword(io: Io, source: PasswordSource): Promise<string> {
  const given = await givenPassword(io, source)
  return given ?? askTwice(io)
}

export async function askTwice(io: Io): Promise<string> {
  for (;;) {
    const first = await io.askSecret('New password')
    if ((await io.askSecret('The same again')) === first) return first
    io.err('The two are not the same: once more.')
  }
}

async function givenPassword(io: Io, source: PasswordSource): Promise<string | null> {
  if (source.fromInput) return (await io.readInput()).replace(/\r?\n$/, '')
  const variable = io.environment['PARLEY_PASSWORD']
  if (variable !== undefined && variable !== '') return variable
  if (io.canAsk) return null
  throw new UsageError(
    'a password is needed: there is no terminal to ask, so give it with --password-stdin or in PARLEY_PASSWORD',
  )
}

/** Name first; then a greeting for who is known and for who is new, and the password. */
export async function signIn(
  client: Client,
  io: Io,
  options: { readonly name: string | undefined; readonly source: PasswordSource },
): Promise<SignedIn> {
  const name = await askName(options.name, io)
  const { exists, registrationOpen } = await client.call('lookUpName', { name })
  if (exists) {
    if (io.canAsk) io.err(`Welcome back, ${printable(name)}.`)
    const password = await readPassword(io, options.source)
    return { ...(await client.logIn({ name, password, device: io.device })), isNew: false }
  }
  if (!registrationOpen) throw new CliError(`${printable(name)} does not exist, and registration is closed.`)
  // Without a person to see the greeting, a mistyped name must not become an account.
  if (!io.canAsk)
    throw new CliError(
      `${printable(name)} does not exist, or has deleted their account. To make it: parley register ${printable(name)}`,
      exitCodes.error,
    )
  io.err(`Welcome, new user. ${printable(name)} is free: choose a password.`)
  return register(client, io, { name, source: options.source })
}

/** Whether an account of this name can be made, as far as that is known before it is tried. */
export async function checkName(client: Client, name: string): Promise<void> {
  const { exists, registrationOpen } = await client.call('lookUpName', { name })
  if (exists) throw new ParleyError('REASON_NAME_TAKEN', 'Another account has this name.')
  if (!registrationOpen)
    throw new ParleyError('REASON_REGISTRATION_CLOSED', 'Registration is closed on this cluster.')
}

export async function register(
  client: Client,
  io: Io,
  options: { readonly name: string; readonly source: PasswordSource },
): Promise<SignedIn> {
  const password = await readNewPassword(io, options.source)
  const response = await client.register({ name: options.name, password, device: io.device })
  return { ...response, inbox: 0, isNew: true }
}

/** `Welcome back, ann: you have 3 new messages.` */
export function greeting({ account, inbox, isNew }: Omit<SignedIn, 'token' | 'session'>): string {
  const name = printable(account?.name ?? '')
  if (isNew) return `Welcome, ${name}.`
  return `Welcome back, ${name}: you have ${inbox === 0 ? 'no' : inboxCount(inbox)} new ${inbox === 1 ? 'message' : 'messages'}.`
}

/** The inbox is counted up to 1000. */
export function inboxCount(count: number): string {
  return count >= 1000 ? '1000 or more' : String(count)
}

export function inboxWords(count: number): string {
  return count >= 1000 ? '1000 or more messages' : plural(count, 'message')
}

/** Keeps the session for the next run. @throws CliError when it cannot be kept: then it has ended, since nobody could use it or end it. */
export async function keepSession(session: Session, { account, token, isNew }: SignedIn): Promise<void> {
  try {
    session.save({ name: account?.name ?? '', token })
  } catch (error) {
    await endQuietly(session.client)
    const who = isNew ? 'The account is made, but you' : 'You'
    const why = error instanceof Error ? error.message : String(error)
    throw new CliError(
      `${who} cannot stay signed in: the session cannot be kept (${why}). Choose another folder for it with XDG_STATE_HOME.`,
    )
  }
}

/** Ends the session of the client; one that cannot be ended now expires by itself. */
export async function endQuietly(client: Client): Promise<void> {
  await client.call('logOut', {}, { timeoutMs: 2000 }).catch(() => undefined)
}
