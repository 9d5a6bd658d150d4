import type { Latency, LoadResult } from '../src/cli/load.ts'

/** Everything that one run measured; written as JSON and shown as a page. */
export interface Report {
  readonly startedAt: string
  readonly commit: string
  readonly machine: {
    readonly cpu: string
    readonly cores: number
    readonly memoryGb: number
    readonly node: string
  }
  readonly replicas: number
  readonly messageBytes: number
  /** With nothing stored, half a minute after the start. */
  readonly idle: { readonly seconds: number; readonly replicas: readonly ReplicaCost[] }
  readonly sends: readonly SendResult[]
  readonly delivery: { readonly perSecond: number; readonly messages: number; readonly latencyMs: Latency }
  readonly kills: {
    readonly gapsMs: readonly number[]
    /** Sends that were acknowledged while leaders were killed, and those of them that were not there afterwards. */
    readonly acknowledged: number
    readonly lost: number
  }
  /** With exactly so many messages stored, before anything else was measured. */
  readonly stored: {
    readonly messages: number
    /** While nothing has been given back yet of what the load took. */
    readonly rightAfter: readonly ReplicaCost[]
    /** So many seconds later, without requests. */
    readonly settleSeconds: number
    readonly settled: readonly ReplicaCost[]
  }
  readonly etcd: { readonly version: string; readonly puts: readonly LoadResult[] } | null
}

export interface SendResult extends LoadResult {
  /** Of each replica while it was measured. */
  readonly replicas: readonly ReplicaCost[]
  /** Of the load generator, client library included, in percent of a core. */
  readonly clientCpuPercent: number
}

export interface ReplicaCost {
  readonly replica: number
  readonly isLeader: boolean
  /** Of one core. */
  readonly cpuPercent: number
  readonly residentMb: number
}

/** A few lines for the terminal. */
export function summary(report: Report): string {
  const { stored } = report
  const lines = [
    `Parley, ${report.replicas} replicas, ${report.messageBytes}-byte messages, ${report.machine.cores} cores (${report.machine.cpu})`,
    '',
    'outstanding  sends/s   p50 ms   p99 ms   max ms' +
      (report.etcd === null ? '' : '   etcd puts/s   ratio'),
    ...report.sends.map((result) => {
      const { p50, p99, max } = result.latencyMs
      const put = putsAt(report, result.outstanding)
      return [
        pad(result.outstanding, 11),
        pad(result.perSecond, 8),
        pad(p50, 8, 2),
        pad(p99, 8, 2),
        pad(max, 8, 1),
        ...(put === null ? [] : [pad(put.perSecond, 13), pad(result.perSecond / put.perSecond, 7, 1)]),
      ].join(' ')
    }),
    '',
    `delivery, end to end: p50 ${report.delivery.latencyMs.p50.toFixed(2)} ms, p99 ${report.delivery.latencyMs.p99.toFixed(2)} ms, max ${report.delivery.latencyMs.max.toFixed(1)} ms, at ${report.delivery.perSecond} messages per second`,
    `leader killed ${report.kills.gapsMs.length} times: median gap ${median(report.kills.gapsMs).toFixed(0)} ms, longest ${Math.max(0, ...report.kills.gapsMs).toFixed(0)} ms; ${report.kills.lost} of ${report.kills.acknowledged} acknowledged messages lost`,
    `idle: ${cpuOf(report.idle.replicas)}`,
    `idle with ${stored.messages} messages stored: ${cpuOf(stored.settled)}`,
    `resident with nothing stored: ${memoryOf(report.idle.replicas)}`,
    `right after ${stored.messages} messages were stored: ${memoryOf(stored.rightAfter)}`,
    `${stored.settleSeconds} s later: ${memoryOf(stored.settled)}`,
  ]
  return lines.join('\n')
}

