import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import type { ValueTransformer } from 'typeorm'

/** What a peer does with one text. None of them knows rows, tenants, key rotation or search. */
export interface Peer {
  readonly name: string
  seal(text: string): string
  open(stored: string): string
}

// CommonJS packages whose type declarations do not resolve under nodenext; only what is called here is described.
const load = createRequire(import.meta.url)

interface Cloak {
  generateKey(): string
  parseKeySync(key: string): unknown
  encryptStringSync(text: string, key: unknown): string
  decryptStringSync(text: string, key: unknown): string
}
interface TypeormEncrypted {
  readonly EncryptionTransformer: new (options: object) => ValueTransformer
}

/** typeorm-encrypted's transformer with its authenticated cipher. */
export function typeormEncryptedTransformer(): ValueTransformer {
  const { EncryptionTransformer } = load('typeorm-encrypted') as TypeormEncrypted
  return new EncryptionTransformer({
    key: randomBytes(32).toString('hex'),
    algorithm: 'aes-256-gcm',
    ivLength: 12,
    authTagLength: 16,
  })
}

export function peers(): readonly Peer[] {
  const cloak = load('@47ng/cloak') as Cloak
  const key = cloak.parseKeySync(cloak.generateKey())
  const transformer = typeormEncryptedTransformer()
  return [
    {
      name: 'typeorm-encrypted 0.8.0 (gcm)',
      seal: (text) => String(transformer.to(text)),
      open: (stored) => String(transformer.from(stored)),
    },
    {
      name: '@47ng/cloak 1.2.0',
      seal: (text) => cloak.encryptStringSync(text, key),
      open: (stored) => cloak.decryptStringSync(stored, key),
    },
  ]
}
