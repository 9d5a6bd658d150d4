import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import axe from 'axe-core'
import type { AxeResults, RunOptions } from 'axe-core'

import type { Client } from '../src/client/index.ts'
import { createControl } from '../src/server/control.ts'
import { readAll, until } from './support/ledger.ts'
import { Person } from './support/person.ts'
import { describeWeb, limitMs } from './support/web.ts'

const account = (name: string) => ({ target: { $case: 'account', value: name } as const })

describeWeb('the web app in a browser, whatever dies and however it is looked at', (web) => {
  test('axe finds nothing on any page, light or dark, wide or narrow', async () => {
    const uma = await web().signUp('uma')
    const sender = await web().client('vic')
    await web().client('ann')
    await sender.call('createRoom', { name: 'pier', topic: 'where ships lie' })
    for (const text of ['good morning', 'see https://example.org', 'bye'])
      await sender.call('sendMessage', { to: account('uma'), text })
    const { page } = uma
    await uma.open('Drafts')
    await uma.press('New draft')
    await page.getByLabel('Text').fill('later')
    await uma.press('Save')
    await uma.seesNoMore(page.getByRole('dialog'))
    await sender.call('inviteToRoom', { name: 'pier', account: 'uma' })
    const hrefOf = async (title: string): Promise<string> =>
      (await uma.entry(title).getByRole('link').getAttribute('href')) ?? ''
    const [direct, pier] = [await hrefOf('vic'), await hrefOf('#pier')]
    await page.evaluate(axe.source)
    const check = async (where: string, regions = true) => {
      for (const scheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' })
        const found = await page.evaluate(runAxe, regions)
        assert.deepEqual(found, [], `${where}, ${scheme}`)
      }
    }
    const places = [
      ['#/', ''],
      [direct, 'vic'],
      ['#/to/ann', 'ann'],
      ['#/inbox', 'Inbox'],
      ['#/drafts', 'Drafts'],
      ['#/people', 'People'],
      ['#/rooms', 'Rooms'],
      ['#/search', 'Search'],
      ['#/settings', 'Settings'],
      ['#/cluster', 'Cluster'],
    ] as const
    for (const width of [1280, 390]) {
      await page.setViewportSize({ width, height: 800 })
      for (const [hash, title] of places) {
        await page.evaluate((to) => (location.hash = to), hash)
        if (title !== '') await page.getByRole('heading', { level: 1, name: title }).waitFor()
        if (hash === '#/cluster') {
          await page.locator('.drawing').waitFor()
          const table = page.getByRole('group', { name: 'Replicas in numbers' })
          const isWhole = await table.evaluate((box) => box.scrollWidth <= box.clientWidth)
          assert.ok(isWhole || width < 1280, 'the table of replicas shows all its columns')
        }
        assert.equal(
          await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth),
          true,
          hash,
        )
        await check(`${hash} at ${width}`)
      }
      const members = page.locator('main').getByRole('button', { name: /^[0-9]+ members?$/ })
      const dialogs: readonly (readonly [string, string, () => Promise<void>])[] = [
        ['the switcher', '#/', () => page.keyboard.press('Control+k')],
        ['the keys', '#/', () => page.keyboard.press('Control+/')],
        ['a new room', '#/rooms', () => uma.press('New room')],
        ['a new draft', '#/drafts', () => uma.press('New draft')],
        ['the members', pier, () => members.click()],
      ]
      for (const [name, hash, show] of dialogs) {
        await page.evaluate((to) => (location.hash = to), hash)
        await show()
        await page.getByRole('dialog').waitFor()
        await check(`${name} at ${width}`)
        await page.keyboard.press('Escape')
        await uma.seesNoMore(page.getByRole('dialog'))
      }
      await page.evaluate((to) => (location.hash = to), direct)
      await uma.row('bye').hover()
      await uma
        .row('bye')
        .getByRole('button', { name: /^Actions/ })
        .click()
      await page.getByRole('menu').waitFor()
      // An open menu lies over the page, outside of its landmarks.
      await check(`the menu of a message at ${width}`, false)
      await page.keyboard.press('Escape')
    }
    await page.evaluate(() => (location.hash = '#/settings'))
    await uma.press('Log out')
    await page.getByLabel('Name', { exact: true }).waitFor()
    await check('signing in')
    for (const [name, words] of [
      ['uma', 'Welcome back, uma'],
      ['quentin', 'Welcome, new user quentin'],
    ] as const) {
      await page.reload()
      await page.evaluate(axe.source)
      await uma.giveName(name)
      await page.getByRole('heading', { name: words }).waitFor()
      await check(words)
    }
    await web().leave(uma)
  })

  test('the leader and another replica are killed while both type; then there is no quorum, and a reload', async () => {
    const leader = await web().cluster.untilServing()
    const ids = web().cluster.replicas.map(({ id }) => id)
    // One is served by the leader, the other by one that stays, so that its page can be loaded again.
    const [stays = 0, second = 0, third = 0] = ids.filter((id) => id !== leader)
    const wes = await web().signUp('wes', leader - 1)
    const xia = await web().signUp('xia', stays - 1)
    const reader = await web().client('xia', 'logIn')
    await xia.writeTo('wes')
    await xia.say('begin')
    await wes.openConversation('xia')
    const late = await Person.at(web().browser, web().address(stays - 1), 'late')
    late.mayMissReplicas = true
    for (const person of [wes, xia]) {
      person.mayMissReplicas = true
      await person.untilTexts(['begin'])
      await person.page.evaluate(() => Object.assign(window, { sameDocument: true }))
    }

    // Sent just when the leader is gone.
    await xia.page.evaluate(watchForFlicker, 'xia 4')
    for (let i = 1; i <= 12; i += 1) {
      await Promise.all([wes.say(`wes ${i}`), xia.say(`xia ${i}`)])
      if (i === 3) await web().cluster.end(leader, 'SIGKILL')
      if (i === 7) await web().cluster.end(second, 'SIGKILL')
    }
    const own = (name: string) => Array.from({ length: 12 }, (_, i) => `${name} ${i + 1}`)
    const conversation = await untilStored(reader, 'wes', 25)
    const stored = conversation.map((message) => message.text)
    assert.equal(stored[0], 'begin')
    for (const name of ['wes', 'xia'])
      assert.deepEqual(
        stored.filter((text) => text.startsWith(name)),
        own(name),
      )
    for (const person of [wes, xia]) {
      await person.untilTexts(stored)
      assert.equal(await person.page.evaluate(() => 'sameDocument' in window), true)
      await person.banner().getByText('connected via').waitFor()
    }
    assert.ok(!(await wes.banner().innerText()).includes(`r${leader}`))
    assert.deepEqual(await xia.page.evaluate(() => Reflect.get(window, 'flickers')), [])

    await web().cluster.end(third, 'SIGKILL')
    for (const person of [wes, xia]) await person.banner().getByText('no quorum: read-only').waitFor()
    await late.giveName('late')
    await late.sees('no quorum: read-only')
    for (const text of ['queued 1', 'queued 2', 'queued 3']) await xia.say(text)
    await xia.banner().getByText('3 messages queued').waitFor()
    // The storage follows a moment later: what was sent just before the third was killed leaves it.
    await until(async () => (await storedIds(xia)).length === 3, 'the three are stored', limitMs)
    const ids1 = await storedIds(xia)
    // A draft waits too.
    await xia.open('Drafts')
    await xia.press('New draft')
    await xia.page.getByLabel('Text').fill('for a better day')
    await xia.press('Save')
    await xia.seesNoMore(xia.page.getByRole('dialog'))
    const draft = xia.page.locator('.main li', { hasText: 'for a better day' })
    const draftWaits = draft.getByText('Kept on this device; saved when the cluster is back.')
    await draftWaits.waitFor()
    await xia.openConversation('wes')
    await xia.composer().fill('not sent yet')
    await xia.page.reload()
    await xia.shell()
    assert.equal(await xia.composer().inputValue(), 'not sent yet')
    await xia.composer().fill('')
    await xia.open('Drafts')
    await draftWaits.waitFor()
    await xia.openConversation('wes')
    await xia.untilTexts([...stored, 'queued 1', 'queued 2', 'queued 3'])
    assert.equal(await xia.page.locator('.message.pending').count(), 3)
    assert.deepEqual(await storedIds(xia), ids1)

    web().cluster.start(leader, second, third)
    await web().cluster.untilServing()
    const after = await untilStored(reader, 'wes', 28)
    assert.deepEqual(
      after.slice(-3).map((message) => [message.text, Buffer.from(message.id).toString('hex')]),
      ids1.map((id, at) => [`queued ${at + 1}`, id]),
    )
    for (const person of [wes, xia]) {
      await person.untilTexts(after.map((message) => message.text))
      await person.banner().getByText('connected via').waitFor()
    }
    await xia.seesNoMore(xia.page.locator('.message.pending'))
    await until(async () => (await storedIds(xia)).length === 0, 'nothing is left to be sent', limitMs)
    await xia.open('Drafts')
    await draft.getByRole('checkbox').waitFor()
    await xia.seesNoMore(draftWaits)
    await web().leave(wes, xia, late)
  })

  test('with the token of the supervisor the page kills and starts replicas, and the tour loses two of five', async () => {
    const token = randomBytes(24).toString('base64url')
    const control = createControl({
      token,
      addresses: () => web().cluster.addresses,
      act: (replica, action) => {
        if (action === 'start') web().cluster.start(replica)
        else void web().cluster.end(replica, action === 'kill' ? 'SIGKILL' : 'SIGTERM')
        return null
      },
    })
    control.listen(0, '127.0.0.1')
    await once(control, 'listening')
    const yva = await web().signUp('yva')
    yva.mayMissReplicas = true
    const { page } = yva
    try {
      await yva.open('Cluster')
      await yva.sees('Replicas can be killed and started from here')
      const { port } = control.address() as AddressInfo
      await page.goto(`http://${web().address()}/#/cluster/${port}-${token}`)
      await yva.sees('2 more may fail.')
      assert.ok(!page.url().includes(token))
      const leader = await web().cluster.untilServing()
      const own = page
        .getByRole('list', { name: 'Replicas' })
        .getByRole('listitem')
        .nth(leader - 1)
      await own.getByRole('button', { name: 'Kill' }).click()
      await yva.sees('1 more may fail.')
      await page.locator('.replica.gone').waitFor()
      await own.getByRole('button', { name: 'Start' }).click()
      await yva.sees('2 more may fail.')
      await yva.seesNoMore(page.locator('.replica.gone'))

      await yva.press('Start the tour')
      await page.getByText('was killed.').nth(1).waitFor()
      await yva.sees('No more may fail.')
      await page.getByText('was started again.').nth(1).waitFor()
      await yva.sees('2 more may fail.')
      const said = await page.locator('.tour li', { hasText: 'Sent:' }).allInnerTexts()
      assert.equal(said.length, 8)
      await yva.openConversation('#tour')
      await yva.untilTexts(said.map((line) => /"(.*)"/.exec(line)?.[1] ?? ''))
      await web().leave(yva)
    } finally {
      control.close()
      control.closeAllConnections()
    }
  })
})

