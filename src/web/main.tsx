import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { createClient, formatServerAddress } from '../client/index.ts'
import { App } from './app.ts'
import { keepControl } from './control.ts'
import { browserOutboxStorage } from './outbox-storage.ts'
import './styles.css'
import { browserDraftStorage } from './unsaved-drafts.ts'
import { UnsentTexts } from './unsent-texts.ts'
import { Root } from './views/root.tsx'
import { AppContext } from './views/use-app.ts'

const sessionKey = 'parley-session'

/** The supervisor's token does not stay in the address, where it would be copied and kept. */
function takeControl(): void {
  const withoutToken = keepControl(location.hash, sessionStorage)
  if (withoutToken !== null) history.replaceState(null, '', withoutToken)
}
takeControl()

const app = new App({
  address: formatServerAddress({
    host: location.host,
    secure: location.protocol === 'https:',
    pin: null,
  }),
  outbox: browserOutboxStorage(indexedDB),
  drafts: browserDraftStorage(localStorage),
  unsent: new UnsentTexts(sessionStorage),
  createClient,
  readSession: () => localStorage.getItem(sessionKey),
  writeSession: (session) =>
    session === null ? localStorage.removeItem(sessionKey) : localStorage.setItem(sessionKey, session),
  readHash: () => location.hash,
  writeHash: (hash) => {
    if (location.hash !== hash) location.hash = hash
  },
  device: deviceName(navigator.userAgent),
})

window.addEventListener('hashchange', () => {
  takeControl()
  app.hashChanged()
})
window.addEventListener('online', app.wake)
document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && app.wake())

const element = document.getElementById('app')
if (element === null) throw new Error('the page has no place for the app')
createRoot(element).render(
  <StrictMode>
    <AppContext value={app}>
      <Root />
    </AppContext>
  </StrictMode>,
)

/** `Firefox on Linux`: what the list of sessions shows. */
function deviceName(agent: string): string {
  const browser = /Edg\//.test(agent)
    ? 'Edge'
    : /Firefox\//.test(agent)
      ? 'Firefox'
      : /Chrom(e|ium)\//.test(agent)
        ? 'Chrome'
        : /Safari\//.test(agent)
          ? 'Safari'
          : 'Browser'
  const system = /Android/.test(agent)
    ? 'Android'
    : /iPhone|iPad/.test(agent)
      ? 'iOS'
      : /Windows/.test(agent)
        ? 'Windows'
        : /Mac OS/.test(agent)
          ? 'macOS'
          : /Linux/.test(agent)
            ? 'Linux'
            : 'unknown system'
  return `${browser} on ${system}`
}
