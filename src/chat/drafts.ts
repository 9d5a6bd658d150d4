import { Draft } from '../gen/parley/v1/model.ts'
import type { SqlRow } from './sql.ts'
import { blob, integer, string } from './statements.ts'

export function draftFromRow(row: SqlRow): Draft {
  return {
    id: blob(row['id']),
    text: string(row['text']),
    recipients: Draft.decode(blob(row['recipients'])).recipients,
    version: integer(row['version']),
    updatedAtMs: integer(row['updated_at_ms']),
    conflictOf: blob(row['conflict_of']),
  }
}