/** All messages with somebody, once there are so many. */
async function untilStored(client: Client, name: string, count: number): ReturnType<typeof readAll> {
  const { conversation } = await client.call('getConversation', { conversation: account(name) })
  let messages = await readAll(client, conversation?.id ?? 0)
  await until(
    async () => {
      messages = await readAll(client, conversation?.id ?? 0)
      return messages.length >= count
    },
    `${count} messages are stored`,
    2 * limitMs,
  )
  assert.equal(messages.length, count)
  return messages
}

/** The ids of the messages that the page keeps until they are sent. */
async function storedIds(person: Person): Promise<readonly string[]> {
  return person.page.evaluate(async () => {
    const done = (request: IDBRequest) =>
      new Promise((resolve, reject) => {
        request.addEventListener('success', resolve)
        request.addEventListener('error', reject)
      })
    const opening = indexedDB.open('parley-outbox')
    await done(opening)
    const all = opening.result.transaction('items').objectStore('items').getAll()
    await done(all)
    opening.result.close()
    return all.result.map((item: { readonly id: string }) => item.id)
  })
}

/** Runs in the page: from when the text is first shown it must be there once, in every frame. */
function watchForFlicker(text: string): void {
  const flickers: number[] = []
  Object.assign(window, { flickers })
  let shown = false
  const look = () => {
    const rows = [...document.querySelectorAll('.message .text')].filter((row) => row.textContent === text)
    shown ||= rows.length > 0
    if (shown && rows.length !== 1) flickers.push(rows.length)
    requestAnimationFrame(look)
  }
  look()
}

/** Runs in the page, where axe has been put. */
async function runAxe(regions: boolean): Promise<readonly string[]> {
  const page = globalThis as unknown as {
    readonly axe: { run(options: RunOptions): Promise<AxeResults> }
  }
  const { violations } = await page.axe.run({ rules: { region: { enabled: regions } } })
  return violations.flatMap(({ id, nodes }) =>
    nodes.map((node) => `${id}: ${node.html} ${node.failureSummary}`),
  )
}
