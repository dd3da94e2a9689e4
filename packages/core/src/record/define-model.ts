import type { ValueCodec } from '../field/codec.ts'
import { createFieldPolicy } from '../field/field-policy.ts'
import { MAX_PAD_BYTES } from '../envelope/layout.ts'
import { isKeyspaceName } from '../context/keyspace.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { BuiltField } from './blind-index-of-model.ts'
import { defineCompoundIndexes } from './define-compound.ts'
import { defineIndex, type IndexSettings } from './define-index.ts'
import { assertBoolean, assertCount, assertId, assertKnown, assertUnique, type Refuse } from './option-checks.ts'
import type { FieldOptions, FieldState, ModelOptions } from './options.ts'
import type { BlindIndex, FieldDeclaration, ModelDeclaration, RecordMap } from './ports.ts'
import { createRecordMap } from './record-map.ts'
import { isUnreadable } from './unreadable.ts'

export interface ModelSettings extends IndexSettings {
  readonly codecs: ReadonlyMap<string, ValueCodec>
  /** False when the adapter does not keep the states of fields. @defaultValue false */
  readonly fieldStates?: boolean
  /** False when the adapter keeps no indexes over several fields. @defaultValue false */
  readonly compoundIndexes?: boolean
}

const MODEL_OPTIONS: readonly (keyof ModelOptions)[] = [
  'id',
  'tenantBy',
  'keyspace',
  'bindRow',
  'mode',
  'accepts',
  'compoundIndexes',
]
const FIELD_OPTIONS: readonly (keyof FieldOptions)[] = [
  'blindIndex',
  'values',
  'padToBytes',
  'maxBytes',
  'encryptNull',
  'state',
  'plaintextIn',
  'id',
  'formerTypes',
]
const NOT_YET = 'not supported yet'
const STATES: readonly FieldState[] = ['plaintext', 'migrating', 'encrypted']

/** Checks every option of a model. @throws FieldsealError ERR_CONFIG_INVALID naming model, field and option */
export function defineModel(declaration: ModelDeclaration, settings: ModelSettings): RecordMap {
  const { options } = declaration
  const model = options.id ?? declaration.id
  const refuse: Refuse = (field, option, reason) => {
    throw new FieldsealError('ERR_CONFIG_INVALID', {
      model,
      ...(field === undefined ? {} : { field }),
      operation: option,
      reason: `${option}: ${reason}`,
    })
  }
  assertKnown(options, MODEL_OPTIONS, (option, reason) => refuse(undefined, option, reason))
  assertId(model, (reason) => refuse(undefined, 'id', reason))
  assertModelOptions(declaration, settings, refuse)
  const fields = declaration.fields.map((field) => buildField(model, field, settings, refuse))
  assertUnique(
    fields.map((field) => field.id),
    (id) => refuse(id, 'id', 'two fields have this id'),
  )
  assertUnique(
    fields.map((field) => field.path),
    (path) => refuse(path, 'path', 'two fields have this path'),
  )
  assertFactsArePlain(declaration, fields, refuse)
  assertPlaintextApart(declaration, fields, refuse)
  const indexes: BlindIndex[] = []
  for (const [at, field] of fields.entries()) {
    const index = defineIndex(field, declaration.fields[at] as FieldDeclaration, fields, settings, refuse) // one for each
    field.blindIndex = index
    if (index !== undefined) indexes.push(index)
  }
  const compounds = defineCompoundIndexes(
    options.compoundIndexes,
    { model, fields, declared: declaration.fields },
    refuse,
  )
  return createRecordMap(model, declaration, fields, [...indexes, ...compounds])
}

