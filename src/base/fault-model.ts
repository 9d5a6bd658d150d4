/** What a cluster of this fault model survives and rests on, in one sentence for people. */
export function assumptionOf(faultModel: string): string {
  return faultModel === 'fail-stop'
    ? 'any of the replicas but one may crash; the network between them must never be cut'
    : 'fewer than half of the replicas may fail in any way; the network may do what it likes'
}
