import type { Normalizer, NormalizerName } from '../blind-index/normalize.ts'

export type { Normalizer, NormalizerName }

/** A blind index on one field. */
export interface BlindIndexOptions {
  /**
   * How values are made equal before the token is computed: `none`, `trim`, `lower`, `email`, `digits`, or one of your own,
   * `{ id, version, normalize }`. @defaultValue 'none'
   */
  readonly normalize?: NormalizerName | Normalizer
  /**
   * Unique per tenant, or across tenants with `acrossTenants`; with `where` among the rows that meet it alone, as in
   * `{ where: { deletedAt: null } }` for soft delete. @defaultValue false
   */
  readonly unique?: boolean | { readonly where: UniqueWhere }
  /** Bits of the token, a multiple of 8 from 16 to 256. Fewer than 128 = truncated: every hit is filtered after decryption. @defaultValue 128 */
  readonly bits?: number
  /** One index key for all tenants: a login before the tenant is known. @defaultValue false */
  readonly acrossTenants?: boolean
  /** Booleans and declared enumerations have so few values that equal tokens tell them: say so to index them anyway. */
  readonly acceptLeak?: 'few-values'
  /**
   * What the index is to become: deploy it everywhere, run `reindex`, then make it the index's own options. Both are read
   * meanwhile, and new tenants begin with it. Queries that one of the two cannot answer are refused.
   */
  readonly next?: IndexShapeOptions
}

/**
 * Which rows a unique index is about: equalities over plain columns or paths, all of which must hold. `null` is a database
 * NULL, or a path that is missing.
 */
export type UniqueWhere<P extends string = string> = Readonly<{ [K in P]?: PlainScalar }>
/** A value that a database index can be told of. */
export type PlainScalar = string | number | boolean | null

/** What `reindex` changes: how values are made equal, and how wide tokens are. */
export interface IndexShapeOptions {
  /** @defaultValue 'none' */
  readonly normalize?: NormalizerName | Normalizer
  /** @defaultValue 128 */
  readonly bits?: number
}

/** How far a field is on its way from plaintext. */
export type FieldState = 'plaintext' | 'migrating' | 'encrypted'

/** Options of one encrypted field, the same for every ORM. */
export interface FieldOptions {
  /** Makes equality, `IN` and uniqueness work; `true` or options. Without one, a query on the field throws. @defaultValue none */
  readonly blindIndex?: boolean | BlindIndexOptions
  /** Declared enumeration: other values are refused, all are padded to the longest. */
  readonly values?: readonly string[]
  /** Pads the encoded value to a positive multiple of this many bytes, 1–65,536. @defaultValue none; 16 for bigint and `encryptNull` */
  readonly padToBytes?: number
  /** Longest encoded value in bytes, checked before encryption and before decryption. @defaultValue 1_048_576 */
  readonly maxBytes?: number
  /** Encrypts null as well; a database NULL is an error then. @defaultValue false */
  readonly encryptNull?: boolean
  /**
   * The way of a field that holds plaintext, one deploy each: `plaintext` (written as before, with tokens; envelopes are
   * read) → `migrating` (written encrypted, both are read) → `encrypted` (plaintext is an error). `migrating` does not
   * resist whoever can write to the database.
   * @defaultValue 'encrypted'
   */
  readonly state?: FieldState
  /**
   * Column or path that holds the old plaintext until the field is `encrypted`; required where the field's own place
   * cannot tell plaintext from envelopes. @defaultValue the field's own place
   */
  readonly plaintextIn?: string
  /** Frozen name of the field in the authenticated data; set it before you rename the column. @defaultValue the stored path */
  readonly id?: string
  /** Types that are still readable after a change of type. @defaultValue [] */
  readonly formerTypes?: readonly string[]
}

/** One token for the values of several fields together; none where one of them is null. */
export interface CompoundIndexOptions<P extends string = string> {
  /** Two or more encrypted properties. Their order is part of the token. */
  readonly of: readonly P[]
  /** As that of a blind index. @defaultValue false */
  readonly unique?: boolean | { readonly where: UniqueWhere<P> }
  /** How the values of each are made equal here, whatever their own blind index does. @defaultValue 'none' */
  readonly normalize?: { readonly [K in P]?: NormalizerName | Normalizer }
}

/** `kek`: DEKs wrapped by the tenant's KEK; `direct`: by the CMK itself. */
export type KeyMode = 'kek' | 'direct'
export type BindRow = 'when-known' | 'require' | 'never'

/** Options of one model. Property names are those of the model in its ORM. */
export interface ModelOptions<P extends string = string> {
  /** Frozen name of the model in the authenticated data. @defaultValue the root table or collection */
  readonly id?: string
  /** Property with the row's tenant, or `'none'`: a database or schema per tenant, and the only value in tenancy `single`. @defaultValue that of the registration; tenancy `multi` needs one of them */
  readonly tenantBy?: P | 'none'
  /** A data class (`'payment'`), or one keyspace per data subject. @defaultValue one per tenant */
  readonly keyspace?: string | { readonly per: P; readonly of: string }
  /**
   * `when-known`: values are bound to their row where its key is known when they are written; `require`: other writes and
   * values are refused; `never`. @defaultValue 'when-known'
   */
  readonly bindRow?: BindRow
  /**
   * `kek`: DEKs wrapped by the tenant's KEK; `direct`: by the CMK itself, so that the first read of a row is a call to the
   * customer's KMS. @defaultValue 'kek'
   */
  readonly mode?: KeyMode
  /** Layouts still readable while old rows remain: `kek`, `direct`, `unbound`. @defaultValue [] */
  readonly accepts?: readonly ('kek' | 'direct' | 'unbound')[]
  /** Indexes over several fields together, by id: what a look-up of all of them uses. @defaultValue none */
  readonly compoundIndexes?: Readonly<Record<string, CompoundIndexOptions<P>>>
}
