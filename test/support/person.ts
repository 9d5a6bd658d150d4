import assert from 'node:assert/strict'
import type { Browser, BrowserContext, Locator, Page } from 'playwright-core'

import { until } from './ledger.ts'

const password = 'correct horse'
const limitMs = 30_000
const local = new Set(['127.0.0.1', 'localhost'])

/** What the browser says when a replica is dead; nothing else may be in its console. */
const deadReplica = /WebSocket connection to .* failed|ERR_CONNECTION_(REFUSED|RESET|CLOSED)/

/** Somebody at a browser of their own. Whatever goes wrong in the page is noted in {@link problems}. */
export class Person {
  readonly name: string
  readonly context: BrowserContext
  readonly page: Page
  readonly problems: string[] = []
  /** Replicas are killed: connections to them fail, and the console says so. */
  mayMissReplicas = false

  private constructor(name: string, context: BrowserContext, page: Page) {
    this.name = name
    this.context = context
    this.page = page
    page.setDefaultTimeout(limitMs)
    page.on('request', (request) => {
      if (!local.has(new URL(request.url()).hostname)) this.problems.push(`asked for ${request.url()}`)
    })
    page.on('pageerror', (error) => this.problems.push(`threw ${error.stack ?? error.message}`))
    page.on('console', (message) => {
      if (message.type() !== 'error' && message.type() !== 'warning') return
      if (this.mayMissReplicas && deadReplica.test(message.text())) return
      // A connection that is given up while it is being made, as when one signs out.
      if (message.text().includes('WebSocket is closed before the connection is established')) return
      this.problems.push(`console: ${message.text()}`)
    })
  }

  /** Opens the page of the replica at `address`; nobody is signed in. */
  static async at(browser: Browser, address: string, name: string): Promise<Person> {
    const context = await browser.newContext({ viewport: { width: 1100, height: 760 }, locale: 'en-GB' })
    const person = new Person(name, context, await context.newPage())
    await person.page.goto(`http://${address}/`)
    return person
  }

  static async signedUp(browser: Browser, address: string, name: string): Promise<Person> {
    const person = await Person.at(browser, address, name)
    await person.giveName(name)
    await person.page.getByRole('heading', { name: `Welcome, new user ${name}` }).waitFor()
    await person.page.getByLabel('Choose a password').fill(password)
    await person.page.getByLabel('The same password again').fill(password)
    await person.press('Make the account')
    await person.shell()
    return person
  }

  /** Another device of an account that there is. */
  static async signedIn(browser: Browser, address: string, name: string): Promise<Person> {
    const person = await Person.at(browser, address, name)
    await person.signIn()
    return person
  }

  async giveName(name: string): Promise<void> {
    await this.page.getByLabel('Name', { exact: true }).fill(name)
    await this.page.keyboard.press('Enter')
  }

  async signIn(): Promise<void> {
    await this.giveName(this.name)
    await this.page.getByRole('heading', { name: `Welcome back, ${this.name}` }).waitFor()
    await this.page.getByLabel('Password').fill(password)
    await this.press('Sign in')
    await this.shell()
  }

  async shell(): Promise<void> {
    await this.page.locator('.side-head', { hasText: this.name }).waitFor()
  }

  async press(button: string): Promise<void> {
    await this.page.getByRole('button', { name: button, exact: true }).click()
  }

  /** Goes to a page by the list at the side. */
  async open(page: string): Promise<void> {
    await this.page.locator('.side-nav').getByRole('link', { name: page }).click()
    await this.page.getByRole('heading', { level: 1, name: page }).waitFor()
  }

  /** The place of a conversation in the list at the side. */
  entry(title: string): Locator {
    const exact = new RegExp(`^${title}$`)
    return this.page.locator('.side-list li').filter({ has: this.page.locator('.title', { hasText: exact }) })
  }

  async openConversation(title: string): Promise<void> {
    await this.entry(title).getByRole('link').click()
    await this.page.getByRole('heading', { level: 1, name: title, exact: true }).waitFor()
    await this.composer().waitFor()
  }

  /** Finds somebody on the page of people, and opens the conversation with them. */
  async writeTo(name: string): Promise<void> {
    await this.open('People')
    await this.page.getByLabel('Find').fill(name)
    await this.page
      .locator('.list-row', { hasText: new RegExp(`^${name}`) })
      .getByRole('button', { name: 'Write' })
      .click()
    await this.page.getByRole('heading', { level: 1, name, exact: true }).waitFor()
    await this.composer().waitFor()
  }

  composer(): Locator {
    return this.page.locator('.composer textarea')
  }

  /** Writes a message and sends it with Enter; it need not have arrived anywhere. */
  async say(text: string): Promise<void> {
    await this.composer().fill(text)
    await this.composer().press('Enter')
  }

  /** The row of a message in the open conversation. */
  row(text: string): Locator {
    return this.page.locator('.message').filter({ has: this.page.locator('.text', { hasText: text }) })
  }

  /** All texts of the open conversation, in order. */
  async texts(): Promise<readonly string[]> {
    return this.page.locator('.message .text').allInnerTexts()
  }

  async sees(text: string): Promise<void> {
    await this.page.getByText(text).first().waitFor()
  }

  async seesNoMore(what: Locator): Promise<void> {
    await what.waitFor({ state: 'detached' })
  }

  async untilTexts(expected: readonly string[]): Promise<void> {
    await until(
      async () => (await this.texts()).join('\n') === expected.join('\n'),
      `${this.name} sees exactly ${JSON.stringify(expected)}`,
      limitMs,
    ).catch(async (error: unknown) => {
      assert.deepEqual(await this.texts(), expected)
      throw error
    })
  }

  /** Chooses from the menu of a message. */
  async choose(text: string, action: string): Promise<void> {
    await this.row(text).hover()
    await this.row(text)
      .getByRole('button', { name: /^Actions/ })
      .click()
    await this.page.getByRole('menuitem', { name: action, exact: true }).click()
  }

  /** The line at the top: through which replica one is connected, or why not. */
  banner(): Locator {
    return this.page.locator('.banner')
  }

  async close(): Promise<void> {
    await this.context.close()
    assert.deepEqual(this.problems, [], `what went wrong at ${this.name}'s browser`)
  }
}
