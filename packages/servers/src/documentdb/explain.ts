import type { Document } from 'bson'
import { documentOf, elementsOf } from './bson-elements.ts'
import { CommandError } from './errors.ts'
import type { Run } from './handle.ts'

/** A node of PostgreSQL's plan, as JSON. */
interface PlanNode {
  readonly 'Node Type': string
  readonly 'Index Name'?: string
  readonly 'Index Cond'?: string
  readonly Plans?: readonly PlanNode[]
}

const PLANNED: Readonly<Record<string, string>> = {
  find: 'bson_aggregation_find',
  aggregate: 'bson_aggregation_pipeline',
  count: 'bson_aggregation_count',
  distinct: 'bson_aggregation_distinct',
}

/** Answers with the stage that MongoDB would name, `IXSCAN`, `IDHACK` or `COLLSCAN`, and PostgreSQL's plan beside it. */
export async function explain({ command, pool, transaction }: Run): Promise<Document> {
  const explained = elementsOf(command.body)[0]
  const document = explained && innerDocument(explained.bytes, explained.name)
  const elements = document ? elementsOf(document).filter(({ name }) => name !== '$db') : []
  const fn = PLANNED[elements[0]?.name ?? '']
  if (!fn) throw new CommandError(115, `explain of '${elements[0]?.name ?? ''}' is not supported`)
  const { rows } = await (transaction ?? pool).query<{ 'QUERY PLAN': string }>(
    `EXPLAIN (FORMAT JSON) SELECT document FROM documentdb_api_catalog.${fn}($1, $2::bytea::documentdb_core.bson)`,
    [command.database, documentOf(elements.map(({ bytes }) => bytes))],
  )
  const plans = JSON.parse(rows[0]?.['QUERY PLAN'] ?? '[]') as readonly { readonly Plan: PlanNode }[]
  const root = plans[0]?.Plan
  return {
    queryPlanner: { winningPlan: { ...(root && winningPlan(root)) }, postgres: root },
    command: { db: command.database },
    ok: 1,
  }
}

function winningPlan(root: PlanNode): Document {
  const scans = nodesOf(root).filter((node) => node['Index Name'] !== undefined)
  const byKey = scans.find((node) => node['Index Name'] !== '_id_')
  if (byKey) return { stage: 'IXSCAN', indexName: byKey['Index Name'] }
  // A scan of the whole collection may also go along its primary key.
  const byId = scans.some((node) => node['Index Cond']?.includes('object_id'))
  return { stage: byId ? 'IDHACK' : 'COLLSCAN' }
}

function nodesOf(node: PlanNode): PlanNode[] {
  return [node, ...(node.Plans ?? []).flatMap((child) => nodesOf(child))]
}

/** The value of an encoded field that is a document. */
function innerDocument(bytes: Buffer, name: string): Buffer {
  return bytes.subarray(1 + Buffer.byteLength(name) + 1)
}
