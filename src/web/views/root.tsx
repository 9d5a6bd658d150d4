import { Shell } from './shell.tsx'
import { SignIn } from './sign-in.tsx'
import { useApp, useAppState } from './use-app.ts'
import { describeState } from '../../client/index.ts'

export function Root() {
  const { phase, chat, connection } = useAppState()
  return (
    <>
      {phase === 'starting' && (
        <main className="gate" role="status">
          <p className="muted">{describeState(connection)}…</p>
        </main>
      )}
      {phase === 'signIn' && <SignIn />}
      {phase === 'chat' && chat !== null && <Shell />}
      <Notices />
    </>
  )
}

function Notices() {
  const app = useApp()
  const { notices } = useAppState()
  return (
    <div className="notices" role="region" aria-label="Notices" aria-live="polite">
      {notices.map((notice) => (
        <div key={notice.id} className={`notice ${notice.kind}`}>
          <span className="grow">{notice.text}</span>
          <button
            type="button"
            className="button plain tiny"
            aria-label="Dismiss"
            onClick={() => app.dismiss(notice.id)}
          >
            ✕
          </button>
        </div>
      ))}
    </div>
  )
}
