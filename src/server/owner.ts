import { statSync } from 'node:fs'

/**
 * Does, as the user that the folder belongs to, what makes files in it: root may decide about replicas that run as another user, and those could not read what root made. `work`
 * must be done when it returns, since the whole process is that user meanwhile.
 */
export function asOwnerOf<T>(folder: string, work: () => T): T {
  const owner = statSync(folder, { throwIfNoEntry: false })
  const { geteuid, getegid, seteuid, setegid } = process
  if (owner === undefined || geteuid?.() !== 0 || seteuid === undefined) return work()
  if (getegid === undefined || setegid === undefined) return work()
  const group = getegid()
  setegid(owner.gid)
  seteuid(owner.uid)
  try {
    return work()
  } finally {
    seteuid(0)
    setegid(group)
  }
}
