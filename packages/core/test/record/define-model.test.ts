import { expect, it } from 'vitest'
import { attach } from '../../src/attach.ts'
import { createFieldseal } from '../../src/create-fieldseal.ts'
import type { FieldDeclaration, ModelDeclaration } from '../../src/record/ports.ts'
import { arrayKeyStore } from '../support/array-key-store.ts'
import { clinic, PATIENTS } from '../support/clinic.ts'
import { fakeCmk } from '../support/fake-cmk.ts'

const define = (model: ModelDeclaration) => clinic({}, model).map
const single = (model: ModelDeclaration) =>
  attach(createFieldseal({ app: 'x', tenancy: 'single', keyStore: arrayKeyStore(), keys: { cmks: [fakeCmk('k')] } }), {
    name: 'test',
    ormVersion: '0',
  }).defineModel(model)
const withOptions = (options: object): ModelDeclaration => ({
  ...PATIENTS,
  options: { tenantBy: 'clinic_id', ...options },
})
const withField = (options: object, type = 'string'): ModelDeclaration => ({
  ...PATIENTS,
  fields: [{ path: 'email', type, options }],
})
const refused = (option: string, field?: string) =>
  expect.objectContaining({
    code: 'ERR_CONFIG_INVALID',
    details: expect.objectContaining({
      model: expect.anything() as unknown,
      operation: option,
      ...(field === undefined ? {} : { field }),
    }),
  })

it('refuses every model option that is wrong, naming it', () => {
  const wrong: [object, string][] = [
    [{ tennantBy: 'x' }, 'tennantBy'],
    [{ tenantBy: '' }, 'tenantBy'],
    [{ tenantBy: 7 }, 'tenantBy'],
    [{ tenantBy: undefined }, 'tenantBy'],
    [{ tenantBy: 'email' }, 'tenantBy'], // encrypted itself
    [{ id: '' }, 'id'],
    [{ id: 7 }, 'id'],
    [{ id: 'a\0b' }, 'id'],
    [{ id: '\ud800' }, 'id'],
    [{ id: 'é'.repeat(129) }, 'id'],
    [{ mode: 'direct', keyspace: { per: 'patient', of: 'patient' } }, 'mode'],
    [{ mode: 'direct', bindRow: 'never' }, 'bindRow'],
    [{ mode: 'direct', bindRow: 'when-known' }, 'bindRow'],
    [{ mode: 'direct', id: 'e\u0301' }, 'id'],
    [{ accepts: ['direct'], keyspace: { per: 'patient', of: 'patient' } }, 'accepts'],
    [{ mode: 'kms' }, 'mode'],
    [{ bindRow: 'always' }, 'bindRow'],
    [{ accepts: ['plaintext'] }, 'accepts'],
    [{ accepts: 'unbound' }, 'accepts'],
    [{ compoundIndexes: { person: { of: ['email'] } } }, 'compoundIndexes.of'],
    [{ keyspace: '' }, 'keyspace'],
    [{ keyspace: 'default' }, 'keyspace'],
    [{ keyspace: 'Payment' }, 'keyspace'],
    [{ keyspace: null }, 'keyspace'],
    [{ keyspace: 7 }, 'keyspace'],
    [{ keyspace: { of: 'patient' } }, 'keyspace'],
    [{ keyspace: { per: 'patient' } }, 'keyspace'],
    [{ keyspace: { per: 'patient', of: 'a:b' } }, 'keyspace'],
    [{ keyspace: { per: 'patient', of: 'patient', off: 1 } }, 'keyspace'],
    [{ keyspace: { per: 'email', of: 'patient' } }, 'keyspace'], // encrypted itself
  ]
  for (const [options, option] of wrong)
    expect(() => define(withOptions(options)), JSON.stringify(options)).toThrow(refused(option))
})

