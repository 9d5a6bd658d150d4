const width = 320
const height = 90

/** A line over the last samples, the newest at the right. */
export function Plot(props: {
  readonly title: string
  readonly unit: string
  readonly values: readonly number[]
}) {
  const { values } = props
  const most = Math.max(1, ...values)
  const step = width / 89
  const from = width - (values.length - 1) * step
  const points = values.map(
    (value, index) =>
      `${(from + index * step).toFixed(1)},${(height - 4 - (value / most) * (height - 12)).toFixed(1)}`,
  )
  const newest = numberText(values.at(-1) ?? 0)
  return (
    <figure className="plot card">
      <figcaption className="row">
        <span className="grow">{props.title}</span>
        <strong>
          {newest}
          {props.unit}
        </strong>
      </figcaption>
      <svg
        viewBox={`0 0 ${width} ${height}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`${props.title}: now ${newest}${props.unit}, at most ${numberText(most)}${props.unit} in the last minute and a half`}
      >
        <polyline points={points.join(' ')} />
      </svg>
      <span className="muted small">
        at most {numberText(most)}
        {props.unit}
      </span>
    </figure>
  )
}

function numberText(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString() : value.toFixed(1)
}
