export { ParleyError, reasonWords } from './error.ts'
export type { CallOutcome } from './error.ts'
export { describeState } from './state.ts'
export type * from './types.ts'
