import { Policy } from '../../gen/parley/v1/model.ts'
import { UsageError } from '../io.ts'
import { parseDuration, table } from '../text.ts'
import { type Report, verb } from '../verb.ts'

/** The settings of a cluster: by their names in the .proto, which `fields` of the request wants too. */
const settings = {
  registration_open: { key: 'registrationOpen', type: 'switch', says: 'anybody may make an account' },
  single_session: {
    key: 'singleSession',
    type: 'switch',
    says: "signing in ends the account's other sessions",
  },
  idle_logout_s: {
    key: 'idleLogoutS',
    type: 'number',
    says: 'seconds without activity until a session ends, 60 at least; 0 = never',
  },
  max_message_bytes: { key: 'maxMessageBytes', type: 'number', says: 'largest message, 1 to 65536' },
  messages_per_minute: { key: 'messagesPerMinute', type: 'number', says: 'of one account; 0 = no limit' },
  session_lifetime_s: {
    key: 'sessionLifetimeS',
    type: 'number',
    says: 'seconds that a session lasts, 60 at least',
  },
  retention_s: {
    key: 'retentionS',
    type: 'duration',
    says: 'messages older than this are removed for good: seconds, or 30d, 12h; 0 = never',
  },
} as const satisfies Record<
  string,
  { readonly key: keyof Policy; readonly type: 'switch' | 'number' | 'duration'; readonly says: string }
>
type Setting = keyof typeof settings

export const policyGet = verb(
  { name: 'policy get', summary: 'show the settings of the cluster', arguments: [], options: [] },
  () => ({}),
  async (_, { session }) => report((await session().client.call('getPolicy', {})).policy),
)

export const policySet = verb(
  {
    name: 'policy set',
    summary: 'change settings of the cluster: policy set registration_open=false',
    arguments: ['<setting=value...>'],
    options: [],
    examples: ['parley policy set registration_open=false messages_per_minute=600'],
  },
  ({ arguments: words }) => words.map(parseSetting),
  async (changes, { session }) => {
    const policy = {
      ...Policy.create(),
      ...Object.fromEntries(changes.map(({ name, value }) => [settings[name].key, value])),
    }
    const response = await session()
      .signedIn()
      .call('setPolicy', { policy, fields: changes.map(({ name }) => name) })
    return report(response.policy)
  },
)

function parseSetting(word: string): { readonly name: Setting; readonly value: boolean | number } {
  const [, name, value] = /^([a-z_]+)=(.+)$/.exec(word) ?? []
  if (name === undefined || value === undefined || !isSetting(name))
    throw new UsageError(
      `a setting is given as name=value, and the names are ${Object.keys(settings).join(', ')}; not "${word}"`,
    )
  if (settings[name].type === 'duration') return { name, value: parseDuration(value) }
  if (settings[name].type === 'number') {
    if (!/^[0-9]{1,15}$/.test(value)) throw new UsageError(`${name} is a whole number, not "${value}"`)
    return { name, value: Number(value) }
  }
  if (value !== 'true' && value !== 'false') throw new UsageError(`${name} is true or false, not "${value}"`)
  return { name, value: value === 'true' }
}

function isSetting(name: string): name is Setting {
  return name in settings
}

function report(policy: Policy | undefined): Report {
  const values = policy ?? Policy.create()
  const rows = Object.entries(settings)
  return {
    data: Object.fromEntries(rows.map(([name, { key }]) => [name, values[key]])),
    lines: table(rows.map(([name, { key, says }]) => [`${name}=${values[key]}`, says])),
  }
}
