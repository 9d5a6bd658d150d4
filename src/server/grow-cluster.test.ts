import assert from 'node:assert/strict'
import { chownSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { claimFolder } from '../storage/identity.ts'
import { readClusterFile, writeClusterFile } from './cluster-file.ts'
import { addLocalReplica, dropReplica, makeJoiningFolder } from './grow-cluster.ts'

const isRoot = process.getuid?.() === 0
const somebody = { uid: 65_534, gid: 65_533 }
const place = (id: number) => ({ id, http: `h:740${id}`, grpc: `h:750${id}`, peer: `h:760${id}` })
const clusterId = 'ab'.repeat(16)

/** All files and folders in there that belong to anybody else. */
function foreign(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) => {
    const { uid, gid } = statSync(join(folder, path))
    return uid !== somebody.uid || gid !== somebody.gid
  })
}

test(
  'what root makes in the folder of a cluster that runs as another user belongs to that one',
  { skip: isRoot ? false : 'only root can act as another user' },
  (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'parley-grow-'))
    t.after(() => rmSync(folder, { recursive: true }))
    writeClusterFile(folder, { version: 1, clusterId, replicas: [place(1)], complete: true })
    for (const path of [folder, join(folder, 'cluster.json')]) chownSync(path, somebody.uid, somebody.gid)
    addLocalReplica(folder, place(2), { learner: false, inPlaceOf: null })
    assert.deepEqual(foreign(folder), [])
    dropReplica(folder, 1)
    assert.deepEqual(readClusterFile(folder)?.replicas, [place(2)])
    assert.deepEqual(foreign(folder), [])
    assert.equal(statSync(join(folder, 'r2')).mode & 0o777, 0o700)
    // And root is root again.
    assert.deepEqual([process.geteuid?.(), process.getegid?.()], [0, process.getgid?.()])

    const alone = mkdtempSync(join(tmpdir(), 'parley-grow-'))
    t.after(() => rmSync(alone, { recursive: true }))
    chownSync(alone, somebody.uid, somebody.gid)
    makeJoiningFolder(alone, { clusterId, contacts: [place(1)] }, place(3), false)
    assert.deepEqual(foreign(alone), [])
  },
)

test('a "parley up" that was killed is not waited for', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'parley-grow-'))
  t.after(() => rmSync(folder, { recursive: true }))
  writeClusterFile(folder, { version: 1, clusterId, replicas: [place(1)], complete: true })
  writeFileSync(join(folder, 'up.json'), JSON.stringify({ pid: process.pid, replicas: [] }))
  const options = { learner: false, inPlaceOf: null }
  assert.equal(addLocalReplica(folder, place(2), options), false)
  const claim = claimFolder(folder)
  assert.equal(addLocalReplica(folder, place(3), options), true)
  claim.release()
})
