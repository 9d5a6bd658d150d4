import type { Violation } from './invariants.ts'
import type { TracedEvent } from './trace.ts'

/** What the page of a failed run shows. */
export interface PageContent {
  readonly title: string
  readonly command: string
  readonly violation: Violation | null
  readonly faults: readonly string[]
  readonly events: readonly TracedEvent[]
}

const rowHeight = 18
const laneWidth = 190
const timeWidth = 110

/** A page on its own: a lane per replica (time runs downwards, one row per event), messages drawn between them, what was violated at the end. */
export function tracePage(content: PageContent): string {
  const { title, command, violation, faults, events } = content
  const lanes = [...new Set(events.map((event) => event.lane))]
    .filter((lane) => lane !== 0)
    .sort((a, b) => (a > 0 ? a : 1000 - a) - (b > 0 ? b : 1000 - b))
  const x = (lane: number): number => timeWidth + (lanes.indexOf(lane) + 0.5) * laneWidth
  const y = (row: number): number => 50 + row * rowHeight
  const width = timeWidth + Math.max(1, lanes.length) * laneWidth + 20
  const height = y(events.length) + 60
  const parts: string[] = []
  for (const lane of lanes)
    parts.push(
      `<line class="lane" x1="${x(lane)}" x2="${x(lane)}" y1="40" y2="${height}"/>`,
      `<text class="head" x="${x(lane)}" y="28">${lane > 0 ? `r${lane}` : `client ${-lane}`}</text>`,
    )
  for (const [row, event] of events.entries()) {
    const at = y(row)
    const label = escape(`${event.timeMs.toFixed(3)} ms  ${event.kind}  ${event.text}`)
    parts.push(
      `<g class="event ${escape(event.kind)}"><title>${label}</title><text class="time" x="4" y="${at + 4}">${event.timeMs.toFixed(2)}</text>`,
    )
    if (event.message !== null && lanes.includes(event.message.from)) {
      const from = at - rowHeight * Math.min(12, rowsSince(events, row, event.message.sentMs))
      parts.push(
        `<line class="arrow" x1="${x(event.message.from)}" y1="${from}" x2="${x(event.lane)}" y2="${at}" marker-end="url(#head)"/>`,
      )
    }
    if (event.lane === 0)
      parts.push(`<text class="note" x="${timeWidth}" y="${at + 4}">${escape(event.text)}</text>`)
    else {
      const short = `${event.kind === 'message' ? '' : `${event.kind} `}${event.text.replace(/^from r\d+: /, '')}`
      parts.push(
        `<circle cx="${x(event.lane)}" cy="${at}" r="3"/><text x="${x(event.lane) + 6}" y="${at + 4}">${escape(short.slice(0, 30))}</text>`,
      )
    }
    parts.push('</g>')
  }
  if (violation !== null)
    parts.push(
      `<rect class="violation" x="4" y="${height - 45}" width="${width - 8}" height="30"/>`,
      `<text class="violated" x="12" y="${height - 25}">${escape(`violated: ${violation.rule}`)}</text>`,
    )
  const kinds = [...new Set(events.map((event) => event.kind))].sort()
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>${escape(title)}</title>
<style>
body { font: 14px system-ui, sans-serif; margin: 1rem; color: #222; background: #fff }
svg { font: 11px ui-monospace, monospace; display: block }
.lane { stroke: #ccc } .head { font-weight: bold; text-anchor: middle; font-size: 14px } .time { fill: #999 }
.arrow { stroke: #69c; stroke-width: 1 } .lost .arrow, .lost circle { stroke: #c66 } .note { fill: #a50; font-weight: bold }
.fault circle, .crash circle { fill: #c30 } .violation { fill: #fdd; stroke: #c00 } .violated { fill: #900; font-weight: bold; font-size: 14px }
.event:hover text { fill: #06c } .hidden { display: none }
pre { background: #f4f4f4; padding: .5rem; white-space: pre-wrap } label { margin-right: 1em }
</style>
<h1>${escape(title)}</h1>
${violation === null ? '' : `<p><strong>Violated: ${escape(violation.rule)}.</strong> ${escape(violation.message)}</p>`}
<pre>${escape(command)}</pre>
<details><summary>${faults.length} faults</summary><pre>${escape(faults.join('\n'))}</pre></details>
<p>${kinds.map((kind) => `<label><input type="checkbox" checked value="${escape(kind)}"> ${escape(kind)}</label>`).join('')}</p>
<svg width="${width}" height="${height}"><defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="3" orient="auto"><path d="M0,0 L7,3 L0,6 z" fill="#69c"/></marker></defs>
${parts.join('\n')}
</svg>
<script>
for (const box of document.querySelectorAll('input'))
  box.addEventListener('change', () => {
    for (const event of document.getElementsByClassName('event'))
      if (event.classList.contains(box.value)) event.classList.toggle('hidden', !box.checked)
  })
</script>
</html>
`
}

/** How many events came since a message was sent. */
function rowsSince(events: readonly TracedEvent[], row: number, sentMs: number): number {
  let rows = 0
  while (row - rows > 0 && (events[row - rows - 1]?.timeMs ?? -1) >= sentMs) rows += 1
  return rows
}

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`)
}
