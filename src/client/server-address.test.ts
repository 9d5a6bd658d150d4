import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addressBeside, formatServerAddress, parseServerAddress } from './server-address.ts'

const pin = '0123456789abcdef'.repeat(4)

test('an address says whether it is reached over TLS, and which authority is pinned', () => {
  assert.deepEqual(parseServerAddress('a.example:7401'), { host: 'a.example:7401', secure: false, pin: null })
  assert.deepEqual(parseServerAddress('a.example'), { host: 'a.example', secure: false, pin: null })
  assert.deepEqual(parseServerAddress('parleys://[::1]:1'), { host: '[::1]:1', secure: true, pin: null })
  assert.deepEqual(parseServerAddress(`parleys://a#sha256=${pin.toUpperCase()}`), {
    host: 'a',
    secure: true,
    pin,
  })
})

test('what is no address is not taken for one', () => {
  for (const wrong of [
    '',
    ':7400',
    'a:0',
    'a:65536',
    'a b',
    'http://a:1',
    `a:1#sha256=${pin}`,
    `parleys://a:1#sha256=${pin.slice(1)}`,
    'parleys://a:1#',
    'parleys://a:1/x',
    '::1:7400',
  ])
    assert.equal(parseServerAddress(wrong), null, wrong)
})

test('addresses are written as they are read', () => {
  for (const text of ['a:1', 'parleys://a:1', `parleys://[::1]:1#sha256=${pin}`]) {
    const address = parseServerAddress(text)
    assert.ok(address !== null)
    assert.equal(formatServerAddress(address), text)
  }
})

test('replicas that are learned are reached as the one that told of them', () => {
  assert.equal(addressBeside('a:1', 'b:2'), 'b:2')
  assert.equal(addressBeside('ws://a:1/ws', 'b:2'), 'b:2')
  assert.equal(addressBeside('wss://a:1/ws', 'b:2'), 'parleys://b:2')
  assert.equal(addressBeside(`parleys://a:1#sha256=${pin}`, 'b:2'), `parleys://b:2#sha256=${pin}`)
})
