import { argon2, hash, randomBytes, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'

/** Hashes and checks passwords with argon2id, one after another, off the replication thread. */
export interface Passwords {
  /**
   * The same for the same password and id, so that a request that is sent again can be told from another one with its id. The salt is made of the id: no two requests share one.
   *
   * @param id of the request that brings the password.
   * @returns a PHC string: `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`.
   * @throws PasswordsOverloadedError when too many wait already.
   */
  hash(password: string, id: Uint8Array): Promise<string>

  /**
   * Whether `phc` is the hash of `password`. Null stands for an account that does not exist: the answer is false, after the same time.
   *
   * @throws PasswordsOverloadedError when too many wait already.
   */
  verify(password: string, phc: string | null): Promise<boolean>

  /** What still waits is refused. */
  close(): void
}

export interface PasswordOptions {
  /** Memory of one hash in KiB; default 19456, which OWASP asks for together with two passes. Less makes guessing cheaper. */
  readonly memoryKib?: number
  readonly passes?: number
  /** Most calls that may wait; default 256: about ten seconds of work. */
  readonly maxWaiting?: number
}

/** Too many passwords wait to be hashed: try again soon. */
export class PasswordsOverloadedError extends Error {
  override readonly name = 'PasswordsOverloadedError'
}

interface Parameters {
  readonly memoryKib: number
  readonly passes: number
  readonly parallelism: number
}

/** Makes the replica's only password hasher. */
export function createPasswords(options: PasswordOptions = {}): Passwords {
  const parameters: Parameters = {
    memoryKib: options.memoryKib ?? 19_456,
    passes: options.passes ?? 2,
    parallelism: 1,
  }
  const maxWaiting = options.maxWaiting ?? 256
  const nobodysSalt = randomBytes(saltBytes)
  let waiting = 0
  let closed = false
  let last: Promise<unknown> = Promise.resolve()

  // One at a time: the thread pool that hashes is the one that flushes the log, and a hash takes all of a core for tens of milliseconds.
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (closed || waiting >= maxWaiting) {
      return Promise.reject(
        new PasswordsOverloadedError(`${waiting} passwords wait to be hashed; try again soon`),
      )
    }
    waiting += 1
    const result = last.then(() => {
      if (closed) throw new PasswordsOverloadedError('the replica is stopping')
      return work()
    })
    last = result
      .catch(() => undefined)
      .then(() => {
        waiting -= 1
      })
    return result
  }

  return {
    hash: (password, id) =>
      inTurn(async () => {
        const salt = hash('sha256', id, 'buffer').subarray(0, saltBytes)
        return toPhc(parameters, salt, await derive(password, salt, parameters, hashBytes))
      }),
    verify: (password, phc) => {
      const stored = phc === null ? null : fromPhc(phc)
      return inTurn(async () => {
        if (stored === null) {
          await derive(password, nobodysSalt, parameters, hashBytes)
          return false
        }
        const given = await derive(password, stored.salt, stored.parameters, stored.hash.length)
        return timingSafeEqual(given, stored.hash)
      })
    },
    close() {
      closed = true
    },
  }
}

const saltBytes = 16
const hashBytes = 32
const argon2Async = promisify(argon2)

function derive(password: string, salt: Uint8Array, parameters: Parameters, bytes: number): Promise<Buffer> {
  // Two keyboards may write one accented letter in two ways: NFC makes them the same password (RFC 8265 §4.2).
  return argon2Async('argon2id', {
    message: Buffer.from(password.normalize('NFC')),
    nonce: salt,
    parallelism: parameters.parallelism,
    tagLength: bytes,
    memory: parameters.memoryKib,
    passes: parameters.passes,
  })
}

function toPhc(parameters: Parameters, salt: Uint8Array, hash: Uint8Array): string {
  const { memoryKib, passes, parallelism } = parameters
  return `$argon2id$v=19$m=${memoryKib},t=${passes},p=${parallelism}$${base64(salt)}$${base64(hash)}`
}

const phcForm =
  /^\$argon2id\$v=19\$m=([0-9]{1,7}),t=([0-9]{1,3}),p=([0-9]{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/

/** Null for what {@link toPhc} never writes. */
function fromPhc(
  phc: string,
): { readonly parameters: Parameters; readonly salt: Uint8Array; readonly hash: Uint8Array } | null {
  const match = phcForm.exec(phc)
  if (match === null) return null
  const [, memory = '', passes = '', parallelism = '', salt = '', hash = ''] = match
  return {
    parameters: { memoryKib: Number(memory), passes: Number(passes), parallelism: Number(parallelism) },
    salt: Buffer.from(salt, 'base64'),
    hash: Buffer.from(hash, 'base64'),
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64').replace(/=+$/, '')
}
