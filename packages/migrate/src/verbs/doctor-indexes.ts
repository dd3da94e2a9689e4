import type { BlindIndex } from '@fieldseal/core/adapter'
import type { Surroundings } from '../engine/target.ts'
import { indexRecords, type IndexInfo, movesOf } from '../reindex/moves.ts'
import type { Finding } from './doctor.ts'

/** Tenants and indexes asked about; each is a look into the key store. */
const MAX_INDEXES = 200

/** Blind indexes whose tokens are not, or not yet, what the annotations describe. */
export async function aboutIndexes(
  surroundings: Surroundings,
  tenant: string | undefined,
): Promise<readonly Finding[]> {
  const indexes = surroundings.sources.flatMap(({ models }) => models.flatMap((map) => map.indexes))
  const records = await indexRecords(surroundings, tenant)
  const findings: Finding[] = []
  for (const { index, owner, epochs } of await movesOf(surroundings, indexes, firstOf(records), [])) {
    const where = `${index.model}.${index.id}`
    const fix = `fieldseal reindex --model ${index.model} --field ${fieldOf(index)}`
    if (!epochs.described)
      findings.push({
        severity: 'error',
        where,
        problem: `tokens of tenant ${owner} are not what blindIndex describes: look-ups and writes throw`,
        fix: 'put the options back, with what they are to become as next',
      })
    else if (epochs.stage !== 'settled')
      findings.push({ severity: 'warning', where, problem: `a reindex of tenant ${owner} has not ended`, fix })
    else if (!epochs.arrived)
      findings.push({
        severity: 'warning',
        where,
        problem: `tokens of tenant ${owner} are not yet what blindIndex.next describes`,
        fix,
      })
  }
  return findings
}

/** How `reindex` knows it. */
function fieldOf({ id, fields: [field, ...others] }: BlindIndex): string {
  return others.length === 0 && field !== undefined ? field.path : id
}

function firstOf(records: readonly IndexInfo[]): readonly IndexInfo[] {
  const live = records.filter(({ role }) => role !== 'old')
  return live.slice(0, MAX_INDEXES)
}
