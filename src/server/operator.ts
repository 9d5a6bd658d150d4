import { randomBytes } from 'node:crypto'
import { join } from 'node:path'

import { toHex } from '../base/bytes.ts'
import { writeJson } from '../storage/json-file.ts'

/** What `operator.json` in a replica's data folder holds: whoever may read it may do at this replica what administrators may, as long as its process runs. */
export interface OperatorFile {
  readonly version: 1
  /** 64 hexadecimal digits. */
  readonly token: string
  /** The replica's HTTP address. */
  readonly http: string
}

/** Writes the token, a new one at each start, where only the owner of the folder can read it. */
export function writeOperatorFile(
  folder: string,
  http: string,
  token: Uint8Array = randomBytes(32),
): Uint8Array {
  const file: OperatorFile = { version: 1, token: toHex(token), http }
  writeJson(join(folder, 'operator.json'), file)
  return token
}