/** What says whose key a value needs cannot itself be encrypted. */
function assertFactsArePlain(
  { options, rowKey }: ModelDeclaration,
  fields: readonly BuiltField[],
  refuse: Refuse,
): void {
  const { tenantBy, keyspace } = options
  const facts = [
    ['tenantBy', tenantBy],
    ['keyspace', typeof keyspace === 'object' ? keyspace.per : undefined],
    ...rowKey.map(({ path }) => ['bindRow', path] as const),
  ] as const
  for (const [option, path] of facts) {
    const field = fields.find((candidate) => candidate.path === path)
    if (field !== undefined)
      refuse(field.id, option, 'the tenant, keyspace and key columns of a model cannot be encrypted')
  }
}

/** Where old plaintext stands, nothing else may: it is cleared. */
function assertPlaintextApart(
  { options: { tenantBy, keyspace }, rowKey }: ModelDeclaration,
  fields: readonly BuiltField[],
  refuse: Refuse,
): void {
  const taken = new Set<string | undefined>([
    ...fields.map(({ path }) => path),
    ...rowKey.map(({ path }) => path),
    tenantBy,
    typeof keyspace === 'object' ? keyspace.per : undefined,
  ])
  for (const { id, plaintextIn } of fields) {
    if (plaintextIn === undefined) continue
    if (taken.has(plaintextIn))
      refuse(id, 'plaintextIn', 'another field, or a tenant, keyspace or key column, stands there')
    taken.add(plaintextIn)
  }
}

function assertModelOptions(declaration: ModelDeclaration, settings: ModelSettings, refuse: Refuse): void {
  const { tenancy } = settings
  const { options, rowKey } = declaration
  const { tenantBy, keyspace, bindRow, mode, accepts, compoundIndexes } = options
  if (tenantBy !== undefined && (typeof tenantBy !== 'string' || tenantBy === ''))
    refuse(undefined, 'tenantBy', 'a name')
  if (tenancy === 'single' && tenantBy !== undefined && tenantBy !== 'none')
    refuse(undefined, 'tenantBy', "tenancy is 'single'")
  if (tenancy === 'multi' && tenantBy === undefined) {
    refuse(
      undefined,
      'tenantBy',
      "name the property with the row's tenant, or 'none' for a database or schema per tenant",
    )
  }
  if (mode !== undefined && mode !== 'kek' && mode !== 'direct') refuse(undefined, 'mode', "'kek' or 'direct'")
  if (bindRow !== undefined && !['when-known', 'require', 'never'].includes(bindRow))
    refuse(undefined, 'bindRow', "'when-known', 'require' or 'never'")
  if (bindRow === 'require' && (rowKey.length === 0 || rowKey.some(({ kind }) => kind === 'other'))) {
    refuse(undefined, 'bindRow', 'the primary key has no canonical form to bind to')
  }
  if (accepts !== undefined && !Array.isArray(accepts)) refuse(undefined, 'accepts', 'a list')
  for (const layout of accepts ?? []) {
    if (layout !== 'kek' && layout !== 'direct' && layout !== 'unbound')
      refuse(undefined, 'accepts', "'kek', 'direct' or 'unbound'")
  }
  if (settings.compoundIndexes !== true && compoundIndexes !== undefined && Object.keys(compoundIndexes).length > 0)
    refuse(undefined, 'compoundIndexes', NOT_YET)
  if (keyspace !== undefined) assertKeyspace(keyspace, (reason) => refuse(undefined, 'keyspace', reason))
  const direct = mode === 'direct' ? 'mode' : accepts?.includes('direct') === true ? 'accepts' : undefined
  if (direct !== undefined) assertDirect(declaration, (option, reason) => refuse(undefined, option ?? direct, reason))
}

/** What stands in the log of the customer's KMS with every row: an opaque key, and the model's id. */
function assertDirect(
  { id, options, rowKey }: ModelDeclaration,
  refuse: (option: string | undefined, reason: string) => never,
): void {
  if (rowKey.length === 0 || rowKey.some(({ kind }) => kind === 'other' || kind === 'string'))
    refuse(undefined, 'direct needs an opaque primary key (uuid, ObjectId, integer): the KMS logs it in clear')
  if (typeof options.keyspace === 'object')
    refuse(undefined, 'direct has no key of ours to shred: no keyspace per data subject')
  const model = options.id ?? id
  if (model.normalize('NFC') !== model) refuse('id', 'direct needs an id in Unicode form NFC')
  if (options.mode === 'direct' && options.bindRow !== undefined && options.bindRow !== 'require')
    refuse('bindRow', "mode 'direct' binds every row")
}