it('refuses every field option that is wrong, naming field and option', () => {
  const wrong: [object, string][] = [
    [{ blindindex: true }, 'blindindex'],
    [{ id: '' }, 'id'],
    [{ id: 'a\u0085' }, 'id'],
    [{ padToBytes: 0 }, 'padToBytes'],
    [{ padToBytes: 65_537 }, 'padToBytes'],
    [{ padToBytes: 1.5 }, 'padToBytes'],
    [{ padToBytes: '16' }, 'padToBytes'],
    [{ maxBytes: 0 }, 'maxBytes'],
    [{ maxBytes: 2 ** 31 }, 'maxBytes'],
    [{ encryptNull: 'yes' }, 'encryptNull'],
    [{ state: 'migrating' }, 'state'],
    [{ plaintextIn: 'old' }, 'plaintextIn'],
    [{ formerTypes: ['money'] }, 'formerTypes'],
    [{ formerTypes: 'string' }, 'formerTypes'],
    [{ values: [] }, 'values'],
    [{ values: 'A' }, 'values'],
    [{ values: ['A', 7] }, 'values'],
    [{ values: ['A', 'A'] }, 'values'],
    [{ values: ['\ud800'] }, 'values'],
    [{ blindIndex: 'yes' }, 'blindIndex'],
    [{ blindIndex: 1 }, 'blindIndex'],
    [{ blindIndex: null }, 'blindIndex'],
    [{ blindIndex: [] }, 'blindIndex'],
    [{ blindIndex: { uniqe: true } }, 'blindIndex.uniqe'],
    [{ blindIndex: { bits: 12 } }, 'blindIndex.bits'],
    [{ blindIndex: { bits: 8 } }, 'blindIndex.bits'],
    [{ blindIndex: { bits: 264 } }, 'blindIndex.bits'],
    [{ blindIndex: { unique: true, bits: 120 } }, 'blindIndex.unique'],
    [{ blindIndex: { unique: 'yes' } }, 'blindIndex.unique'],
    [{ blindIndex: { unique: null } }, 'blindIndex.unique'],
    [{ blindIndex: { unique: { where: 'x' } } }, 'blindIndex.unique'],
    [{ blindIndex: { unique: { where: {} } } }, 'blindIndex.unique'],
    [{ blindIndex: { unique: { were: { deletedAt: null } } } }, 'blindIndex.unique'],
    [{ blindIndex: { unique: { where: { deletedAt: null }, when: 1 } } }, 'blindIndex.unique'],
    [{ blindIndex: { unique: { where: { deletedAt: new Date(0) } } } }, 'blindIndex.unique'],
    [{ blindIndex: { unique: { where: { deletedAt: undefined } } } }, 'blindIndex.unique'],
    [{ blindIndex: { unique: { where: { rank: Number.NaN } } } }, 'blindIndex.unique'],
    [{ blindIndex: { unique: { where: { state: 'a\nb' } } } }, 'blindIndex.unique'],
    [{ blindIndex: { unique: { where: { email: null } } } }, 'blindIndex.unique'], // encrypted itself
    [{ blindIndex: { unique: { where: { 'email.local': null } } } }, 'blindIndex.unique'],
    [{ blindIndex: { unique: { where: { deletedAt: null } }, bits: 120 } }, 'blindIndex.unique'],
    [{ blindIndex: { unique: { where: { deletedAt: null } }, next: { bits: 64 } } }, 'blindIndex.unique'],
    [{ blindIndex: { normalize: 'loud' } }, 'blindIndex.normalize'],
    [{ blindIndex: { normalize: { id: 'email', version: 2, normalize: String } } }, 'blindIndex.normalize'],
    [{ blindIndex: { acrossTenants: 'yes' } }, 'blindIndex.acrossTenants'],
    [{ blindIndex: { next: 'lower' } }, 'blindIndex.next'],
    [{ blindIndex: { next: { normalise: 'lower' } } }, 'blindIndex.next.normalise'],
    [{ blindIndex: { next: { unique: true } } }, 'blindIndex.next.unique'],
    [{ blindIndex: { next: { bits: 12 } } }, 'blindIndex.next.bits'],
    [{ blindIndex: { unique: true, next: { bits: 64 } } }, 'blindIndex.unique'],
    [{ blindIndex: { next: {} } }, 'blindIndex.next'], // as it is
    [{ blindIndex: { normalize: 'email', next: { normalize: 'email', bits: 128 } } }, 'blindIndex.next'],
    [{ blindIndex: true, encryptNull: true }, 'blindIndex.blindIndex'],
    [{ blindIndex: true, values: ['A', 'B'] }, 'blindIndex.acceptLeak'],
  ]
  for (const [options, option] of wrong)
    expect(() => define(withField(options)), JSON.stringify(options)).toThrow(
      refused(option, (options as { id?: string }).id ?? 'email'),
    )
})

