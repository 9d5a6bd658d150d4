import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, test } from 'node:test'
import {
  claimFolder,
  createIdentity,
  FolderError,
  openIdentity,
  readIdentity,
  type FolderReason,
} from './identity.ts'

const clusterId = 'ab'.repeat(16)
const folders: string[] = []

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

test('the incarnation is raised at every start, durably, before anything else happens', () => {
  const folder = newReplica()
  for (let incarnation = 1; incarnation <= 3; incarnation += 1) {
    const { identity, claim } = openIdentity(folder)
    assert.equal(identity.incarnation, incarnation)
    assert.equal(readIdentity(folder)?.incarnation, incarnation)
    claim.release()
  }
})

test('making a folder that was made before changes nothing', () => {
  const folder = newReplica()
  openIdentity(folder).claim.release()
  createIdentity(folder, { clusterId, replica: 2, replicas: [] })
  assert.equal(readIdentity(folder)?.incarnation, 1)
})

test('the folder of another cluster, or of another replica, is refused', () => {
  const folder = newReplica()
  assert.throws(() => openIdentity(folder, { clusterId: 'cd'.repeat(16) }), reason('otherCluster', folder))
  assert.throws(() => openIdentity(folder, { replica: 3 }), reason('otherReplica', folder))
  assert.throws(
    () => createIdentity(folder, { clusterId: 'cd'.repeat(16), replica: 2, replicas: [] }),
    reason('otherCluster', folder),
  )
  openIdentity(folder, { clusterId, replica: 2 }).claim.release()
})

test('a folder without an identity is refused', () => {
  const folder = newFolder()
  assert.throws(() => openIdentity(folder), reason('notAReplica', folder))
})

test('a replica that had a log and a state is refused when one of them is gone', () => {
  const folder = newReplica()
  const first = openIdentity(folder)
  first.markBegun()
  first.claim.release()
  assert.throws(() => openIdentity(folder), reason('stateMissing', 'The log and the state of r2'))
  mkdirSync(join(folder, 'log'))
  writeFileSync(join(folder, 'log/0000000000000001.wal'), '')
  assert.throws(() => openIdentity(folder), reason('stateMissing', 'The state of r2'))
  writeFileSync(join(folder, 'state-1.db'), '')
  openIdentity(folder).claim.release()
})

test('a replica that never promised anything may begin with an empty folder', () => {
  const folder = newReplica()
  openIdentity(folder).claim.release()
  openIdentity(folder).claim.release()
  assert.equal(readIdentity(folder)?.begun, false)
})

test('an identity of a newer version, and one that cannot be read, are refused', () => {
  const folder = newReplica()
  const path = join(folder, 'replica.json')
  const text = readFileSync(path, 'utf8')
  writeFileSync(path, text.replace('"version": 1', '"version": 2'))
  assert.throws(() => openIdentity(folder), reason('newerVersion', 'newer version'))
  for (const damaged of ['', '{', '[]', '{"version":1}', text.replace('abab', 'xyzz')]) {
    writeFileSync(path, damaged)
    assert.throws(() => openIdentity(folder), reason('damaged', path))
  }
})

test('a folder that another process holds is refused with its pid, and free when that process is killed', async () => {
  const folder = newReplica()
  const holder = spawn(process.execPath, [
    '--input-type=module',
    '-e',
    `import { claimFolder } from ${JSON.stringify(import.meta.resolve('./identity.ts'))}
     claimFolder(${JSON.stringify(folder)}); console.log('claimed'); setInterval(() => {}, 1000)`,
  ])
  await once(holder.stdout, 'data')
  assert.throws(
    () => openIdentity(folder),
    (error) => {
      assert.ok(error instanceof FolderError)
      assert.equal(error.reason, 'inUse')
      assert.equal(error.pid, holder.pid)
      assert.match(error.message, new RegExp(`${folder} is in use by process ${holder.pid}`))
      return true
    },
  )
  assert.equal(readIdentity(folder)?.incarnation, 0)
  holder.kill('SIGKILL')
  await once(holder, 'exit')
  openIdentity(folder).claim.release()
})

test('one process cannot claim a folder twice', () => {
  const folder = newReplica()
  const claim = claimFolder(folder)
  assert.throws(() => claimFolder(folder), reason('inUse', folder))
  claim.release()
  claim.release()
  claimFolder(folder).release()
})

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'parley-identity-'))
  folders.push(folder)
  return folder
}

function newReplica(): string {
  const folder = newFolder()
  createIdentity(folder, { clusterId, replica: 2, replicas: [{ id: 2 }] })
  return folder
}

function reason(expected: FolderReason, text: string): (error: Error) => true {
  return (error) => {
    assert.ok(error instanceof FolderError, error.stack ?? error.message)
    assert.equal(error.reason, expected)
    assert.ok(error.message.includes(text), error.message)
    return true
  }
}
