import type { ReactNode } from 'react'
import { Icon } from './parts.tsx'
import { useApp } from './use-app.ts'

/** The frame of a page: a head with its title, and a body that scrolls. */
export function Page(props: {
  readonly title: string
  readonly tools?: ReactNode
  /** For pages that show more than text. */
  readonly wide?: boolean
  readonly children: ReactNode
}) {
  return (
    <>
      <PageHead title={props.title} tools={props.tools} />
      <div className="main-body">
        <div className={props.wide === true ? 'column wide' : 'column'}>{props.children}</div>
      </div>
    </>
  )
}

export function PageHead(props: {
  readonly title: string
  readonly under?: ReactNode
  readonly tools?: ReactNode
}) {
  const app = useApp()
  return (
    <header className="main-head">
      <button
        type="button"
        className="button plain tiny back"
        aria-label="Back to the list"
        onClick={() => app.go({ page: 'home' })}
      >
        <Icon name="back" />
      </button>
      <div className="grow">
        <h1 className="ellipsis">{props.title}</h1>
        {props.under !== undefined && <div className="muted small ellipsis">{props.under}</div>}
      </div>
      {props.tools}
    </header>
  )
}
