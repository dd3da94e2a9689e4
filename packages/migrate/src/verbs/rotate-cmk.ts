import { FieldsealError, rotateCmk as rotateOne, type RotatedCmk } from '@fieldseal/core/adapter'
import type { Surroundings } from '../engine/target.ts'
import { assertKnown } from '../keys/key-versions.ts'

const ATTEMPTS = 5

/** Wraps the KEKs of a tenant anew by the newest version of its CMKs. Writes key records only, never a row. */
export async function rotateCmk(
  surroundings: Surroundings,
  { tenant }: { readonly tenant?: string } = {},
): Promise<RotatedCmk> {
  await assertKnown(surroundings, { tenant })
  const target = tenant === undefined ? {} : { tenant }
  let total = await rotateOne(surroundings.fieldseal, target)
  for (let attempt = 1; total.changed > 0; attempt++) {
    if (attempt === ATTEMPTS)
      throw new FieldsealError('ERR_KEY_STORE_UNAVAILABLE', {
        ...target,
        reason: `${total.changed} key records change again and again`,
        hint: 'run it again',
      })
    const again = await rotateOne(surroundings.fieldseal, target)
    total = { ...again, rewritten: total.rewritten + again.rewritten, wraps: total.wraps + again.wraps }
  }
  return total
}