/** One page that needs nothing else. */
export function page(report: Report): string {
  const { stored } = report
  const delivery = report.delivery.latencyMs
  const counts = report.sends.map(({ outstanding }) => String(outstanding))
  const charts = [
    bars('Acknowledged sends per second', counts, [
      { name: 'Parley', values: report.sends.map(({ perSecond }) => perSecond) },
      ...(report.etcd === null
        ? []
        : [
            {
              name: `etcd ${report.etcd.version} puts`,
              values: report.etcd.puts.map((put) => put.perSecond),
            },
          ]),
    ]),
    bars('Latency of a send, ms', counts, [
      { name: 'p50', values: report.sends.map(({ latencyMs }) => latencyMs.p50) },
      { name: 'p99', values: report.sends.map(({ latencyMs }) => latencyMs.p99) },
    ]),
    bars(
      'Gap seen by a client when the leader is killed, ms',
      report.kills.gapsMs.map((_, i) => String(i + 1)),
      [{ name: 'gap', values: report.kills.gapsMs }],
    ),
    bars('CPU at the most outstanding, % of a core', report.sends.at(-1)?.replicas.map(nameOf) ?? [], [
      { name: 'CPU', values: report.sends.at(-1)?.replicas.map(({ cpuPercent }) => cpuPercent) ?? [] },
    ]),
    bars(
      `Delivery to a device on another replica at ${report.delivery.perSecond} messages per second, ms`,
      ['p50', 'p99', 'max'],
      [{ name: 'delivery', values: [delivery.p50, delivery.p99, delivery.max] }],
    ),
    bars(`Resident memory, ${stored.messages} messages, MB`, stored.settled.map(nameOf), [
      { name: 'before', values: report.idle.replicas.map(({ residentMb }) => residentMb) },
      { name: 'right after', values: stored.rightAfter.map(({ residentMb }) => residentMb) },
      { name: `${stored.settleSeconds} s later`, values: stored.settled.map(({ residentMb }) => residentMb) },
    ]),
    bars('CPU without requests, % of a core', stored.settled.map(nameOf), [
      { name: 'nothing stored', values: report.idle.replicas.map(({ cpuPercent }) => cpuPercent) },
      { name: `${stored.messages} messages`, values: stored.settled.map(({ cpuPercent }) => cpuPercent) },
    ]),
  ]
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Parley: measured ${report.startedAt}</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
pre { overflow-x: auto; padding: 1rem; border: 1px solid #8884; border-radius: 6px; }
figure { display: inline-block; margin: 1rem 1.5rem 1rem 0; }
svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
</style>
</head>
<body>
<h1>Parley, measured</h1>
<p>${escape(report.startedAt)}, commit ${escape(report.commit)}, ${report.machine.cores} cores (${escape(report.machine.cpu)}), ${report.machine.memoryGb} GB, Node ${escape(report.machine.node)}. Replicas, load generator and etcd share the machine.</p>
<pre>${escape(summary(report))}</pre>
${charts.join('\n')}
<h2>All numbers</h2>
<pre>${escape(JSON.stringify(report, null, 1))}</pre>
</body>
</html>
`
}

interface Series {
  readonly name: string
  readonly values: readonly number[]
}

const colours = ['#3b7dd8', '#e08a2e', '#4aa564']

function bars(title: string, labels: readonly string[], series: readonly Series[]): string {
  const [width, height, left, bottom, top] = [440, 240, 56, 24, 26]
  const highest = Math.max(1e-9, ...series.flatMap(({ values }) => values))
  const group = (width - left) / Math.max(1, labels.length)
  const bar = (group * 0.8) / series.length
  const y = (value: number): number => top + (height - top - bottom) * (1 - value / highest)
  const parts: string[] = []
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    const at = y(highest * part)
    parts.push(
      `<line x1="${left}" x2="${width}" y1="${at}" y2="${at}" stroke="currentColor" stroke-opacity=".15"/>`,
    )
    parts.push(`<text x="${left - 6}" y="${at + 4}" text-anchor="end">${short(highest * part)}</text>`)
  }
  for (const [i, label] of labels.entries()) {
    const x = left + group * i + group * 0.1
    parts.push(`<text x="${x + group * 0.4}" y="${height - 8}" text-anchor="middle">${escape(label)}</text>`)
    for (const [j, { name, values }] of series.entries()) {
      const value = values[i] ?? 0
      parts.push(
        `<rect x="${x + bar * j}" y="${y(value)}" width="${bar * 0.92}" height="${height - bottom - y(value)}" fill="${colours[j % colours.length]}"><title>${escape(name)}, ${escape(label)}: ${short(value)}</title></rect>`,
      )
    }
  }
  for (const [j, { name }] of series.entries())
    parts.push(
      `<rect x="${left + 120 * j}" y="4" width="10" height="10" fill="${colours[j % colours.length]}"/><text x="${left + 120 * j + 15}" y="13">${escape(name)}</text>`,
    )
  return `<figure><figcaption>${escape(title)}</figcaption><svg width="${width}" height="${height}" role="img" aria-label="${escape(title)}">${parts.join('')}</svg></figure>`
}

function putsAt(report: Report, outstanding: number): LoadResult | null {
  return report.etcd?.puts.find((put) => put.outstanding === outstanding) ?? null
}

function cpuOf(replicas: readonly ReplicaCost[]): string {
  return `${replicas.map((one) => `${nameOf(one)} ${one.cpuPercent.toFixed(2)} %`).join(', ')} of a core`
}

function memoryOf(replicas: readonly ReplicaCost[]): string {
  return replicas.map(({ replica, residentMb }) => `r${replica} ${residentMb.toFixed(0)} MB`).join(', ')
}

function nameOf({ replica, isLeader }: ReplicaCost): string {
  return `r${replica}${isLeader ? ' (leader)' : ''}`
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}

function pad(value: number, width: number, digits = 0): string {
  return value.toFixed(digits).padStart(width)
}

function short(value: number): string {
  if (value >= 10_000) return `${(value / 1000).toFixed(0)}k`
  return value >= 100 ? value.toFixed(0) : value.toPrecision(2)
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
}
