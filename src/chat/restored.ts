import { newestVersion } from '../base/version.ts'
import { prepareSchema } from './schema.ts'
import type { Sql } from './sql.ts'
import { integer } from './statements.ts'

/**
 * Makes the state of one cluster the beginning of another. What belonged to the old replicas goes: who was connected to them, how far their batches had been applied, and the
 * tokens that let replicas in. Everything else stays: accounts, messages, drafts, marks, outcomes, and the sessions of people unless `logOutAll`.
 *
 * @throws NewerVersionError
 */
export function prepareRestored(
  db: Sql,
  logOutAll: boolean,
): { readonly accounts: number; readonly messages: number } {
  prepareSchema(db, newestVersion)
  db.exec(`
    BEGIN IMMEDIATE;
    DELETE FROM presence;
    UPDATE account SET connections = 0 WHERE connections <> 0;
    DELETE FROM origin;
    DELETE FROM join_token;
    ${logOutAll ? 'DELETE FROM session;' : ''}
    COMMIT;
  `)
  const numberOf = (query: string): number => integer(db.prepare(query).get()?.['n'])
  return {
    accounts: numberOf('SELECT count(*) AS n FROM account WHERE name_key IS NOT NULL'),
    messages: numberOf('SELECT count(*) AS n FROM message WHERE deleted = 0'),
  }
}
