// Compiled by `typecheck`, never run: each line under @ts-expect-error must be an error.
import { createFieldseal } from '@fieldseal/core'
import { EntitySchema, type DataSource } from 'typeorm'
import { EncryptedColumn, EncryptedModel, encryptedSchemaColumn, typeormKeyStore, withFieldseal } from '../src/index.ts'

@EncryptedModel<Right>({
  id: 'right',
  tenantBy: 'clinicId',
  keyspace: { per: 'id', of: 'patient' },
  bindRow: 'require',
})
export class Right {
  id!: string
  clinicId!: string
  @EncryptedColumn() email!: string
  @EncryptedColumn({ blindIndex: { normalize: 'email', unique: true } }) login!: string
  @EncryptedColumn({ blindIndex: { normalize: { id: 'mine', version: 1, normalize: (value: string) => value } } })
  own!: string
  @EncryptedColumn({ type: 'date' }) born!: Date
  @EncryptedColumn({ type: 'day' }) day!: string
  @EncryptedColumn({ type: 'bigint' }) income!: bigint
  @EncryptedColumn({ type: 'number', nullable: true }) salary!: number | null
  @EncryptedColumn({ type: 'boolean' }) active!: boolean
  @EncryptedColumn({ type: 'json', nullable: true }) history!: { at: string }[] | null
  @EncryptedColumn({ type: 'json' }) profile!: { a: number }
  @EncryptedColumn({ type: 'bytes', storage: 'binary' }) scan!: Uint8Array
  @EncryptedColumn({ nullable: true, encryptNull: true, select: false }) note?: string | null
  @EncryptedColumn({ values: ['A', 'B'], blindIndex: { acceptLeak: 'few-values' } }) group!: 'A' | 'B'
}

export class Wrong {
  // @ts-expect-error Type 'number' is not assignable to type 'string'
  @EncryptedColumn() age!: number
  // @ts-expect-error null without nullable: true
  @EncryptedColumn() nick!: string | null
  // @ts-expect-error null without nullable: true, json too
  @EncryptedColumn({ type: 'json' }) history!: string[] | null
  // @ts-expect-error a day is a text
  @EncryptedColumn({ type: 'day' }) born!: Date
  // @ts-expect-error an instant is a Date
  @EncryptedColumn({ type: 'date' }) seen!: string
  // @ts-expect-error no such type
  @EncryptedColumn({ type: 'text' }) text!: string
  // @ts-expect-error no such option
  @EncryptedColumn({ blindIdnex: true }) index!: string
  // @ts-expect-error no such option of the index
  @EncryptedColumn({ blindIndex: { uniqe: true } }) unique!: string
  // @ts-expect-error no such normaliser
  @EncryptedColumn({ blindIndex: { normalize: 'upper' } }) upper!: string
}

// @ts-expect-error no such property
@EncryptedModel<NoSuchProperty>({ tenantBy: 'clinic' })
export class NoSuchProperty {
  clinicId!: string
}

@EncryptedModel<Pairs>({
  compoundIndexes: {
    person: { of: ['name', 'born'], normalize: { name: 'lower' }, unique: { where: { deleted: null, rank: 1 } } },
  },
})
export class Pairs {
  @EncryptedColumn() name!: string
  @EncryptedColumn({ type: 'day' }) born!: string
  @EncryptedColumn({ blindIndex: { unique: { where: { deleted: null } } } }) email!: string
  // @ts-expect-error an index can be told of texts, numbers, booleans and null
  @EncryptedColumn({ blindIndex: { unique: { where: { deleted: new Date() } } } }) login!: string
  deleted!: Date | null
  rank!: number
}
// @ts-expect-error no such property
EncryptedModel<Pairs>({ compoundIndexes: { person: { of: ['name', 'surname'] } } })
// @ts-expect-error no such property to normalise
EncryptedModel<Pairs>({ compoundIndexes: { person: { of: ['name', 'born'], normalize: { surname: 'lower' } } } })
// @ts-expect-error no such property among the conditions
EncryptedModel<Pairs>({ compoundIndexes: { person: { of: ['name', 'born'], unique: { where: { gone: null } } } } })
// @ts-expect-error no such option
EncryptedModel<Pairs>({ compoundIndexes: { person: { off: ['name', 'born'] } } })

interface User {
  id: string
  email: string
}
export const users = new EntitySchema<User>({
  name: 'users',
  columns: { id: { type: 'uuid', primary: true }, email: encryptedSchemaColumn({ blindIndex: true }) },
})
EncryptedModel<User>({ tenantBy: 'none' })(users)
// @ts-expect-error no such property
EncryptedModel<User>({ tenantBy: 'clinicId' })(users)

declare const dataSource: DataSource
const fieldseal = createFieldseal({
  app: 'a',
  tenancy: 'multi',
  keyStore: typeormKeyStore(dataSource.options),
  keys: { cmks: [] },
})
export const same: DataSource = withFieldseal(dataSource, { fieldseal, tenantBy: 'clinicId', storage: 'binary' })
// @ts-expect-error no such storage
withFieldseal(dataSource, { fieldseal, storage: 'blob' })
// @ts-expect-error no Fieldseal
withFieldseal(dataSource, {})
