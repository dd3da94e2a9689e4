import { randomBytes } from 'node:crypto'
import { assertCmkName, changeKeyFile, fileError, type StoredCmk, withLock, writeKeyFile } from './key-file.ts'

const DAY_MS = 86_400_000

/** Makes a key file of mode 0600 with new CMKs. Never overwrites. @throws FieldsealError ERR_KMS_CONFIG */
export function createKeyFile(file: string, names: readonly string[] = ['default']): void {
  names.forEach(assertCmkName)
  const cmks = new Map(names.map((name) => [name, newCmk()]))
  withLock(file, () => writeKeyFile(file, { id: randomBytes(12).toString('hex'), cmks }, 'create'))
}

/** What can be done to one CMK of a key file; running processes follow at their next call. */
export type CmkChange =
  | 'add'
  | 'rotate'
  | 'disable'
  | 'enable'
  | 'cancel-deletion'
  | 'destroy'
  | { readonly deleteInDays: number }

/** Changes one CMK. @throws FieldsealError ERR_KMS_CONFIG when its state does not allow it */
export function changeCmk(file: string, name: string, change: CmkChange): void {
  assertCmkName(name)
  changeKeyFile(file, ({ id, cmks }) => {
    const current = cmks.get(name)
    if (change === 'add' && current !== undefined) throw fileError(`the CMK ${name} exists already`)
    if (change !== 'add' && current === undefined) throw fileError(`the key file holds no CMK ${name}`)
    return { id, cmks: new Map([...cmks, [name, current === undefined ? newCmk() : changed(name, current, change)]]) }
  })
}

function changed(name: string, { state, versions }: StoredCmk, change: CmkChange): StoredCmk {
  const from = (allowed: readonly StoredCmk['state'][], next: StoredCmk): StoredCmk => {
    if (!allowed.includes(state)) throw fileError(`the CMK ${name} is ${state}`)
    return next
  }
  if (typeof change === 'object') {
    if (!Number.isFinite(change.deleteInDays) || change.deleteInDays < 0) throw fileError('days must not be negative')
    return from(['enabled', 'disabled'], {
      state: 'pending-deletion',
      deletesAt: Date.now() + Math.round(change.deleteInDays * DAY_MS),
      versions,
    })
  }
  switch (change) {
    case 'rotate':
      return from(['enabled'], { state, versions: [...versions, newVersion((versions.at(-1)?.version ?? 0) + 1)] })
    case 'disable':
      return from(['enabled', 'disabled'], { state: 'disabled', versions })
    case 'enable':
      return from(['enabled', 'disabled'], { state: 'enabled', versions })
    case 'cancel-deletion':
      return from(['pending-deletion'], { state: 'disabled', versions })
    case 'destroy':
      return from(['enabled', 'disabled', 'pending-deletion'], { state: 'destroyed', versions: [] })
    case 'add':
      throw fileError(`the CMK ${name} exists already`)
  }
}

function newCmk(): StoredCmk {
  return { state: 'enabled', versions: [newVersion(1)] }
}

function newVersion(version: number): StoredCmk['versions'][number] {
  return { version, key: randomBytes(32), createdAt: Date.now() }
}
