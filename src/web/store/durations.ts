/** In seconds, the shortest first. */
export const durationUnits = { minutes: 60, hours: 3600, days: 86_400 } as const
export type DurationUnit = keyof typeof durationUnits

/** A time in the largest unit of which it is a whole number; what is not whole in minutes is rounded up to them. */
export function durationParts(seconds: number): { readonly count: number; readonly unit: DurationUnit } {
  const isWhole = (unit: DurationUnit): boolean => seconds > 0 && seconds % durationUnits[unit] === 0
  const unit = isWhole('days') ? 'days' : isWhole('hours') ? 'hours' : 'minutes'
  return { count: Math.ceil(seconds / durationUnits[unit]), unit }
}

/** `for 30 days`, `for ever`: how long messages are kept. */
export function keptText(retentionS: number): string {
  if (retentionS === 0) return 'for ever'
  const { count, unit } = durationParts(retentionS)
  return `for ${count} ${count === 1 ? unit.slice(0, -1) : unit}`
}
