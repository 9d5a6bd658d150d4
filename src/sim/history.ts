import {
  checkLinearizable,
  type LinearizabilityVerdict,
  type Operation,
  type SequentialModel,
} from './linearizability.ts'

/** The calls of all clients on one kind of object, by the object they are about. */
export interface History<Input, Output> {
  /** A call begins; the result notes its answer, or that it got none. */
  call(client: string, part: string, input: Input): OpenCall<Output>
  readonly size: number
  /** Null when every part is linearizable; else the first part that is not. */
  check(modelOf: (part: string) => SequentialModel<unknown, Input, Output> | null): {
    readonly part: string
    readonly verdict: LinearizabilityVerdict<Input, Output>
  } | null
  /**
   * What became of the calls without an answer has been found out: `fate` gives what the answer would have been, null when the call never took effect, or undefined when
   * nobody knows. Without this the search has to try them everywhere.
   */
  resolve(fate: (part: string, input: Input) => Output | null | undefined): void
}

export interface OpenCall<Output> {
  answered(output: Output): void
  /** It certainly did not and will not take effect. */
  refused(): void
}

/** @param now a number that is larger each time. */
export function createHistory<Input, Output>(now: () => number): History<Input, Output> {
  const parts = new Map<string, Map<number, Operation<Input, Output>>>()
  let calls = 0
  return {
    call(client, part, input) {
      let operations = parts.get(part)
      if (operations === undefined) {
        operations = new Map()
        parts.set(part, operations)
      }
      const key = calls
      calls += 1
      const open: Operation<Input, Output> = { client, calledAt: now(), returned: null, input }
      operations.set(key, open)
      const into = operations
      return {
        answered(output) {
          into.set(key, { ...open, returned: { at: now(), output } })
        },
        refused() {
          into.delete(key)
        },
      }
    },
    get size() {
      return calls
    },
    check(modelOf) {
      for (const [part, operations] of parts) {
        const model = modelOf(part)
        if (model === null) continue
        const verdict = checkLinearizable(model, [...operations.values()])
        if (verdict.kind !== 'linearizable') return { part, verdict }
      }
      return null
    },
    resolve(fate) {
      for (const [part, operations] of parts)
        for (const [key, operation] of operations) {
          if (operation.returned !== null) continue
          const output = fate(part, operation.input)
          if (output === undefined) continue
          if (output === null) operations.delete(key)
          else operations.set(key, { ...operation, returned: { at: Infinity, output } })
        }
    },
  }
}
