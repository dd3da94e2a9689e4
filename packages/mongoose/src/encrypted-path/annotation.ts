import type { FieldOptions, ModelOptions } from '@fieldseal/core/adapter'
import type { Schema, SchemaType } from 'mongoose'
import type { Annotation } from '../path-graph/path-node.ts'
import { escapedName } from '../path-graph/escaped-name.ts'
import { configError } from './config-error.ts'

declare module 'mongoose' {
  interface SchemaTypeOptions<T, EnforcedDocType, THydratedDocumentType> {
    /** Encrypts the path with Fieldseal. A container (array, Map, subdocument, Mixed) is then one encrypted value. */
    encrypted?: boolean | FieldOptions
  }
  interface SchemaOptions<
    DocType,
    TInstanceMethods,
    QueryHelpers,
    TStaticMethods,
    TVirtuals,
    THydratedDocumentType,
    TModelType,
  > {
    /** Options of the model for Fieldseal: tenant path, keyspace, row binding. */
    encrypted?: ModelOptions
  }
}

/** Mongoose types whose values have a type tag of their own; all others are BSON. */
const TYPES: Readonly<Record<string, string>> = {
  String: 'string',
  Number: 'number',
  Boolean: 'boolean',
  BigInt: 'bigint',
  Date: 'date',
  Buffer: 'bytes',
}
/** BSON types whose equality is that of their bytes. */
const SEARCHABLE_BSON: readonly string[] = ['ObjectId', 'ObjectID', 'UUID']

/**
 * The annotation of a schema type, or undefined where the path is plain.
 *
 * @throws FieldsealError ERR_CONFIG_INVALID for anything but a boolean or an object: Mongoose's own types are lax
 */
export function annotationOf(schemaType: SchemaType, path: string): Annotation | undefined {
  const encrypted: unknown = (schemaType.options as { readonly encrypted?: unknown } | undefined)?.encrypted
  if (encrypted === undefined || encrypted === false) return undefined
  if (encrypted !== true && (typeof encrypted !== 'object' || encrypted === null || Array.isArray(encrypted)))
    throw configError(path, 'encrypted', 'true or { blindIndex, … }')
  const options = encrypted === true ? {} : (encrypted as FieldOptions) // core checks every option
  const type = hasSubtype(schemaType) ? 'bson' : (TYPES[schemaType.instance] ?? 'bson')
  const isIndexed = options.blindIndex !== undefined && options.blindIndex !== false
  if (type === 'bson' && isIndexed && !SEARCHABLE_BSON.includes(schemaType.instance))
    throw configError(path, 'blindIndex', `a path of type ${schemaType.instance} has no equality to search for`)
  return moved({ path, type, options }, schemaType.path, isIndexed)
}

/** Types whose values BSON tells from envelopes, so that both may stand at one path. */
const IN_PLACE: readonly string[] = ['string', 'number', 'boolean', 'date']

/** The annotation with `plaintextIn` resolved, which names a path of the schema that declares the field. */
function moved({ path, type, options }: Annotation, inSchema: string, isIndexed: boolean): Annotation {
  const { state = 'encrypted', plaintextIn } = options
  if (plaintextIn === undefined) {
    if (state !== 'encrypted' && (isIndexed || !IN_PLACE.includes(type)))
      throw configError(
        path,
        'plaintextIn',
        'only strings, numbers, booleans and dates without blindIndex turn into envelopes in place',
        'name the path of the old values, beside this one',
      )
    return { path, type, options }
  }
  const names = typeof plaintextIn === 'string' ? plaintextIn.split('.') : []
  const plainName = names.pop() ?? ''
  const isBeside = names.join('.') === inSchema.split('.').slice(0, -1).join('.') && !/(^|\.)\$\*?$/.test(path)
  if (plainName === '' || !isBeside)
    throw configError(path, 'plaintextIn', 'a path with the same parent, which is no array or Map of values')
  const full = [...path.split('.').slice(0, -1), escapedName(plainName)].join('.')
  return { path, type, options: { ...options, plaintextIn: full }, plainName }
}

/** Bytes with a subtype are kept as BSON keeps them. */
function hasSubtype({ options }: SchemaType): boolean {
  const { subtype } = options as { readonly subtype?: unknown }
  return subtype !== undefined && subtype !== 0
}

/** The model options of a schema; those of a discriminator stand on its base schema. */
export function modelOptionsOf(schema: Schema): ModelOptions {
  const options: unknown = (schema as unknown as { readonly options: { readonly encrypted?: unknown } }).options
    .encrypted
  if (options === undefined) return {}
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw configError('', 'encrypted', 'options of a schema: { tenantBy, keyspace, … }')
  return options // core checks every option
}