it('tells for which rows an index is unique', () => {
  const where = { deletedAt: null, state: 'open', rank: 1, active: true }
  const [index] = define(withField({ blindIndex: { unique: { where } } })).indexes
  expect(index).toMatchObject({ unique: true })
  expect(index?.uniqueWhere).toEqual(Object.entries(where).map(([path, equals]) => ({ path, equals })))
  expect(define(withField({ blindIndex: { unique: true } })).indexes[0]).toMatchObject({
    unique: true,
    uniqueWhere: [],
  })
})

it('refuses indexes that a type cannot have', () => {
  expect(() => define(withField({ blindIndex: true }, 'json'))).toThrow(refused('blindIndex.blindIndex'))
  expect(() => define(withField({ blindIndex: true }, 'boolean'))).toThrow(refused('blindIndex.acceptLeak'))
  expect(() => define(withField({ blindIndex: { normalize: 'lower' } }, 'date'))).toThrow(
    refused('blindIndex.normalize'),
  )
  expect(() => define(withField({ blindIndex: { next: { normalize: 'lower' } } }, 'date'))).toThrow(
    refused('blindIndex.next.normalize'),
  )
  expect(() => define(withField({ values: ['A'] }, 'number'))).toThrow(refused('values'))
  define(withField({ blindIndex: { acceptLeak: 'few-values' } }, 'boolean'))
  define(withField({ values: ['A'], blindIndex: { acceptLeak: 'few-values' } }))
})

it('refuses an unknown type, two fields of one id and two of one path', () => {
  const field = (path: string, id?: string): FieldDeclaration => ({
    path,
    type: 'string',
    options: id === undefined ? {} : { id },
  })
  expect(() => define(withField({}, 'money'))).toThrow(refused('type'))
  expect(() => define({ ...PATIENTS, fields: [field('a'), field('b', 'a')] })).toThrow(refused('id'))
  expect(() => define({ ...PATIENTS, fields: [field('a'), field('a', 'b')] })).toThrow(refused('path'))
})

it('wants a key that can be bound where binding is required', () => {
  for (const rowKey of [[], [{ path: 'id', kind: 'other' as const }]])
    expect(() => define({ ...withOptions({ bindRow: 'require' }), rowKey })).toThrow(refused('bindRow'))
  expect(define(withOptions({ bindRow: 'require' })).acceptsUnbound).toBe(false)
  expect(define(withOptions({ bindRow: 'require', accepts: ['unbound'] })).acceptsUnbound).toBe(true)
})

it('refuses an encrypted key column', () => {
  expect(() => define({ ...PATIENTS, rowKey: [{ path: 'ssn', kind: 'string' }] })).toThrow(refused('bindRow', 'ssn'))
})

it('knows no tenants in tenancy single', () => {
  single({ ...PATIENTS, options: {} })
  single({ ...PATIENTS, options: { tenantBy: 'none' } })
  expect(() => single(PATIENTS)).toThrow(refused('tenantBy'))
  expect(() => single({ ...withField({ blindIndex: { acrossTenants: true } }), options: {} })).toThrow(
    refused('blindIndex.acrossTenants'),
  )
})

it('prints no option value that it refuses', () => {
  expect(() => define(withField({ values: ['SECRET', 'SECRET'] }))).toThrow(expect.not.stringContaining('SECRET'))
})

it('takes one declaration twice and refuses two different ones under one id', () => {
  const { host } = clinic()
  host.defineModel(PATIENTS)
  expect(() => host.defineModel({ ...PATIENTS, fields: [] })).toThrow(
    expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }),
  )
  host.defineModel({ ...PATIENTS, fields: [], options: { ...PATIENTS.options, id: 'patients_archive' } })
})

it('moves an index only where its field is encrypted', () => {
  const { fieldseal } = clinic()
  const host = attach(fieldseal, { name: 'test', ormVersion: '0', fieldStates: true })
  const moving = { state: 'migrating', plaintextIn: 'old', blindIndex: { next: { normalize: 'lower' } } }
  expect(() => host.defineModel({ ...withField(moving), id: 'others' })).toThrow(refused('blindIndex.next', 'email'))
})
