import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto'

/** A report that can be kept as evidence: signed, or labelled as not. */
export interface Statement<R> {
  readonly report: R
  readonly signature:
    | 'unsigned'
    /** Ed25519 over the JSON text of `report`; the public key as SPKI in PEM, the signature in base64. */
    | { readonly algorithm: 'Ed25519'; readonly publicKey: string; readonly value: string }
}

export function statementOf<R>(report: R, key: KeyObject | undefined): Statement<R> {
  if (key === undefined) return { report, signature: 'unsigned' }
  const publicKey = createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString()
  const value = sign(null, Buffer.from(JSON.stringify(report)), key).toString('base64')
  return { report, signature: { algorithm: 'Ed25519', publicKey, value } }
}

/** Whether a statement was signed by the holder of `publicKey`; what the statement itself names as its key proves nothing. */
export function statementHolds({ report, signature }: Statement<unknown>, publicKey: KeyObject): boolean {
  if (signature === 'unsigned') return false
  return verify(null, Buffer.from(JSON.stringify(report)), publicKey, Buffer.from(signature.value, 'base64'))
}
