import { createContext, useContext, useSyncExternalStore } from 'react'
import type { App } from '../app.ts'
import type { Chat } from '../store/chat.ts'
import type { AppState } from '../store/state.ts'

export const AppContext = createContext<App | null>(null)

export function useApp(): App {
  const app = useContext(AppContext)
  if (app === null) throw new Error('a view stands outside of AppContext')
  return app
}

export function useAppState(): AppState {
  const app = useApp()
  return useSyncExternalStore(app.listen, app.getState)
}

/** The chat of the signed-in account: only below the shell, which is shown only while somebody is signed in. */
export function useChat(): Chat {
  const { chat } = useAppState()
  if (chat === null) throw new Error('nobody is signed in')
  return chat
}
