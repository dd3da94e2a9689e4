import type { IndexKeys } from '../blind-index/index-keys.ts'
import { checkedKeyspace, DEFAULT_KEYSPACE } from '../context/keyspace.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { BUILT_IN_CODECS } from '../field/built-in-codecs.ts'
import type { DirectKeys } from '../keyring/direct-keys.ts'
import { withLiveKeys } from '../keyring/with-live-keys.ts'
import type { Keyrings } from '../keyring/keyrings.ts'
import type { OperationContext } from '../tenant/tenant-context.ts'
import type { Adapter, LoadOptions } from './adapter-host.ts'
import { built } from './blind-index-of-model.ts'
import type { CellAudit } from './cell-audit.ts'
import { defineModel } from './define-model.ts'
import type { KeyMode } from './options.ts'
import type { ModelDeclaration, RecordMap } from './ports.ts'

/** The models of all adapters of one Fieldseal. */
export interface ModelRegistry {
  define(declaration: ModelDeclaration, adapter: Pick<Adapter, 'codecs' | 'fieldStates' | 'compoundIndexes'>): RecordMap
  /** Makes and loads all keys that the models need for a tenant, and the given keyspaces. */
  prepare(tenant: string, keyspaces: readonly string[]): Promise<void>
  load(maps: readonly RecordMap[], context: OperationContext, options: LoadOptions): Promise<void>
}

export interface ModelRegistrySettings {
  readonly app: string
  readonly tenancy: 'single' | 'multi'
  readonly hasSharedKeys: boolean
  readonly keyrings: Keyrings
  readonly indexKeys: IndexKeys
  readonly directKeys: DirectKeys
  readonly cellAudit: CellAudit
}

export function createModelRegistry({
  app,
  tenancy,
  hasSharedKeys,
  keyrings,
  indexKeys,
  directKeys,
  cellAudit,
}: ModelRegistrySettings): ModelRegistry {
  const models = new Map<string, { readonly declaration: ModelDeclaration; readonly map: RecordMap }>()

  async function load(
    maps: readonly RecordMap[],
    tenant: string,
    { use = 'write', keyspaces = [], via }: LoadOptions,
  ): Promise<void> {
    const fixed = (mode: KeyMode) =>
      maps.filter((map) => map.mode === mode).flatMap(({ keyspace }) => (keyspace === undefined ? [] : [keyspace]))
    const refOf = (keyspace: string) => ({ app, tenant, keyspace: checkedKeyspace(keyspace) })
    // Keyspaces of rows at hand, which are rows of these maps.
    const onlyDirect = maps.length > 0 && maps.every((map) => map.mode === 'direct')
    const named = { kek: onlyDirect ? [] : keyspaces, direct: onlyDirect ? keyspaces : [] }
    for (const keyspace of new Set([...fixed('kek'), ...named.kek])) {
      const ref = refOf(keyspace)
      await (use === 'write' ? keyrings.toWrap(ref, 'wrap', via) : keyrings.snapshot(ref, 'read', via))
    }
    for (const keyspace of new Set([...fixed('direct'), ...named.direct])) {
      const ref = refOf(keyspace)
      await (use === 'write' ? directKeys.toWrap(ref, via) : keyrings.snapshot(ref, 'read', via))
    }
    for (const map of maps) {
      for (const index of map.indexes) await indexKeys.live(tenant, built.index(index).description, use, via)
    }
  }

  /** A row of another tenant never reaches the cipher: its facts are refused. */
  function audited(map: RecordMap): RecordMap {
    return {
      ...map,
      facts(row, context) {
        try {
          return map.facts(row, context)
        } catch (error) {
          cellAudit.refused('decrypt', error)
          throw error
        }
      },
    }
  }

  return {
    define(declaration, { codecs = [], fieldStates = false, compoundIndexes = false }) {
      const known = new Map([...BUILT_IN_CODECS, ...codecs].map((codec) => [codec.type, codec]))
      const map = audited(
        defineModel(declaration, { tenancy, codecs: known, hasSharedKeys, fieldStates, compoundIndexes }),
      )
      const earlier = models.get(map.id)
      if (earlier !== undefined && !agree(earlier.declaration, declaration)) {
        throw new FieldsealError('ERR_CONFIG_INVALID', {
          model: map.id,
          field: 'id',
          reason: 'two different models have this id',
          hint: 'give one of them an id of its own',
        })
      }
      models.set(map.id, { declaration, map })
      return map
    },
    async prepare(tenant, keyspaces) {
      const maps = [...models.values()].map(({ map }) => map)
      await withLiveKeys(() => load(maps, tenant, { keyspaces: [DEFAULT_KEYSPACE, ...keyspaces] }))
    },
    async load(maps, { tenant }, options) {
      if (typeof tenant === 'string') await withLiveKeys(() => load(maps, tenant, options))
    },
  }
}

/** Whether two declarations under one id can be of one model. */
function agree(earlier: ModelDeclaration, later: ModelDeclaration): boolean {
  if (earlier.grows !== true || later.grows !== true) return JSON.stringify(earlier) === JSON.stringify(later)
  const known = new Map(earlier.fields.map((field) => [field.path, JSON.stringify(field)]))
  const alike = later.fields.every(
    (field) => (known.get(field.path) ?? JSON.stringify(field)) === JSON.stringify(field),
  )
  return alike && JSON.stringify({ ...earlier, fields: [] }) === JSON.stringify({ ...later, fields: [] })
}
