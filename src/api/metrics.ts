import { Gauge, Registry, collectDefaultMetrics } from 'prom-client'
import type { Reason } from '../gen/parley/v1/model.ts'
import type { Replica } from '../replica/types.ts'
import type { Op, Result } from './calls.ts'
import { reasonName } from './errors.ts'

/** What `/metrics` shows. Counting a request costs a few additions; names and labels are put together only when somebody asks. */
export interface Metrics {
  answered(op: Op['$case'], result: Result, tookMs: number): void
  /** Adds a number that is read when it is asked for. */
  gauge(name: string, help: string, read: () => number): void
  /** The text of `/metrics` and its content type. */
  render(): Promise<{ readonly type: string; readonly text: string }>
}

/** Upper bounds in milliseconds. */
const bounds = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000] as const

interface Counts {
  ok: number
  readonly failed: Map<Reason, number>
  /** How many took at most so long and longer than the bound before; the last one counts what is above all bounds. */
  readonly buckets: number[]
  sumMs: number
}

export function createMetrics(replica: Replica): Metrics {
  const byOp = new Map<Op['$case'], Counts>()
  const registry = new Registry()
  // The delay of the event loop is sampled every 500 ms rather than 10: an idle replica should not keep a core awake.
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 500 })

  function gauge(name: string, help: string, read: () => number): void {
    registry.registerMetric(
      new Gauge({
        name,
        help,
        registers: [],
        collect() {
          this.set(read())
        },
      }),
    )
  }
  gauge('parley_position', 'Commands applied.', () => replica.position)
  gauge('parley_quorum', '1 when a commit quorum can be reached.', () => (replica.state.quorum ? 1 : 0))
  gauge('parley_leader', 'The replica that leads as this one knows; 0 = none.', () => replica.state.leader)
  gauge('parley_is_leader', '1 on the leader.', () => (replica.state.leader === replica.state.self ? 1 : 0))
  const own = () => replica.status().replicas.find(({ id }) => id === replica.state.self)
  gauge('parley_term', 'The term of the log.', () => own()?.term ?? 0)
  gauge('parley_commit_index', 'The index up to which the log is committed.', () => own()?.commitIndex ?? 0)
  gauge('parley_applied_index', 'The index up to which the log is applied.', () => own()?.appliedIndex ?? 0)
  gauge('parley_last_index', 'The last index of the log.', () => own()?.lastIndex ?? 0)
  gauge('parley_log_bytes', 'Size of the log on disk.', () => own()?.logBytes ?? 0)
  gauge('parley_state_bytes', 'Size of the state on disk.', () => own()?.stateBytes ?? 0)

  return {
    answered(op, result, tookMs) {
      let counts = byOp.get(op)
      if (counts === undefined) {
        counts = {
          ok: 0,
          failed: new Map(),
          buckets: Array.from({ length: bounds.length + 1 }, () => 0),
          sumMs: 0,
        }
        byOp.set(op, counts)
      }
      if (result.$case === 'error')
        counts.failed.set(result.value.reason, (counts.failed.get(result.value.reason) ?? 0) + 1)
      else counts.ok += 1
      let bucket = 0
      while (bucket < bounds.length && tookMs > (bounds[bucket] ?? Infinity)) bucket += 1
      counts.buckets[bucket] = (counts.buckets[bucket] ?? 0) + 1
      counts.sumMs += tookMs
    },
    gauge,
    async render() {
      return { type: registry.contentType, text: `${await registry.metrics()}\n${requestLines(byOp)}` }
    },
  }
}

/** In the Prometheus text format. */
function requestLines(byOp: ReadonlyMap<string, Counts>): string {
  const totals = [
    '# HELP parley_requests_total Requests answered, by operation and outcome.',
    '# TYPE parley_requests_total counter',
  ]
  const durations = [
    '# HELP parley_request_duration_seconds From the arrival of a request to its answer.',
    '# TYPE parley_request_duration_seconds histogram',
  ]
  for (const [op, { ok, failed, buckets, sumMs }] of byOp) {
    totals.push(`parley_requests_total{op="${op}",outcome="OK"} ${ok}`)
    for (const [reason, count] of failed)
      totals.push(`parley_requests_total{op="${op}",outcome="${reasonName(reason)}"} ${count}`)
    let count = 0
    for (const [index, inBucket] of buckets.entries()) {
      count += inBucket
      const bound = bounds[index]
      durations.push(
        `parley_request_duration_seconds_bucket{op="${op}",le="${bound === undefined ? '+Inf' : bound / 1000}"} ${count}`,
      )
    }
    durations.push(`parley_request_duration_seconds_sum{op="${op}"} ${sumMs / 1000}`)
    durations.push(`parley_request_duration_seconds_count{op="${op}"} ${count}`)
  }
  return [...totals, ...durations, ''].join('\n')
}
