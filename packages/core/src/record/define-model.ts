import { utf8 } from '../bytes/utf8.ts'
import type { ValueCodec } from '../field/codec.ts'
import { createFieldPolicy } from '../field/field-policy.ts'
import { MAX_PAD_BYTES } from '../envelope/layout.ts'
import { isKeyspaceName } from '../context/keyspace.ts'
import { FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import { createBlindIndex, type BuiltField, type BuiltIndex, type ShapeOptions } from './blind-index-of-model.ts'
import type { BlindIndexOptions, FieldOptions, FieldState, IndexShapeOptions, ModelOptions } from './options.ts'
import type { BlindIndex, FieldDeclaration, ModelDeclaration, RecordMap } from './ports.ts'
import { createRecordMap } from './record-map.ts'
import { isUnreadable } from './unreadable.ts'

export interface ModelSettings {
  readonly tenancy: 'single' | 'multi'
  readonly codecs: ReadonlyMap<string, ValueCodec>
  /** False when an index across tenants has no CMKs to stand under. */
  readonly hasSharedKeys: boolean
  /** False when the adapter does not keep the states of fields. @defaultValue false */
  readonly fieldStates?: boolean
}

const MAX_ID_BYTES = 256
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
const INDEX_OPTIONS: readonly (keyof BlindIndexOptions)[] = [
  'normalize',
  'unique',
  'bits',
  'acrossTenants',
  'acceptLeak',
  'next',
]
const SHAPE_OPTIONS: readonly (keyof IndexShapeOptions)[] = ['normalize', 'bits']
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
  for (const field of fields) {
    const index = indexOf(model, field, declaration, settings, refuse)
    field.blindIndex = index
    if (index !== undefined) indexes.push(index)
  }
  return createRecordMap(model, declaration, fields, indexes)
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

type Refuse = (field: string | undefined, option: string, reason: string) => never

function assertModelOptions(declaration: ModelDeclaration, { tenancy }: ModelSettings, refuse: Refuse): void {
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
  if (compoundIndexes !== undefined && Object.keys(compoundIndexes).length > 0)
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

function indexOf(
  model: string,
  field: BuiltField,
  declaration: ModelDeclaration,
  settings: ModelSettings,
  refuse: Refuse,
): BlindIndex | undefined {
  const options = declaration.fields.find(({ path }) => path === field.path)?.options
  const given = options?.blindIndex
  if (given === undefined || given === false) return undefined
  if (given !== true && (typeof given !== 'object' || given === null || Array.isArray(given)))
    refuse(field.id, 'blindIndex', 'true or { normalize, unique, … }')
  const index: BlindIndexOptions = given === true ? {} : given
  const no = (option: string, reason: string) => refuse(field.id, `blindIndex.${option}`, reason)
  assertKnown(index, INDEX_OPTIONS, no)
  const { next } = index
  if (next !== undefined && (typeof next !== 'object' || next === null)) no('next', '{ normalize, bits }')
  if (next !== undefined) assertKnown(next, SHAPE_OPTIONS, (option, reason) => no(`next.${option}`, reason))
  if (next !== undefined && field.state !== 'encrypted')
    no('next', "one change at a time: the field must be in state 'encrypted'")
  if (index.unique !== undefined && typeof index.unique !== 'boolean') no('unique', NOT_YET)
  assertBoolean(index.acrossTenants, () => no('acrossTenants', 'true or false'))
  if (field.encryptNull) no('blindIndex', 'not with encryptNull: a missing token would tell the null')
  if (field.type === 'json') no('blindIndex', 'json has no equality to search for; index a field of its own')
  const fewValues = field.type === 'boolean' || options?.values !== undefined
  if (fewValues && index.acceptLeak !== 'few-values')
    no('acceptLeak', "so few values that equal tokens tell them; say acceptLeak: 'few-values' to index them anyway")
  if (index.acrossTenants === true && settings.tenancy === 'single') no('acrossTenants', "tenancy is 'single'")
  if (index.acrossTenants === true && !settings.hasSharedKeys)
    no('acrossTenants', 'needs sharedKeys: { cmks } beside a registry')
  const shapeOf = (of: IndexShapeOptions, prefix: string): ShapeOptions => {
    const bits = of.bits ?? 128
    if (!Number.isSafeInteger(bits) || bits % 8 !== 0 || bits < 16 || bits > 256)
      no(`${prefix}bits`, 'a multiple of 8 from 16 to 256')
    if (index.unique === true && bits < 128)
      no('unique', 'needs at least 128 bits: fewer would refuse different values')
    if (field.type !== 'string' && of.normalize !== undefined && of.normalize !== 'none')
      no(`${prefix}normalize`, 'only for strings')
    return { bits, normalize: [of.normalize] }
  }
  const now = shapeOf(index, '')
  const shapes = { now, next: next && shapeOf(next, 'next.') }
  const { unique = false, acrossTenants = false } = index
  const make = (): BuiltIndex => {
    try {
      return createBlindIndex(model, field.id, [field], { ...shapes, unique, acrossTenants })
    } catch (error) {
      return no('normalize', isFieldsealError(error) ? (error.details.reason ?? '') : 'not usable')
    }
  }
  const made = make()
  const [{ normalizer, bits }, later] = made.description.shapes
  if (later?.normalizer === normalizer && later.bits === bits) no('next', 'the index is so already')
  return made
}

function assertKnown(
  options: object,
  known: readonly string[],
  refuse: (option: string, reason: string) => void,
): void {
  for (const option of Object.keys(options)) {
    if (!known.includes(option)) refuse(option, `unknown option; known: ${known.join(', ')}`)
  }
}

function assertId(id: unknown, refuse: (reason: string) => void): void {
  if (typeof id !== 'string' || id === '' || !id.isWellFormed() || /\p{Cc}/u.test(id) || utf8(id).length > MAX_ID_BYTES)
    refuse(`1–${MAX_ID_BYTES} bytes of text without control characters`)
}

function assertBoolean(value: unknown, refuse: () => never): void {
  if (value !== undefined && typeof value !== 'boolean') refuse()
}

function assertCount(value: number | undefined, most: number, refuse: (reason: string) => void): void {
  if (value !== undefined && (!Number.isSafeInteger(value) || value < 1 || value > most))
    refuse(`a whole number from 1 to ${most}`)
}

function assertUnique(names: readonly string[], refuse: (name: string) => void): void {
  const seen = new Set<string>()
  for (const name of names) {
    if (seen.has(name)) refuse(name)
    seen.add(name)
  }
}
