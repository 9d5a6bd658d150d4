import { randomInt } from 'node:crypto'

import type { Random } from '../base/random.ts'

/** The machine's chance. */
export const systemRandom: Random = { below: (limit) => randomInt(limit) }