function assertKeyspace(keyspace: unknown, refuse: (reason: string) => never): void {
  const bySubject = typeof keyspace === 'object' && keyspace !== null ? keyspace : undefined
  if (bySubject !== undefined) {
    const { per } = bySubject as { readonly per?: unknown }
    if (typeof per !== 'string' || per === '') refuse('per: the property that names the data subject')
    assertKnown(bySubject, ['per', 'of'], (option, reason) => refuse(`${option}: ${reason}`))
  }
  const name: unknown = bySubject === undefined ? keyspace : Reflect.get(bySubject, 'of')
  if (!isKeyspaceName(name)) refuse('a name is [a-z0-9][a-z0-9_.-]{0,63}, and not default')
}

function buildField(
  model: string,
  { path, type, options }: FieldDeclaration,
  settings: ModelSettings,
  refuse: Refuse,
): BuiltField & { blindIndex: BlindIndex | undefined } {
  const id = options.id ?? path
  assertKnown(options, FIELD_OPTIONS, (option, reason) => refuse(id, option, reason))
  assertId(id, (reason) => refuse(id, 'id', reason))
  const codecOf = (name: string, option: string) =>
    settings.codecs.get(name) ?? refuse(id, option, `unknown type; known: ${[...settings.codecs.keys()].join(', ')}`)
  const codec = codecOf(type, 'type')
  assertBoolean(options.encryptNull, () => refuse(id, 'encryptNull', 'true or false'))
  if (options.formerTypes !== undefined && !Array.isArray(options.formerTypes))
    refuse(id, 'formerTypes', 'a list of types')
  const { state = 'encrypted', plaintextIn } = options
  if (settings.fieldStates !== true && state !== 'encrypted') refuse(id, 'state', NOT_YET)
  if (settings.fieldStates !== true && plaintextIn !== undefined) refuse(id, 'plaintextIn', NOT_YET)
  if (!STATES.includes(state)) refuse(id, 'state', "'plaintext', 'migrating' or 'encrypted'")
  if (plaintextIn !== undefined && (typeof plaintextIn !== 'string' || plaintextIn === '' || plaintextIn === path))
    refuse(id, 'plaintextIn', 'another column or path, or nothing: then it is the own place of the field')
  assertCount(options.padToBytes, MAX_PAD_BYTES, (reason) => refuse(id, 'padToBytes', reason))
  assertCount(options.maxBytes, 2 ** 30, (reason) => refuse(id, 'maxBytes', reason))
  const { values } = options
  if (values !== undefined) {
    if (type !== 'string') refuse(id, 'values', 'only for strings')
    if (
      !Array.isArray(values) ||
      values.length === 0 ||
      values.some((value) => typeof value !== 'string' || !value.isWellFormed())
    )
      refuse(id, 'values', 'a list of strings')
    assertUnique(values, () => refuse(id, 'values', 'a value stands twice'))
  }
  const policy = createFieldPolicy({
    model,
    id,
    codec,
    formerCodecs: (options.formerTypes ?? []).map((former) => codecOf(former, 'formerTypes')),
    values: values === undefined ? undefined : [...values],
    padToBytes: options.padToBytes,
    maxBytes: options.maxBytes,
    encryptNull: options.encryptNull ?? false,
  })
  return {
    model,
    path,
    id,
    type,
    encryptNull: policy.encryptNull,
    state,
    plaintextIn,
    blindIndex: undefined,
    policy,
    compareKey: (value) => (isUnreadable(value) ? value.compareKey() : policy.compareKey(value)),
  }
}
