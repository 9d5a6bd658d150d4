import type { Sql } from './sql.ts'
import { NewerVersionError } from './versions.ts'

/** Of a new state: what all versions of Parley know. It is raised through the log, see `RaiseVersionCommand`. */
const firstVersion = 1

/** In the column retention_s of a conversation: it has no own retention, and never had one. */
export const followsPolicy = -2
/** It had one once, so what is due in it is found by its own numbers. */
export const followsAgain = -1

/** `#everyone`: the conversation of all accounts, there from the start. */
export const everyoneId = 1

/**
 * The tables of the state machine, in the order in which a digest of the state goes over them, each with the columns of its key. Everything in them is a function of the log
 * alone, so it is the same on every replica that has applied as much.
 */
export const tables: readonly { readonly name: string; readonly key: string }[] = [
  { name: 'chat_state', key: 'only_row' },
  { name: 'policy', key: 'only_row' },
  { name: 'origin', key: 'replica' },
  { name: 'account', key: 'id' },
  { name: 'session', key: 'id' },
  { name: 'presence', key: 'session, replica' },
  { name: 'conversation', key: 'id' },
  { name: 'member', key: 'account, conversation' },
  { name: 'mark', key: 'account, conversation, seq' },
  { name: 'hidden', key: 'account, conversation, seq' },
  { name: 'message', key: 'place' },
  { name: 'draft', key: 'account, id' },
  { name: 'event', key: 'place' },
  { name: 'outcome', key: 'id' },
  { name: 'join_token', key: 'number' },
  { name: 'removed', key: 'position, place' },
]

// A place orders messages and events: 65536 times the position of the command, plus a number within the command.
const schema = `
CREATE TABLE chat_state (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  version INTEGER NOT NULL,
  position INTEGER NOT NULL,
  now_ms INTEGER NOT NULL,
  last_account INTEGER NOT NULL,
  last_session INTEGER NOT NULL,
  last_conversation INTEGER NOT NULL
) STRICT;
INSERT INTO chat_state VALUES (1, ${firstVersion}, 0, 0, 0, 0, ${everyoneId});

CREATE TABLE policy (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  registration_open INTEGER NOT NULL,
  single_session INTEGER NOT NULL,
  idle_logout_s INTEGER NOT NULL,
  max_message_bytes INTEGER NOT NULL,
  messages_per_minute INTEGER NOT NULL,
  session_lifetime_s INTEGER NOT NULL
) STRICT;
INSERT INTO policy VALUES (1, 1, 0, 0, 16384, 0, 7776000);

-- The newest batch of each replica.
CREATE TABLE origin (
  replica INTEGER PRIMARY KEY,
  incarnation INTEGER NOT NULL,
  number INTEGER NOT NULL
) STRICT;

CREATE TABLE account (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  -- The name in lower case; null when the account was deleted, so that the name is free.
  name_key TEXT UNIQUE,
  password_hash TEXT NOT NULL,
  password_version INTEGER NOT NULL,
  admin INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL,
  -- Rows of its sessions in presence.
  connections INTEGER NOT NULL DEFAULT 0,
  -- For the policy's messages_per_minute: until when the messages sent so far use up the rate, in microseconds since 1970.
  rate_until_us INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE session (
  id INTEGER PRIMARY KEY,
  account INTEGER NOT NULL,
  token_hash BLOB NOT NULL UNIQUE,
  device TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  last_active_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX session_by_account ON session (account);
CREATE INDEX session_by_expiry ON session (expires_at_ms);
CREATE INDEX session_by_activity ON session (last_active_at_ms);

CREATE TABLE presence (
  session INTEGER NOT NULL,
  replica INTEGER NOT NULL,
  incarnation INTEGER NOT NULL,
  PRIMARY KEY (session, replica)
) STRICT, WITHOUT ROWID;
CREATE INDEX presence_by_replica ON presence (replica, incarnation);

CREATE TABLE conversation (
  id INTEGER PRIMARY KEY,
  -- 1 direct, 2 room, 3 everyone.
  kind INTEGER NOT NULL,
  name TEXT NOT NULL,
  -- The room's name in lower case; null for direct conversations, and for private rooms that nobody is in any more.
  name_key TEXT UNIQUE,
  topic TEXT NOT NULL,
  private INTEGER NOT NULL,
  owner INTEGER NOT NULL,
  -- The two accounts of a direct conversation.
  low INTEGER NOT NULL,
  high INTEGER NOT NULL,
  members INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  -- Of the newest message, or of its making.
  last_position INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX conversation_by_pair ON conversation (low, high) WHERE kind = 1;
INSERT INTO conversation VALUES (${everyoneId}, 3, 'everyone', 'everyone', '', 0, 0, 0, 0, 0, 0, 0);

CREATE TABLE member (
  account INTEGER NOT NULL,
  conversation INTEGER NOT NULL,
  joined_position INTEGER NOT NULL,
  -- read_up_to <= opened_up_to.
  opened_up_to INTEGER NOT NULL,
  read_up_to INTEGER NOT NULL,
  -- The account's own messages above these, so that the others' can be counted without looking at each.
  own_unopened INTEGER NOT NULL DEFAULT 0,
  own_unread INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (account, conversation)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_by_conversation ON member (conversation, account);

-- Exceptions to read_up_to, of messages of others: read ones above it, unread ones up to it. Above opened_up_to both are out of the inbox: an unread one there was read before.
CREATE TABLE mark (
  account INTEGER NOT NULL,
  conversation INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  read INTEGER NOT NULL,
  PRIMARY KEY (account, conversation, seq)
) STRICT, WITHOUT ROWID;

-- Messages that an account deleted for itself.
CREATE TABLE hidden (
  account INTEGER NOT NULL,
  conversation INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  own INTEGER NOT NULL,
  PRIMARY KEY (account, conversation, seq)
) STRICT, WITHOUT ROWID;

-- Rows are appended in the order of the log, which is far cheaper than clustering them by conversation when many conversations are written at once.
CREATE TABLE message (
  place INTEGER PRIMARY KEY,
  conversation INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  id BLOB NOT NULL,
  sender INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  edited_at_ms INTEGER NOT NULL DEFAULT 0,
  -- Position of the newest edit or deletion for all; 0 = none.
  changed_position INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0,
  text TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX message_by_seq ON message (conversation, seq);
CREATE INDEX message_deleted ON message (conversation, seq) WHERE deleted = 1;
CREATE INDEX message_changed ON message (changed_position) WHERE changed_position > 0;

CREATE TABLE draft (
  account INTEGER NOT NULL,
  id BLOB NOT NULL,
  version INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  -- Empty, or the draft of which this is a copy.
  conflict_of BLOB NOT NULL,
  -- An encoded Draft that holds the recipients only.
  recipients BLOB NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;

-- Events of a bounded window, but for messages that were sent: those are events by themselves.
CREATE TABLE event (
  place INTEGER PRIMARY KEY,
  -- 1 conversation, 2 account, 3 all.
  audience INTEGER NOT NULL,
  audience_id INTEGER NOT NULL,
  -- 1 body is the encoded Event; 2 an edited message, body is its MessageRef; 3 a draft of the account, body is its id.
  kind INTEGER NOT NULL,
  body BLOB NOT NULL
) STRICT;

-- What the commands of the last days came to, by the ids that clients chose.
CREATE TABLE outcome (
  id BLOB PRIMARY KEY,
  account INTEGER NOT NULL,
  fingerprint INTEGER NOT NULL,
  -- A message that was sent: its place. Then there is no body.
  sent INTEGER,
  delivered INTEGER,
  -- An encoded Outcome, without texts.
  body BLOB
) STRICT, WITHOUT ROWID;
`

