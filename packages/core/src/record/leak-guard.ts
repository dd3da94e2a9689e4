import { isEnvelope } from '../envelope/parse.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import { isEnvelopeText } from './plain-cell.ts'
import type { LeakGuard } from './ports.ts'

const REDACTED = '[redacted]'

export const leakGuard: LeakGuard = {
  assertSealed(field, outgoing) {
    if (outgoing === null || outgoing === undefined) return
    if (typeof outgoing === 'string' && isEnvelopeText(outgoing)) return
    if (isEnvelope(outgoing)) return
    throw new FieldsealError('ERR_PLAINTEXT_BLOCKED', { model: field.model, field: field.id })
  },
  assertPlain(field, outgoing) {
    if (field.state === 'plaintext' && !(typeof outgoing === 'string' && isEnvelopeText(outgoing))) return
    throw new FieldsealError(field.state === 'plaintext' ? 'ERR_VALUE_INVALID' : 'ERR_PLAINTEXT_BLOCKED', {
      model: field.model,
      field: field.id,
      ...(field.state === 'plaintext' && { reason: 'the text looks like an envelope and would be read as one' }),
    })
  },
  redact(map, value) {
    const copy = { ...value }
    for (const { path } of map.fields) if (Object.hasOwn(copy, path)) Reflect.set(copy, path, REDACTED)
    return copy
  },
}
