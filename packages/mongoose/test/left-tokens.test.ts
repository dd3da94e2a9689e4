import type { FieldState } from '@fieldseal/core/adapter'
import { hasMongo } from '@fieldseal/servers/vitest'
import { Schema } from 'mongoose'
import { beforeEach, describe, expect, it } from 'vitest'
import { type Deploys, useStages } from './support/stages.ts'

describe.runIf(hasMongo())('tokens whose value somebody took away who knows no tokens', () => {
  const stages = useStages('single')
  let deploys: Deploys
  const searchable = (state: FieldState, name: string) => ({
    type: String,
    encrypted: { state, blindIndex: true, plaintextIn: `${name}_old` },
  })

  beforeEach(async () => {
    deploys = stages.deploy(
      (state) =>
        new Schema({
          s: searchable(state, 's'),
          notes: [new Schema({ at: Number, text: searchable(state, 'text') }, { _id: false })],
        }) as never,
    )
    await deploys.plaintext.create([
      { _id: '000000000000000000000001', s: 'gone', notes: [{ at: 1, text: 'gone' }] },
      { _id: '000000000000000000000002', s: 'kept', notes: [{ at: 1, text: 'kept' }] },
    ] as never)
    await deploys.migrating.create({
      _id: '000000000000000000000003',
      s: 'sealed',
      notes: [{ at: 1, text: 'sealed' }],
    } as never)
    const taken = { $unset: { s_old: 1, 'notes.0.text_old': 1 } }
    await stages.direct(deploys).updateOne({ s_old: 'gone' }, taken)
  })

  const found = async (state: FieldState, filter: object) =>
    (await deploys[state].find(filter).sort({ _id: 1 }).exec()).map(({ _id }) => Number(String(_id).slice(-1)))

  it.each(['plaintext', 'migrating'] as const)('are found by no look-up in state %s', async (state) => {
    expect(await found(state, { s: 'gone' })).toEqual([])
    expect(await found(state, { s: { $in: ['gone', 'kept', 'sealed'] } })).toEqual([2, 3])
    expect(await found(state, { s: { $ne: 'gone' } })).toEqual([1, 2, 3])
    expect(await found(state, { s: null })).toEqual([1])
    expect(await found(state, { s: { $ne: null } })).toEqual([2, 3])
    expect(await found(state, { s: { $exists: true } })).toEqual([2, 3])
    expect(await found(state, { s: { $exists: false } })).toEqual([1])
    expect(await found(state, { 'notes.text': 'gone' })).toEqual([])
    expect(await found(state, { notes: { $elemMatch: { at: 1, text: 'gone' } } })).toEqual([])
    expect(await found(state, { notes: { $elemMatch: { at: 1, text: null } } })).toEqual([1])
    expect(await found(state, { 'notes.text': { $in: ['kept', 'sealed'] } })).toEqual([2, 3])
  })
})