/** Came after the first release, so a state that is there may be without. */
const joinTokens = `
CREATE TABLE IF NOT EXISTS join_token (
  number INTEGER PRIMARY KEY,
  secret_hash BLOB NOT NULL UNIQUE,
  uses_left INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  -- The name of an administrator; empty for somebody at a replica's own machine.
  created_by TEXT NOT NULL
) STRICT;
`

/** Came after the first release too. It is made at once and stays as it is until a command of the version that knows it changes it, so the state is the same on every replica. */
const expiry = `
ALTER TABLE policy ADD COLUMN retention_s INTEGER NOT NULL DEFAULT 0;
-- Messages up to here were removed for their age.
ALTER TABLE conversation ADD COLUMN expired_up_to INTEGER NOT NULL DEFAULT 0;
-- The room's own retention; ${followsPolicy}: as the policy says; ${followsAgain}: the same, but it had its own before.
ALTER TABLE conversation ADD COLUMN retention_s INTEGER NOT NULL DEFAULT ${followsPolicy};
CREATE INDEX conversation_by_retention ON conversation (id) WHERE retention_s <> ${followsPolicy};
-- Up to this place all messages of conversations that follow the policy, and always did, were looked at.
ALTER TABLE chat_state ADD COLUMN expired_place INTEGER NOT NULL DEFAULT 0;
-- What was removed up to here is not in the table of what was removed any more.
ALTER TABLE chat_state ADD COLUMN forgotten_position INTEGER NOT NULL DEFAULT 0;
-- Messages that were removed, for an index of texts that follows: of a bounded window.
CREATE TABLE removed (
  position INTEGER NOT NULL,
  place INTEGER NOT NULL,
  PRIMARY KEY (position, place)
) STRICT, WITHOUT ROWID;
`

/**
 * Makes the tables, or checks that they are of a known version.
 *
 * @param newest the newest version that this replica knows.
 * @throws NewerVersionError when the state is of a later one.
 */
export function prepareSchema(db: Sql, newest: number): void {
  const exists = db.prepare(`SELECT 1 AS found FROM sqlite_master WHERE name = 'chat_state'`).get()
  if (exists === undefined) {
    // A savepoint is a transaction of its own, or a part of the caller's.
    db.exec(`SAVEPOINT chat_schema; ${schema} ${joinTokens} ${expiry} RELEASE chat_schema`)
    return
  }
  const found = Number(db.prepare('SELECT version FROM chat_state').get()?.['version'])
  if (found > newest)
    throw new NewerVersionError(
      `the state has version ${found}, and this Parley knows version ${newest}: run a Parley that is at least as new as the one that wrote it`,
    )
  db.exec(joinTokens)
  if (db.prepare(`SELECT 1 AS found FROM sqlite_master WHERE name = 'removed'`).get() === undefined)
    db.exec(`SAVEPOINT chat_schema; ${expiry} RELEASE chat_schema`)
}
