import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { stripTypeScriptTypes } from 'node:module'
import type { AddressInfo } from 'node:net'
import { after, afterEach, before, describe, test } from 'node:test'
import axe from 'axe-core'
import type { AxeResults, RunOptions } from 'axe-core'
import type { Browser } from 'playwright-core'

import { createClient } from '../src/client/index.ts'
import type { Client } from '../src/client/index.ts'
import { createControl } from '../src/server/control.ts'
import { buildWebApp } from '../src/server/web-build.ts'
import { findBrowser, launchBrowser } from './support/browser.ts'
import { startCluster } from './support/cluster.ts'
import type { TestCluster } from './support/cluster.ts'
import { readAll, until } from './support/ledger.ts'
import { Person } from './support/person.ts'

const found = findBrowser()
const limitMs = 30_000

const account = (name: string) => ({ target: { $case: 'account', value: name } as const })
const room = (name: string) => ({ target: { $case: 'room', value: name } as const })

describe('the web app in a browser', { skip: 'skip' in found ? found.skip : false }, () => {
  let cluster: TestCluster
  let browser: Browser
  const clients: Client[] = []

  before(async () => {
    await buildWebApp(() => {})
    cluster = await startCluster()
    browser = await launchBrowser('path' in found ? found.path : '')
  })
  // A test that failed has left its pages open, and they would go on using the cluster.
  afterEach(async () => {
    for (const context of browser.contexts()) await context.close()
  })
  after(async () => {
    for (const client of clients) client.close()
    await browser.close()
    await cluster.close()
  })

  const address = (at = 0): string => cluster.addresses[at % cluster.addresses.length] ?? ''
  const signUp = async (name: string, at = 0): Promise<Person> => Person.signedUp(browser, address(at), name)
  const another = async (name: string, at = 0): Promise<Person> => Person.signedIn(browser, address(at), name)
  /** Somebody who needs no browser. */
  const client = async (name: string, how: 'register' | 'logIn' = 'register'): Promise<Client> => {
    const made = createClient({ addresses: cluster.addresses, timeoutMs: limitMs })
    await made[how]({ name, password: 'correct horse' })
    clients.push(made)
    return made
  }
  const leave = async (...leaving: readonly Person[]): Promise<void> => {
    for (const person of leaving) await person.close()
  }

  test('the page loads under 200 kB, and from the replica alone', async () => {
    const person = await Person.at(browser, address(), 'nobody')
    let bytes = 0
    person.page.on('response', (response) => {
      bytes += Number(response.headers()['content-length'] ?? Number.NaN)
    })
    await person.page.reload()
    await person.page.getByLabel('Name', { exact: true }).waitFor()
    assert.ok(
      await person.page.locator('.brand img').evaluate((image: HTMLImageElement) => image.naturalWidth > 0),
    )
    assert.ok(bytes > 1000 && bytes < 200_000, `${bytes} bytes`)
    await leave(person)
  })

  test('a new name makes an account; a known one is welcomed back and needs its password', async () => {
    const ann = await Person.at(browser, address(), 'ann')
    const { page } = ann
    await ann.giveName('not a name')
    await ann.sees('A name has 1 to 50 characters')
    await ann.giveName('ann')
    await page.getByRole('heading', { name: 'Welcome, new user ann' }).waitFor()
    await page.getByLabel('Choose a password').fill('correct horse')
    await page.getByLabel('The same password again').fill('another horse')
    await ann.press('Make the account')
    await ann.sees('The two passwords differ.')
    await page.getByLabel('The same password again').fill('correct horse')
    await ann.press('Make the account')
    await ann.shell()
    await page.reload()
    await ann.shell()

    await ann.open('Settings')
    await ann.press('Log out')
    await ann.giveName('ANN')
    await page.getByRole('heading', { name: 'Welcome back, ANN' }).waitFor()
    await page.getByLabel('Password').fill('wrong')
    await ann.press('Sign in')
    await ann.sees('There is no account with this name and password.')
    await page.getByLabel('Password').fill('correct horse')
    await ann.press('Sign in')
    await ann.shell()

    // The first account administers the cluster.
    await ann.open('Settings')
    const open = page.getByLabel('Anybody may make an account')
    await open.uncheck()
    await ann.press('Save the policies')
    await ann.sees('The policies were changed')
    const stranger = await Person.at(browser, address(1), 'stranger')
    await stranger.giveName('stranger')
    await stranger.sees('registration is closed')
    await open.check()
    await ann.press('Save the policies')
    const asking = createClient({ addresses: cluster.addresses })
    clients.push(asking)
    await until(
      async () => (await asking.call('lookUpName', { name: 'stranger' })).registrationOpen,
      'registration is open again',
      limitMs,
    )
    await stranger.giveName('stranger')
    await stranger.page.getByRole('heading', { name: 'Welcome, new user stranger' }).waitFor()
    await leave(ann, stranger)
  })

  test('two people write to each other: live, with presence, marks, edits and deletions', async () => {
    const ben = await signUp('ben', 1)
    const cleo = await signUp('cleo', 2)

    await cleo.writeTo('ben')
    await cleo.say('hello Ben')
    await cleo.untilTexts(['hello Ben'])
    await cleo.sees('delivered')
    await ben.entry('cleo').getByText('1 unread').waitFor({ state: 'attached' })
    await ben.openConversation('cleo')
    await ben.page.getByRole('separator', { name: 'new' }).waitFor()
    await ben.seesNoMore(ben.entry('cleo').locator('.badge'))
    // The line stays where it was while one reads.
    assert.equal(await ben.page.getByRole('separator', { name: 'new' }).count(), 1)
    await ben.page.locator('.main .dot.on').waitFor()

    await ben.say('hello Cleo')
    await cleo.sees('hello Cleo')
    await cleo.page.getByRole('log').getByText('ben: hello Cleo').waitFor({ state: 'attached' })
    await cleo.composer().press('ArrowUp')
    await cleo.page.getByLabel('Edited text').fill('hello dear Ben')
    await cleo.page.keyboard.press('Enter')
    await ben.row('hello dear Ben').getByText('(edited)').waitFor()

    await cleo.choose('hello dear Ben', 'Delete for all')
    await ben.sees('This message was deleted.')
    await ben.choose('hello Cleo', 'Delete for me')
    await ben.seesNoMore(ben.row('hello Cleo'))
    assert.equal(await cleo.row('hello Cleo').count(), 1)

    await cleo.say('one more')
    await ben.sees('one more')
    await ben.choose('one more', 'Mark as unread')
    await ben.entry('cleo').getByText('1 unread').waitFor({ state: 'attached' })
    await ben.row('one more').getByText('unread').waitFor()
    await ben.choose('one more', 'Mark as read')
    await ben.seesNoMore(ben.entry('cleo').locator('.badge'))

    await leave(ben)
    await cleo.sees('offline: gets your messages')
    await cleo.say('are you there?')
    await cleo.sees('will be delivered when they sign in')
    const benAgain = await another('ben', 3)
    await benAgain.sees('you have 1 new message')
    await cleo.row('are you there?').getByText('delivered', { exact: true }).waitFor()
    await benAgain.openConversation('cleo')
    await benAgain.sees('are you there?')
    await leave(benAgain, cleo)
  })

  test('a message that is sent before the browser has stored it is not left in the storage', async () => {
    const person = await Person.at(browser, address(), 'nobody')
    const module = await readFile(new URL('../src/web/outbox-storage.ts', import.meta.url), 'utf8')
    const left = await person.page.evaluate(`(async () => {
      ${stripTypeScriptTypes(module).replace('export ', '')}
      const storage = browserOutboxStorage(indexedDB)
      void storage.put({ key: 'kept' })
      void storage.put({ key: 'sent' })
      void storage.put({ key: 'kept', text: 'better' })
      await storage.remove('sent')
      const left = await storage.load()
      await storage.remove('kept')
      return [left, await storage.load()]
    })()`)
    assert.deepEqual(left, [[{ key: 'kept', text: 'better' }], []])
    await leave(person)
  })

  test('a message that is refused says why, and is tried again or discarded', async () => {
    const zoe = await signUp('zoe', 1)
    await zoe.page.goto(`http://${address(1)}/#/to/nobody_yet`)
    await zoe.page.getByRole('heading', { level: 1, name: 'nobody_yet' }).waitFor()
    await zoe.say('first')
    await zoe.row('first').getByText('not sent:').waitFor()
    await zoe.say('second')
    await zoe.row('second').getByText('not sent:').waitFor()
    // It is still so after a reload.
    await zoe.page.reload()
    await zoe.row('second').getByText('not sent:').waitFor()
    await zoe.row('first').getByRole('button', { name: 'Discard' }).click()
    await zoe.seesNoMore(zoe.row('first'))
    await client('nobody_yet')
    await zoe.row('second').getByRole('button', { name: 'Try again' }).click()
    await zoe.entry('nobody_yet').waitFor()
    await zoe.untilTexts(['second'])
    await zoe.seesNoMore(zoe.page.locator('.message.pending'))
    await leave(zoe)
  })

  test('what somebody pastes is text, and links are safe', async () => {
    const dan = await signUp('dan')
    const evil = `<img src=x onerror="window.broken=1"><script>window.broken=1</script> javascript:alert(1)`
    await dan.openConversation('#everyone')
    await dan.say(evil)
    await dan.row('<img').waitFor()
    await dan.say('see https://example.org/a?b=1.')
    const link = dan.row('see https').getByRole('link')
    await link.waitFor()
    assert.equal(await dan.page.locator('.message img, .message script').count(), 0)
    assert.equal(await dan.page.evaluate(() => 'broken' in window), false)
    assert.equal(await dan.row('<img').getByRole('link').count(), 0)
    assert.equal(await link.getAttribute('href'), 'https://example.org/a?b=1')
    assert.match((await link.getAttribute('rel')) ?? '', /noopener noreferrer/)
    await leave(dan)
  })

  test('rooms are made, found, joined, shared by invitation and left', async () => {
    const eve = await signUp('eve', 1)
    const finn = await signUp('finn', 2)
    await eve.open('Rooms')
    await eve.press('New room')
    await eve.page.getByLabel('Name', { exact: true }).fill('boats')
    await eve.page.getByLabel('Topic').fill('all that floats')
    await eve.press('Make the room')
    await eve.page.getByRole('heading', { level: 1, name: '#boats' }).waitFor()
    await eve.say('anybody here?')

    await finn.open('Rooms')
    await finn.page.getByLabel('Find').fill('oat')
    await finn.page.locator('.list-row', { hasText: '#boats' }).getByRole('button', { name: 'Join' }).click()
    await finn.page.getByRole('heading', { level: 1, name: '#boats' }).waitFor()
    await finn.say('me')
    await eve.row('me').waitFor()
    await eve.press('2 members')
    const members = eve.page.getByRole('dialog')
    await members.getByText('finn').waitFor()
    await members.getByText('owner').waitFor()
    await eve.page.keyboard.press('Escape')
    await eve.seesNoMore(members)
    await finn.press('2 members')
    await finn.press('Leave the room')
    await finn.seesNoMore(finn.entry('#boats'))
    await eve.page.getByRole('button', { name: '1 member' }).waitFor()

    await eve.open('Rooms')
    await eve.press('New room')
    await eve.page.getByLabel('Name', { exact: true }).fill('cabin')
    await eve.page.getByLabel(/^Private/).check()
    await eve.press('Make the room')
    await eve.page.getByRole('heading', { level: 1, name: '#cabin' }).waitFor()
    await eve.press('1 member')
    await eve.page.getByLabel('Invite somebody').fill('finn')
    await eve.press('Invite')
    await finn.entry('#cabin').waitFor()

    await eve.page.keyboard.press('Escape')
    await eve.openConversation('#everyone')
    await eve.say('to all of you')
    await finn.entry('#everyone').getByText('eve: to all of you').waitFor()
    await leave(eve, finn)
  })

  test('a conversation that one is not in is told once, on its page, and shown when one comes in', async () => {
    const eva = await signUp('eva')
    const { page } = eva
    const owner = await client('fred')
    await owner.call('createRoom', { name: 'harbour', topic: '', private: true })
    const { conversation } = await owner.call('sendMessage', { to: room('harbour'), text: 'land ahoy' })
    await page.evaluate((to) => (location.hash = to), `#/c/${conversation}`)
    await eva.sees('You are not in this conversation, or it does not exist.')
    // An answer that was asked for later has come: so has any to this page.
    await page.evaluate(() => (location.hash = '#/rooms'))
    await page.getByRole('heading', { level: 1, name: 'Rooms' }).waitFor()
    await eva.seesNoMore(page.getByText('Loading…'))
    assert.equal(await page.locator('.notice.error').count(), 0)
    await page.evaluate((to) => (location.hash = to), `#/c/${conversation}`)
    await eva.sees('You are not in this conversation, or it does not exist.')
    await owner.call('inviteToRoom', { name: 'harbour', account: 'eva' })
    await eva.row('land ahoy').waitFor()
    await leave(eva)
  })

  test('the inbox opens as many as one likes, in order; opened ones are marked and deleted', async () => {
    const gus = await signUp('gus')
    const sender = await client('hal')
    for (let i = 1; i <= 20; i += 1)
      await sender.call('sendMessage', { to: account('gus'), text: `letter ${i}` })
    const { page } = gus
    await gus.open('Inbox')
    await page.getByRole('heading', { name: 'You have 20 new messages' }).waitFor()
    const opened = page.locator('.main article')
    let count = 0
    for (const amount of [1, 2, 5]) {
      await gus.press(String(amount))
      count += amount
      await opened.nth(count - 1).waitFor()
      await page.getByRole('heading', { name: `You have ${20 - count} new messages` }).waitFor()
      assert.equal(await opened.count(), count)
    }
    await gus.press('all')
    await page.getByRole('heading', { name: 'You have no new messages' }).waitFor()
    assert.deepEqual(
      await page.locator('.main article .message-text').allInnerTexts(),
      Array.from({ length: 20 }, (_, i) => `letter ${i + 1}`),
    )
    const last = opened.filter({ hasText: 'letter 20' })
    assert.match(await last.innerText(), /hal/)
    await last.getByRole('button', { name: 'Mark as' }).click()
    await last.getByRole('button', { name: 'Mark as unread' }).waitFor()
    await last.getByRole('button', { name: 'Delete for me' }).click()
    await gus.seesNoMore(last)
    assert.equal(await opened.count(), 19)
    await leave(gus)
  })

  test('drafts go to many at once, each with its own outcome; a failed one stays', async () => {
    const ida = await signUp('ida')
    await client('jon')
    const jonas = await signUp('jonas')
    const { page } = ida
    await ida.open('Drafts')
    await ida.press('New draft')
    await page.getByLabel('Text').fill('shall we meet?')
    // Closed by mistake.
    await page.keyboard.press('Escape')
    await ida.seesNoMore(page.getByRole('dialog'))
    await ida.press('New draft')
    assert.equal(await page.getByLabel('Text').inputValue(), 'shall we meet?')
    for (const name of ['jon', '#everyone', 'nobody_at_all']) {
      await page.getByLabel('Recipients', { exact: true }).fill(name)
      await page.keyboard.press('Enter')
      await page.getByRole('list', { name: 'Chosen recipients' }).getByText(name).waitFor()
    }
    await ida.press('Save')
    await page.getByText('to jon, #everyone, nobody_at_all').waitFor()
    await ida.press('New draft')
    assert.equal(await page.getByLabel('Text').inputValue(), '')
    await page.getByLabel('Text').fill('thank you')
    await page.getByLabel('Recipients', { exact: true }).fill('jon and ida')
    await ida.press('Save')
    await ida.sees('A recipient is the name of an account, or # and the name of a room.')
    // Not the first that contains it: who is connected stands first.
    await page.getByLabel('Recipients', { exact: true }).fill('jon')
    await page.getByRole('button', { name: 'jonas', exact: true }).waitFor()
    await page.keyboard.press('Enter')
    assert.deepEqual(
      await page.getByRole('list', { name: 'Chosen recipients' }).locator('li').allInnerTexts(),
      ['jon\n✕'],
    )
    await ida.press('Save')
    await page.locator('.ellipsis', { hasText: 'thank you' }).waitFor()

    await page.getByLabel('Select all').check()
    await ida.press('Send')
    const outcomes = page.getByRole('status', { name: 'What became of the drafts' })
    await outcomes.waitFor()
    assert.deepEqual(
      (await outcomes.getByRole('listitem').allInnerTexts())
        .map((text) =>
          text.replaceAll(/\s+/g, ' ').replace('will be delivered when they sign in', 'delivered'),
        )
        .sort(),
      [
        'shall we meet? #everyone delivered',
        'shall we meet? jon delivered',
        'shall we meet? nobody_at_all does not exist, or has deleted their account; kept as a draft',
        'thank you jon delivered',
      ],
    )
    await page.getByText('to nobody_at_all').waitFor()
    assert.equal(await page.locator('.main ul > .card').count(), 1)

    await page.getByLabel('Select all').check()
    await ida.press('Delete')
    await ida.sees('No drafts.')
    await leave(ida, jonas)
  })

  test('two devices that edit one draft lose neither edit', async () => {
    const first = await signUp('kim', 1)
    await first.open('Drafts')
    await first.press('New draft')
    await first.page.getByLabel('Text').fill('the plan')
    await first.press('Save')
    const second = await another('kim', 2)
    await second.open('Drafts')
    for (const device of [first, second]) {
      await device.press('Edit')
      await device.page.getByLabel('Text').fill(`the plan, by the ${device === first ? 'first' : 'second'}`)
    }
    await first.press('Save')
    await first.seesNoMore(first.page.getByRole('dialog'))
    await second.sees('the plan, by the first')
    await second.press('Save')
    await second.sees('Another device had changed this draft.')
    for (const device of [first, second]) {
      await device.page
        .locator('.main li', { hasText: 'by the first' })
        .getByText('This copy keeps')
        .waitFor()
      await device.page.locator('.main li', { hasText: 'by the second' }).waitFor()
    }
    await leave(first, second)
  })

  test('search finds words in the own conversations and shows them in place', async () => {
    const lea = await signUp('lea')
    const sender = await client('max')
    for (let i = 1; i <= 150; i += 1)
      await sender.call('sendMessage', {
        to: account('lea'),
        text: i === 20 ? 'a zebra, at last' : `line ${i}`,
      })
    await lea.open('Search')
    await lea.page.getByLabel('Words').fill('zebra')
    // The index is filled in the background.
    await until(
      async () => {
        await lea.page.keyboard.press('Enter')
        return lea.page.locator('.results', { hasText: 'a zebra, at last' }).isVisible()
      },
      'the message is found',
      limitMs,
    )
    assert.match(await lea.page.locator('.results .muted').innerText(), /^max, /)
    await lea.page.getByRole('link', { name: 'Show in place' }).click()
    await lea.page.locator('.message.found', { hasText: 'a zebra, at last' }).waitFor()
    await until(() => isInView(lea, 'a zebra, at last'), 'it is in view', limitMs)
    await lea.row('line 21').first().waitFor()
    await lea
      .press('To the newest 150')
      .catch(() => lea.page.getByRole('button', { name: /^To the newest/ }).click())
    await until(() => isInView(lea, 'line 150'), 'the newest is in view', limitMs)
    await leave(lea)
  })

  test('a long history is loaded as one scrolls, without a hole, and never all of it', async () => {
    const nia = await signUp('nia')
    const sender = await client('oli')
    const sent: Promise<unknown>[] = []
    for (let i = 1; i <= 1000; i += 1)
      sent.push(sender.call('sendMessage', { to: account('nia'), text: `line ${i}` }))
    await Promise.all(sent)
    await nia.openConversation('oli')
    await until(() => isInView(nia, 'line 1000'), 'it begins at the end', limitMs)
    const box = nia.page.getByRole('region', { name: 'Messages in oli' })
    const shown = () =>
      nia.page
        .locator('.message')
        .evaluateAll((rows) => rows.map((row) => Number((row as HTMLElement).dataset['seq'])))
    const scrollUntil = async (first: boolean) => {
      await until(
        async () => {
          await box.evaluate((element, up) => element.scrollTo({ top: up ? 0 : element.scrollHeight }), first)
          const seqs = await shown()
          seqs.forEach((seq, at) => assert.equal(seq, (seqs[0] ?? 0) + at, 'there is no hole'))
          assert.ok(seqs.length <= 700, `${seqs.length} messages are on the page`)
          return first ? seqs[0] === 1 : isInView(nia, 'line 1000')
        },
        first ? 'the beginning is reached' : 'the end is reached',
        limitMs,
      )
    }
    await scrollUntil(true)
    await nia.sees('This is the beginning of your conversation with oli.')
    await scrollUntil(false)
    await sender.call('sendMessage', { to: account('nia'), text: 'the very last' })
    await until(() => isInView(nia, 'the very last'), 'what arrives at the end is followed', limitMs)
    await leave(nia)
  })

  test('two devices of one person are in step', async () => {
    const first = await signUp('pam', 1)
    const sender = await client('quin')
    const second = await another('pam', 2)
    await sender.call('sendMessage', { to: account('pam'), text: 'for you' })
    await first.entry('quin').locator('.badge').waitFor()
    await second.entry('quin').locator('.badge').waitFor()
    await first.openConversation('quin')
    await second.seesNoMore(second.entry('quin').locator('.badge'))
    await first.say('thanks')
    await second.openConversation('quin')
    await second.untilTexts(['for you', 'thanks'])
    await leave(first, second)
  })

  test('the keyboard finds conversations, the next unread one, and help; nothing is typed by accident', async () => {
    const rob = await signUp('rob')
    const sender = await client('sue')
    await sender.call('createRoom', { name: 'quay' })
    await sender.call('inviteToRoom', { name: 'quay', account: 'rob' })
    await sender.call('sendMessage', { to: account('rob'), text: 'psst' })
    await sender.call('sendMessage', { to: room('quay'), text: 'ahoy' })
    await rob.entry('sue').locator('.badge').waitFor()
    await rob.entry('#quay').locator('.badge').waitFor()
    const { keyboard } = rob.page
    const heading = (name: string) => rob.page.getByRole('heading', { level: 1, name, exact: true })

    await keyboard.press('Control+k')
    await rob.page.getByRole('combobox').fill('su')
    await keyboard.press('Enter')
    await heading('sue').waitFor()
    assert.equal(await rob.composer().evaluate((box) => box === document.activeElement), true)
    await keyboard.press('Alt+Shift+ArrowDown')
    await heading('#quay').waitFor()
    await rob.seesNoMore(rob.entry('#quay').locator('.badge'))
    await sender.call('sendMessage', { to: account('rob'), text: 'psst again' })
    await rob.entry('sue').locator('.badge').waitFor()
    await keyboard.press('Alt+Shift+ArrowUp')
    await heading('sue').waitFor()

    await rob.open('People')
    await sender.call('sendMessage', { to: account('rob'), text: 'again' })
    await rob.entry('sue').locator('.badge').waitFor()
    await keyboard.press('Shift+Escape')
    await rob.seesNoMore(rob.entry('sue').locator('.badge'))
    await keyboard.press('Control+/')
    await rob.page.getByRole('dialog', { name: 'Keys' }).waitFor()
    await keyboard.press('Escape')
    await rob.seesNoMore(rob.page.getByRole('dialog'))
    await leave(rob)
  })

  test('how long messages are kept is chosen by the owner of a room, and for all by an administrator', async () => {
    // The first account; another test may have made it.
    const ann = await Person.at(browser, address(), 'ann')
    const owner = await signUp('vera', 1)
    const guest = await signUp('walt', 2)
    const { page } = owner
    await owner.open('Rooms')
    await owner.press('New room')
    await page.getByLabel('Name', { exact: true }).fill('cellar')
    await owner.press('Make the room')
    await owner.composer().waitFor()
    const asking = await client('xena')
    const settings = async (): Promise<number | undefined> => {
      const { rooms } = await asking.call('listRooms', { pattern: 'cellar' })
      return rooms[0]?.retentionS
    }
    const policy = async (): Promise<number | undefined> =>
      (await asking.call('getPolicy', {})).policy?.retentionS

    const members = page.locator('main').getByRole('button', { name: /^[0-9]+ members?$/ })
    await members.click()
    const kept = page.getByLabel('Messages are kept')
    assert.equal(await kept.inputValue(), 'policy')
    await kept.selectOption('limited')
    await page.getByLabel('How long').fill('0')
    await owner.press('Save')
    await owner.sees('a whole number of days, at least 1')
    await page.getByLabel('How long').fill('90')
    await page.getByLabel('Unit of time').selectOption('minutes')
    await owner.press('Save')
    await owner.sees('Messages of #cellar are kept for 90 minutes from now on.')
    assert.equal(await settings(), 5400)

    await guest.open('Rooms')
    await guest.page
      .locator('.list-row', { hasText: '#cellar' })
      .getByRole('button', { name: 'Join' })
      .click()
    await guest.composer().waitFor()
    await guest.page
      .locator('main')
      .getByRole('button', { name: /^[0-9]+ members?$/ })
      .click()
    await guest.sees('Messages are kept for 90 minutes.')
    assert.equal(await guest.page.getByLabel('Messages are kept').count(), 0)

    await kept.selectOption('forever')
    await owner.press('Save')
    await owner.sees('Messages of #cellar are kept for ever from now on.')
    assert.equal(await settings(), 0)
    await guest.sees('Messages are kept for ever.')
    await kept.selectOption('policy')
    await owner.press('Save')
    await until(async () => (await settings()) === undefined, 'it follows the policy', limitMs)

    await ann.signIn()
    await ann.open('Settings')
    await ann.page.getByLabel('Messages are kept').selectOption('limited')
    await ann.page.getByLabel('How long').fill('400')
    await ann.press('Save the policies')
    await ann.sees('The policies were changed')
    assert.equal(await policy(), 400 * 86_400)
    await guest.sees('Messages are kept for 400 days.')
    await ann.page.getByLabel('Messages are kept').selectOption('forever')
    await ann.press('Save the policies')
    await until(async () => (await policy()) === 0, 'messages are kept for ever again', limitMs)
    await leave(ann, owner, guest)
  })

  test('sessions are listed and ended, the password is changed, the account is deleted', async () => {
    const tom = await signUp('tom', 1)
    const phone = await another('tom', 2)
    await tom.open('Settings')
    const devices = tom.page.getByRole('region', { name: 'Signed-in devices' }).getByRole('listitem')
    await devices.nth(1).waitFor()
    await tom.page.getByRole('button', { name: /^Sign out/ }).click()
    await phone.sees('You were signed out.')
    await phone.page.getByLabel('Name', { exact: true }).waitFor()
    await tom.seesNoMore(devices.nth(1))

    await tom.page.getByLabel('Present password').fill('correct horse')
    await tom.page.getByLabel('New password', { exact: true }).fill('battery staple')
    await tom.page.getByLabel('The new password again').fill('battery staple')
    await tom.press('Change the password')
    await tom.sees('Your password was changed.')
    await phone.giveName('tom')
    await phone.page.getByLabel('Password').fill('correct horse')
    await phone.press('Sign in')
    await phone.sees('There is no account with this name and password.')
    await phone.page.getByLabel('Password').fill('battery staple')
    await phone.press('Sign in')
    await phone.shell()

    const remove = tom.page.getByRole('button', { name: 'Delete my account' })
    assert.equal(await remove.isDisabled(), true)
    await tom.page.getByLabel(/^Type your name/).fill('tom')
    await remove.click()
    await tom.sees('Your account was deleted.')
    await phone.page.getByLabel('Name', { exact: true }).waitFor()
    await tom.giveName('tom')
    await tom.page.getByRole('heading', { name: 'Welcome, new user tom' }).waitFor()
    await leave(tom, phone)
  })

  test('axe finds nothing on any page, light or dark, wide or narrow', async () => {
    const uma = await signUp('uma')
    const sender = await client('vic')
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
    await leave(uma)
  })

  test('the longest names and words fit on a phone, and each line runs in its own direction', async () => {
    const long = 'W'.repeat(50)
    const word = 'Donaudampfschifffahrtsgesellschaft'.repeat(6)
    const otto = await signUp('otto')
    const { page } = otto
    const sender = await client(long)
    await sender.call('createRoom', { name: 'm'.repeat(50), topic: word })
    await sender.call('inviteToRoom', { name: 'm'.repeat(50), account: 'otto' })
    for (const to of [account('otto'), room('m'.repeat(50))])
      await sender.call('sendMessage', { to, text: `${word} everywhere` })
    await sender.call('sendMessage', { to: account('otto'), text: '42% hello\n42% \u05E9\u05DC\u05D5\u05DD' })
    await page.setViewportSize({ width: 360, height: 740 })
    const fits = async (where: string): Promise<void> => {
      assert.deepEqual(await page.evaluate(wideBoxes), [], where)
    }
    const visit = async (hash: string, title: string): Promise<void> => {
      await page.evaluate((to) => (location.hash = to), hash)
      await page.getByRole('heading', { level: 1, name: title }).waitFor()
    }
    await page.evaluate(() => (location.hash = '#/'))
    const hrefOf = async (title: string): Promise<string> =>
      (await otto.entry(title).getByRole('link').getAttribute('href')) ?? ''
    const [direct, inRoom] = [await hrefOf(long), await hrefOf(`#${'m'.repeat(50)}`)]
    await fits('the list')

    await visit('#/inbox', 'Inbox')
    await otto.press('all')
    await page.getByRole('region', { name: 'Opened messages' }).getByText('everywhere').first().waitFor()
    await fits('the inbox')
    await visit('#/search', 'Search')
    await page.getByLabel('Words').fill('everywhere')
    // The index follows a moment later.
    await until(
      async () => {
        await page.keyboard.press('Enter')
        return (await page.getByRole('link', { name: 'Show in place' }).count()) === 2
      },
      'the message is found',
      limitMs,
    )
    await fits('search')
    await visit('#/drafts', 'Drafts')
    await otto.press('New draft')
    await page.getByLabel('Text').fill(word)
    await page.getByLabel('Recipients', { exact: true }).fill(long)
    await page.keyboard.press('Enter')
    await page.getByRole('list', { name: 'Chosen recipients' }).getByText(long).waitFor()
    await fits('a draft')
    await otto.press('Save')
    await page.getByLabel('Select all').check()
    await otto.press('Send')
    await page.getByRole('status', { name: 'What became of the drafts' }).waitFor()
    await fits('what became of the drafts')
    for (const [hash, title] of [
      ['#/people', 'People'],
      ['#/rooms', 'Rooms'],
      ['#/settings', 'Settings'],
      [inRoom, `#${'m'.repeat(50)}`],
    ] as const) {
      await visit(hash, title)
      await fits(title)
    }
    await page
      .locator('main')
      .getByRole('button', { name: /^[0-9]+ members?$/ })
      .click()
    await page.getByRole('dialog').getByText(long).waitFor()
    await fits('the members')
    await page.keyboard.press('Escape')
    await visit(direct, long)
    await otto.row('42%').waitFor()
    await fits('a conversation')
    const sides = await otto.row('42%').locator('.text').evaluate(sidesOfLines)
    assert.deepEqual(sides, ['left', 'right'])

    await visit('#/settings', 'Settings')
    await otto.press('Log out')
    await otto.giveName(long)
    await page.getByRole('heading', { name: `Welcome back, ${long}` }).waitFor()
    await fits('signing in')
    await leave(otto)
  })

  test('the leader and another replica are killed while both type; then there is no quorum, and a reload', async () => {
    const leader = await cluster.untilServing()
    const ids = cluster.replicas.map(({ id }) => id)
    // One is served by the leader, the other by one that stays, so that its page can be loaded again.
    const [stays = 0, second = 0, third = 0] = ids.filter((id) => id !== leader)
    const wes = await signUp('wes', leader - 1)
    const xia = await signUp('xia', stays - 1)
    const reader = await client('xia', 'logIn')
    await xia.writeTo('wes')
    await xia.say('begin')
    await wes.openConversation('xia')
    const late = await Person.at(browser, address(stays - 1), 'late')
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
      if (i === 3) await cluster.end(leader, 'SIGKILL')
      if (i === 7) await cluster.end(second, 'SIGKILL')
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

    await cluster.end(third, 'SIGKILL')
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

    cluster.start(leader, second, third)
    await cluster.untilServing()
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
    await leave(wes, xia, late)
  })

  test('with the token of the supervisor the page kills and starts replicas, and the tour loses two of five', async () => {
    const token = randomBytes(24).toString('base64url')
    const control = createControl({
      token,
      addresses: () => cluster.addresses,
      act: (replica, action) => {
        if (action === 'start') cluster.start(replica)
        else void cluster.end(replica, action === 'kill' ? 'SIGKILL' : 'SIGTERM')
        return null
      },
    })
    control.listen(0, '127.0.0.1')
    await once(control, 'listening')
    const yva = await signUp('yva')
    yva.mayMissReplicas = true
    const { page } = yva
    try {
      await yva.open('Cluster')
      await yva.sees('Replicas can be killed and started from here')
      const { port } = control.address() as AddressInfo
      await page.goto(`http://${address()}/#/cluster/${port}-${token}`)
      await yva.sees('2 more may fail.')
      assert.ok(!page.url().includes(token))
      const leader = await cluster.untilServing()
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
      await leave(yva)
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

async function isInView(person: Person, text: string): Promise<boolean> {
  const exact = new RegExp(`^${text}( · unread)?$`)
  const row = person.page
    .locator('.message')
    .filter({ has: person.page.locator('.text', { hasText: exact }) })
  if ((await row.count()) !== 1) return false
  const [frame, box] = await Promise.all([person.page.locator('.timeline').boundingBox(), row.boundingBox()])
  return (
    frame !== null && box !== null && box.y >= frame.y - 1 && box.y + box.height <= frame.y + frame.height + 1
  )
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

/** Runs in the page: what can be scrolled sideways and is not made for that, and what goes beyond the screen. */
function wideBoxes(): readonly string[] {
  const scrolls = (element: Element): boolean =>
    ['auto', 'scroll'].includes(getComputedStyle(element).overflowX) &&
    !element.matches('.scroll-x, input, textarea')
  return [document.documentElement, ...document.querySelectorAll('body *')]
    .filter((element) => element === document.documentElement || scrolls(element))
    .filter((element) => element.scrollWidth > element.clientWidth)
    .map((element) => `${element.tagName}.${element.className}: ${element.scrollWidth}`)
}

/** Runs in the page: at which side of the box each line of the text begins and ends closer. */
function sidesOfLines(element: Element): readonly string[] {
  const box = element.getBoundingClientRect()
  const range = document.createRange()
  range.selectNodeContents(element)
  const lines: { readonly top: number; left: number; right: number }[] = []
  for (const { top, left, right, width, height } of range.getClientRects()) {
    if (width === 0) continue
    // Parts of one line in different scripts do not begin at quite the same height.
    const line = lines.find((one) => Math.abs(one.top - top) < height / 2)
    if (line === undefined) lines.push({ top, left, right })
    else {
      line.left = Math.min(line.left, left)
      line.right = Math.max(line.right, right)
    }
  }
  return lines.map(({ left, right }) => (left - box.left < box.right - right ? 'left' : 'right'))
}
