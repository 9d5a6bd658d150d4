/** One call of a client, as the client saw it. */
export interface Operation<Input, Output> {
  readonly client: string
  /** Moments on one clock that never shows the same twice. */
  readonly calledAt: number
  /** Null when no answer came: it may have taken effect at any time after the call, or never. */
  readonly returned: { readonly at: number; readonly output: Output } | null
  readonly input: Input
}

/** What a single copy, asked by one client at a time, would do. States are values: `step` makes a new one. */
export interface SequentialModel<State, Input, Output> {
  readonly initial: State
  /** The state after `input` when it may answer `output` there (null: whatever it answers); null when it may not. */
  step(state: State, input: Input, output: Output | null): State | null
  /** Equal for equal states only. */
  key(state: State): string
}

export type LinearizabilityVerdict<Input, Output> =
  | { readonly kind: 'linearizable' }
  /** `explained`: the longest run of operations in an order that a single copy allows; `stuck`: what could not follow it. */
  | {
      readonly kind: 'violated'
      readonly explained: readonly Operation<Input, Output>[]
      readonly stuck: readonly Operation<Input, Output>[]
    }
  /** The search was given up after `maxSteps`. */
  | { readonly kind: 'undecided' }

interface Link<Input, Output> {
  readonly operation: Operation<Input, Output>
  readonly number: number
  /** Null for the return of an operation. */
  readonly returns: Link<Input, Output> | null
  readonly isCall: boolean
  before: Link<Input, Output> | null
  after: Link<Input, Output> | null
}

/**
 * Looks for one order of all operations that respects real time and that a single copy allows (Wing and Gong 1993), remembering what was tried (Lowe 2017). Operations without
 * an answer may be left out.
 */
export function checkLinearizable<State, Input, Output>(
  model: SequentialModel<State, Input, Output>,
  operations: readonly Operation<Input, Output>[],
  maxSteps = 5_000_000,
): LinearizabilityVerdict<Input, Output> {
  const head = linkUp(operations)
  const seen = new Set<string>()
  const taken: { readonly link: Link<Input, Output>; readonly state: State }[] = []
  let state = model.initial
  let unanswered = operations.filter((operation) => operation.returned !== null).length
  // A set of operations is known by the exclusive or of their 64 bits.
  let setLow = 0
  let setHigh = 0
  let cursor = head.after
  let steps = 0
  let longest: readonly Link<Input, Output>[] = []

  function toggle(number: number): void {
    setLow ^= scatter(number, 0x9e3779b9)
    setHigh ^= scatter(number, 0x7feb352d)
  }

  while (unanswered > 0) {
    steps += 1
    if (steps > maxSteps) return { kind: 'undecided' }
    if (cursor?.isCall === true) {
      const { operation } = cursor
      const next = model.step(state, operation.input, operation.returned?.output ?? null)
      if (next !== null) {
        toggle(cursor.number)
        const key = `${setLow}:${setHigh}:${model.key(next)}`
        if (!seen.has(key)) {
          seen.add(key)
          taken.push({ link: cursor, state })
          state = next
          if (operation.returned !== null) unanswered -= 1
          lift(cursor)
          cursor = head.after
          continue
        }
        toggle(cursor.number)
      }
      cursor = cursor.after
      continue
    }
    // A return whose call is still open (or the end) is reached: the last choice was wrong.
    if (taken.length > longest.length) longest = taken.map((choice) => choice.link)
    const last = taken.pop()
    if (last === undefined) {
      const explained = longest.map((link) => link.operation)
      return { kind: 'violated', explained, stuck: openAfter(operations, new Set(explained)) }
    }
    state = last.state
    if (last.link.operation.returned !== null) unanswered += 1
    toggle(last.link.number)
    unlift(last.link)
    cursor = last.link.after
  }
  return { kind: 'linearizable' }
}

/** All calls and returns in the order of time, behind a head that stands for nothing. */
function linkUp<Input, Output>(
  operations: readonly Operation<Input, Output>[],
): {
  after: Link<Input, Output> | null
} {
  const moments: { readonly at: number; readonly link: Link<Input, Output> }[] = []
  for (const [number, operation] of operations.entries()) {
    const returns: Link<Input, Output> | null =
      operation.returned === null
        ? null
        : { operation, number, returns: null, isCall: false, before: null, after: null }
    moments.push({
      at: operation.calledAt,
      link: { operation, number, returns, isCall: true, before: null, after: null },
    })
    if (returns !== null && operation.returned !== null)
      moments.push({ at: operation.returned.at, link: returns })
  }
  // At the same moment a call comes before a return: then the two overlap, which forbids nothing.
  moments.sort((a, b) => a.at - b.at || Number(b.link.isCall) - Number(a.link.isCall))
  const head: Link<Input, Output> = {
    operation: { client: '', calledAt: -Infinity, returned: null, input: undefined as never },
    number: -1,
    returns: null,
    isCall: false,
    before: null,
    after: null,
  }
  let last = head
  for (const { link } of moments) {
    last.after = link
    link.before = last
    last = link
  }
  return head
}

function lift<Input, Output>(link: Link<Input, Output>): void {
  for (const one of [link, link.returns]) {
    if (one === null) continue
    if (one.before !== null) one.before.after = one.after
    if (one.after !== null) one.after.before = one.before
  }
}

function unlift<Input, Output>(link: Link<Input, Output>): void {
  for (const one of [link.returns, link]) {
    if (one === null) continue
    if (one.before !== null) one.before.after = one
    if (one.after !== null) one.after.before = one
  }
}

/** Operations that could have come next: not explained, and called before the first unexplained return. */
function openAfter<Input, Output>(
  operations: readonly Operation<Input, Output>[],
  explained: ReadonlySet<Operation<Input, Output>>,
): readonly Operation<Input, Output>[] {
  const left = operations.filter((operation) => !explained.has(operation) && operation.returned !== null)
  const firstReturn = Math.min(...left.map((operation) => operation.returned?.at ?? Infinity))
  return left.filter((operation) => operation.calledAt <= firstReturn)
}

function scatter(number: number, salt: number): number {
  let mixed = Math.imul(number + 1, salt)
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad)
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
  return mixed ^ (mixed >>> 15)
}
