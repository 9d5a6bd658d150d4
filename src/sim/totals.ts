import type { FaultKind } from './faults.ts'
import type { SimResult } from './simulate.ts'

/** What many runs came to. */
export interface Totals {
  add(result: SimResult): void
  line(): string
  summary(): string
}

export function createTotals(): Totals {
  const startMs = performance.now()
  const startCpu = process.cpuUsage()
  const faults = new Map<FaultKind, number>()
  const sums = {
    seeds: 0,
    violations: 0,
    simulatedMs: 0,
    events: 0,
    operations: 0,
    answered: 0,
    unknown: 0,
    crashes: 0,
    powerCuts: 0,
    elections: 0,
    snapshots: 0,
    compactions: 0,
    membershipChanges: 0,
    takenForDead: 0,
    diverged: 0,
    messages: 0,
    lost: 0,
  }

  function line(): string {
    const elapsedS = (performance.now() - startMs) / 1000
    const { user, system } = process.cpuUsage(startCpu)
    const cpuS = (user + system) / 1e6
    const hours = sums.simulatedMs / 3_600_000
    return [
      `${sums.seeds} seeds`,
      `${hours.toFixed(2)} simulated hours (${((hours * 3600) / cpuS).toFixed(0)} per hour of one core)`,
      `${(sums.events / 1e6).toFixed(1)} M events`,
      `${[...faults.values()].reduce((a, b) => a + b, 0)} faults`,
      `${sums.elections} elections`,
      `${sums.snapshots} snapshots`,
      `${sums.violations} violations`,
      `${elapsedS.toFixed(0)} s`,
    ].join(', ')
  }

  return {
    add(result) {
      sums.seeds += 1
      if (result.violation !== null) sums.violations += 1
      sums.simulatedMs += result.simulatedMs
      sums.events += result.events
      sums.operations += result.operations
      sums.answered += result.answered
      sums.unknown += result.unknown
      sums.crashes += result.cluster.crashes
      sums.powerCuts += result.cluster.powerCuts
      sums.elections += result.cluster.elections
      sums.snapshots += result.cluster.snapshots
      sums.compactions += result.cluster.compactions
      sums.membershipChanges += result.cluster.membershipChanges
      sums.takenForDead += result.cluster.takenForDead
      sums.diverged += result.cluster.diverged
      sums.messages += result.network.delivered
      sums.lost += result.network.lost
      for (const [kind, count] of result.faults) faults.set(kind, (faults.get(kind) ?? 0) + count)
    },
    line,
    summary: () =>
      [
        line(),
        `calls ${sums.operations}, answered ${sums.answered}, outcome never known ${sums.unknown}`,
        `crashes ${sums.crashes}, power cuts ${sums.powerCuts}, membership changes ${sums.membershipChanges}, compactions ${sums.compactions}`,
        ...(sums.takenForDead + sums.diverged > 0
          ? [`halted: taken for dead ${sums.takenForDead}, gone on without others ${sums.diverged}`]
          : []),
        `messages ${sums.messages}, lost ${sums.lost}`,
        `faults: ${[...faults].map(([kind, count]) => `${kind} ${count}`).join(', ')}`,
      ].join('\n'),
  }
}
