import type pg from 'pg'
import type { Patient } from '../scale/clinic.ts'

const BATCH = 500

export async function readPatients(client: pg.Client): Promise<readonly Patient[]> {
  return (await client.query<Patient>('SELECT id, email, ssn, note FROM patients')).rows
}

/** What a script without batches does: the loop that rotation is compared with. */
export async function updateOneByOne(client: pg.Client, patients: readonly Patient[]): Promise<number> {
  let updated = 0
  for (const { id, email, ssn, note } of patients) {
    const { rowCount } = await client.query('UPDATE patients SET email = $2, ssn = $3, note = $4 WHERE id = $1', [
      id,
      email,
      ssn,
      note,
    ])
    updated += rowCount ?? 0
  }
  return updated
}

export async function updateInBatches(client: pg.Client, patients: readonly Patient[]): Promise<number> {
  let updated = 0
  for (let at = 0; at < patients.length; at += BATCH) {
    const part = patients.slice(at, at + BATCH)
    const { rowCount } = await client.query(
      `UPDATE patients t SET email = v.email, ssn = v.ssn, note = v.note
       FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS v(id, email, ssn, note) WHERE t.id = v.id`,
      (['id', 'email', 'ssn', 'note'] as const).map((name) => part.map((row) => row[name])),
    )
    updated += rowCount ?? 0
  }
  return updated
}
