import assert from 'node:assert/strict'
import { test } from 'node:test'
import { configurationOf, Host } from './harness.ts'

test('a single voter leads at once and commits only what is on its own disk (etcd 14370)', () => {
  const host = new Host(1, configurationOf([1])).tick()
  host.ready()
  assert.equal(host.core.status().role, 'candidate')
  host.settle()
  assert.equal(host.core.status().role, 'leader')
  host.propose('a')
  host.ready()
  assert.equal(host.core.status().commitIndex, 1)
  host.flush()
  host.settle()
  assert.deepEqual(host.history, ['1/1 noop', '2/1 "a"'])
})
