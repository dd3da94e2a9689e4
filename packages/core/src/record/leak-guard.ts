import { isEnvelope } from '../envelope/parse.ts'
import { envelopeFromText, TEXT_PREFIX } from '../envelope/text-form.ts'
import { FieldsealError } from '../errors/fieldseal-error.ts'
import type { LeakGuard } from './ports.ts'

const REDACTED = '[redacted]'

export const leakGuard: LeakGuard = {
  assertSealed(field, outgoing) {
    if (outgoing === null || outgoing === undefined) return
    if (typeof outgoing === 'string' && outgoing.startsWith(TEXT_PREFIX) && isTextForm(outgoing)) return
    if (isEnvelope(outgoing)) return
    throw new FieldsealError('ERR_PLAINTEXT_BLOCKED', { model: field.model, field: field.id })
  },
  redact(map, value) {
    const copy = { ...value }
    for (const { path } of map.fields) if (Object.hasOwn(copy, path)) Reflect.set(copy, path, REDACTED)
    return copy
  },
}

function isTextForm(text: string): boolean {
  try {
    return isEnvelope(envelopeFromText(text))
  } catch {
    return false
  }
}
