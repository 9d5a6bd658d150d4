/** The supervisor of a cluster that was started with `parley up`: it can kill, stop and start the replicas of this machine. */
export interface Control {
  act(replica: string, what: ControlAction): Promise<void>
}

export type ControlAction = 'kill' | 'stop' | 'start'

const storageKey = 'parley-control'

/**
 * Takes the supervisor's port and token out of an address such as `#/cluster/7399-TOKEN`, as `parley up` prints it, and keeps them for this tab.
 *
 * @returns the address without the token when there was one in it; null otherwise.
 */
export function keepControl(hash: string, storage: Storage): string | null {
  const match = /^#\/cluster\/([0-9]{1,5}-[A-Za-z0-9_-]{16,64})$/.exec(hash)
  if (match?.[1] === undefined) return null
  storage.setItem(storageKey, match[1])
  return '#/cluster'
}

/** The supervisor, when this tab was opened with its token. */
export function controlOf(storage: Storage): Control | null {
  const kept = storage.getItem(storageKey)
  if (kept === null) return null
  const [port = '', ...token] = kept.split('-')
  return {
    act: async (replica, what) => {
      const response = await fetch(`http://${location.hostname}:${port}/replicas/${replica}/${what}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token.join('-')}` },
      })
      if (!response.ok) throw new Error(await response.text())
    },
  }
}
