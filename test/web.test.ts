import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { stripTypeScriptTypes } from 'node:module'
import { test } from 'node:test'

import { until } from './support/ledger.ts'
import { Person } from './support/person.ts'
import { describeWeb, limitMs } from './support/web.ts'

const account = (name: string) => ({ target: { $case: 'account', value: name } as const })
const room = (name: string) => ({ target: { $case: 'room', value: name } as const })

describeWeb('the web app in a browser', (web) => {
  test('the page loads under 200 kB, and from the replica alone', async () => {
    const person = await Person.at(web().browser, web().address(), 'nobody')
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
    await web().leave(person)
  })

  test('a new name makes an account; a known one is welcomed back and needs its password', async () => {
    const ann = await Person.at(web().browser, web().address(), 'ann')
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

    // The first account administers the web().cluster.
    await ann.open('Settings')
    const open = page.getByLabel('Anybody may make an account')
    await open.uncheck()
    await ann.press('Save the policies')
    await ann.sees('The policies were changed')
    const stranger = await Person.at(web().browser, web().address(1), 'stranger')
    await stranger.giveName('stranger')
    await stranger.sees('registration is closed')
    await open.check()
    await ann.press('Save the policies')
    const asking = web().visitor()
    await until(
      async () => (await asking.call('lookUpName', { name: 'stranger' })).registrationOpen,
      'registration is open again',
      limitMs,
    )
    await stranger.giveName('stranger')
    await stranger.page.getByRole('heading', { name: 'Welcome, new user stranger' }).waitFor()
    await web().leave(ann, stranger)
  })

  test('two people write to each other: live, with presence, marks, edits and deletions', async () => {
    const ben = await web().signUp('ben', 1)
    const cleo = await web().signUp('cleo', 2)

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

    await web().leave(ben)
    await cleo.sees('offline: gets your messages')
    await cleo.say('are you there?')
    await cleo.sees('will be delivered when they sign in')
    const benAgain = await web().another('ben', 3)
    await benAgain.sees('you have 1 new message')
    await cleo.row('are you there?').getByText('delivered', { exact: true }).waitFor()
    await benAgain.openConversation('cleo')
    await benAgain.sees('are you there?')
    await web().leave(benAgain, cleo)
  })

  test('a message that is sent before the browser has stored it is not left in the storage', async () => {
    const person = await Person.at(web().browser, web().address(), 'nobody')
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
    await web().leave(person)
  })

  test('a message that is refused says why, and is tried again or discarded', async () => {
    const zoe = await web().signUp('zoe', 1)
    await zoe.page.goto(`http://${web().address(1)}/#/to/nobody_yet`)
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
    await web().client('nobody_yet')
    await zoe.row('second').getByRole('button', { name: 'Try again' }).click()
    await zoe.entry('nobody_yet').waitFor()
    await zoe.untilTexts(['second'])
    await zoe.seesNoMore(zoe.page.locator('.message.pending'))
    await web().leave(zoe)
  })

  test('what somebody pastes is text, and links are safe', async () => {
    const dan = await web().signUp('dan')
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
    await web().leave(dan)
  })

  test('rooms are made, found, joined, shared by invitation and left', async () => {
    const eve = await web().signUp('eve', 1)
    const finn = await web().signUp('finn', 2)
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
    await web().leave(eve, finn)
  })

  test('a conversation that one is not in is told once, on its page, and shown when one comes in', async () => {
    const eva = await web().signUp('eva')
    const { page } = eva
    const owner = await web().client('fred')
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
    await web().leave(eva)
  })

  test('the inbox opens as many as one likes, in order; opened ones are marked and deleted', async () => {
    const gus = await web().signUp('gus')
    const sender = await web().client('hal')
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
    await web().leave(gus)
  })

  test('drafts go to many at once, each with its own outcome; a failed one stays', async () => {
    const ida = await web().signUp('ida')
    await web().client('jon')
    const jonas = await web().signUp('jonas')
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
    await web().leave(ida, jonas)
  })

  test('two devices that edit one draft lose neither edit', async () => {
    const first = await web().signUp('kim', 1)
    await first.open('Drafts')
    await first.press('New draft')
    await first.page.getByLabel('Text').fill('the plan')
    await first.press('Save')
    const second = await web().another('kim', 2)
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
    await web().leave(first, second)
  })

  test('search finds words in the own conversations and shows them in place', async () => {
    const lea = await web().signUp('lea')
    const sender = await web().client('max')
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
    await web().leave(lea)
  })

  test('a long history is loaded as one scrolls, without a hole, and never all of it', async () => {
    const nia = await web().signUp('nia')
    const sender = await web().client('oli')
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
    await web().leave(nia)
  })

  test('two devices of one person are in step', async () => {
    const first = await web().signUp('pam', 1)
    const sender = await web().client('quin')
    const second = await web().another('pam', 2)
    await sender.call('sendMessage', { to: account('pam'), text: 'for you' })
    await first.entry('quin').locator('.badge').waitFor()
    await second.entry('quin').locator('.badge').waitFor()
    await first.openConversation('quin')
    await second.seesNoMore(second.entry('quin').locator('.badge'))
    await first.say('thanks')
    await second.openConversation('quin')
    await second.untilTexts(['for you', 'thanks'])
    await web().leave(first, second)
  })

  test('the keyboard finds conversations, the next unread one, and help; nothing is typed by accident', async () => {
    const rob = await web().signUp('rob')
    const sender = await web().client('sue')
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
    await web().leave(rob)
  })

  test('how long messages are kept is chosen by the owner of a room, and for all by an administrator', async () => {
    // The first account; another test may have made it.
    const ann = await Person.at(web().browser, web().address(), 'ann')
    const owner = await web().signUp('vera', 1)
    const guest = await web().signUp('walt', 2)
    const { page } = owner
    await owner.open('Rooms')
    await owner.press('New room')
    await page.getByLabel('Name', { exact: true }).fill('cellar')
    await owner.press('Make the room')
    await owner.composer().waitFor()
    const asking = await web().client('xena')
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
    await web().leave(ann, owner, guest)
  })

  test('sessions are listed and ended, the password is changed, the account is deleted', async () => {
    const tom = await web().signUp('tom', 1)
    const phone = await web().another('tom', 2)
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
    await web().leave(tom, phone)
  })

  test('the longest names and words fit on a phone, and each line runs in its own direction', async () => {
    const long = 'W'.repeat(50)
    const word = 'Donaudampfschifffahrtsgesellschaft'.repeat(6)
    const otto = await web().signUp('otto')
    const { page } = otto
    const sender = await web().client(long)
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
    await web().leave(otto)
  })
})

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
