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
  /** Looks at the parts that have a model: what is wrong with the first one that is not linearizable, in words, or null; and the parts whose search was given up. */
  check(modelOf: (part: string) => SequentialModel<unknown, Input, Output> | null): {
    readonly violation: string | null
    readonly undecided: readonly string[]
  }
  /** All calls, by part, in the order in which they began. */
  operations(): Iterable<readonly [part: string, Operation<Input, Output>]>
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
      const undecided: string[] = []
      for (const [part, operations] of parts) {
        const model = modelOf(part)
        if (model === null) continue
        const verdict = checkLinearizable(model, [...operations.values()])
        if (verdict.kind === 'undecided') undecided.push(part)
        else if (verdict.kind === 'violated')
          return { violation: `${part}:\n${describe(verdict)}`, undecided }
      }
      return { violation: null, undecided }
    },
    *operations() {
      for (const [part, operations] of parts)
        for (const operation of operations.values()) yield [part, operation] as const
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

function describe<Input, Output>(
  verdict: LinearizabilityVerdict<Input, Output> & { readonly kind: 'violated' },
): string {
  return [
    ...verdict.explained.slice(-5).map((operation) => `explained: ${JSON.stringify(operation)}`),
    ...verdict.stuck.map((operation) => `stuck: ${JSON.stringify(operation)}`),
  ].join('\n')
}
