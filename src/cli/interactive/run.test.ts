import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeNetwork } from '../../client/testing.ts'
import { runCli } from '../program.ts'
import { FakeProcess, FakeTerminal, finish } from '../testing.ts'
import { runInteractive } from './run.ts'

test('when the terminal is closed, --log-out signs out', async () => {
  const network = new FakeNetwork(1)
  network.chat.passwords.set('ann', 'secret')
  const terminal = new FakeTerminal(80)
  const fake = new FakeProcess(network)
  fake.environment['PARLEY_SERVER'] = network.addresses.join(',')
  fake.canAsk = true
  fake.terminalShown = terminal
  fake.answers.push('ann', 'secret')
  const code = runCli(['--log-out'], fake.io, runInteractive)
  await network.clock.pass(1000)
  assert.equal(network.chat.tokens.size, 1)
  assert.equal(terminal.rows.at(-1), 'parley>')
  await terminal.hangUp()
  assert.equal(await finish(network, code), 0)
  assert.equal(network.chat.tokens.size, 0)
  assert.equal(fake.files.size, 0)
})
