/** A document or part of one, on its way to or from the driver. */
export type Doc = Record<string, unknown>

/** True for what BSON stores as a document with keys: plain objects, not values of BSON types, dates, buffers, arrays. */
export function isDoc(value: unknown): value is Doc {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    (Reflect.get(value, '_bsontype') ?? undefined) === undefined && // null there makes no type: the driver stores the keys
    !(value instanceof Date) &&
    !(value instanceof RegExp) &&
    !(value instanceof Map) &&
    !ArrayBuffer.isView(value)
  )
}

/** What the driver would store of a value: it asks all that have `toBSON`, Mongoose's documents, arrays and Maps among them. */
export function plain(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  const toBSON: unknown = Reflect.get(value, 'toBSON')
  return typeof toBSON === 'function' ? (toBSON.call(value) as unknown) : value
}

/** True for `{ $op: … }`. */
export function isOperators(value: unknown): value is Doc {
  return isDoc(value) && Object.keys(value).some((key) => key.startsWith('$'))
}

/** What MongoDB makes of `$set: { 'tags.1': … }` where there is no array yet: `{ 1: … }`. */
export function isIndexed(value: unknown): value is Doc {
  const keys = isDoc(value) ? Object.keys(value) : []
  return keys.length > 0 && keys.every((key) => /^\d+$/.test(key))
}

/** The value at a dotted path of plain documents. */
export function valueAt(document: unknown, path: string): unknown {
  let value = document
  for (const name of path.split('.')) {
    const at = plain(value)
    if (typeof at !== 'object' || at === null) return undefined
    value = at instanceof Map ? at.get(name) : Object.hasOwn(at, name) ? Reflect.get(at, name) : undefined
  }
  return value
}

/** Removes a dotted path, in every element of the arrays that it crosses. */
export function removeAt(holder: unknown, path: string): void {
  if (Array.isArray(holder)) {
    for (const each of holder) removeAt(each, path)
    return
  }
  if (!isDoc(holder)) return
  const [name = '', ...rest] = path.split('.')
  if (rest.length === 0) Reflect.deleteProperty(holder, name)
  else removeAt(holder[name], rest.join('.'))
}

/** Sets a key as data, `__proto__` too. A `toBSON` is none: the driver would store what it returns in place of the copy. */
export function setKey(target: Doc, key: string, value: unknown): void {
  if (key === 'toBSON' && typeof value === 'function') return
  if (key === '__proto__')
    Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true })
  else target[key] = value
}

/** The keys of a document that are data. */
export function copyOf(document: Doc): Doc {
  const copy: Doc = {}
  for (const [key, value] of Object.entries(document)) setKey(copy, key, value)
  return copy
}

/** Containers copied, BSON values shared: opening replaces leaves of a document, it never changes them. */
export function deepCopyOf(value: unknown): unknown {
  const given = plain(value)
  if (Array.isArray(given)) return given.map(deepCopyOf)
  return isDoc(given) ? Object.fromEntries(Object.entries(given).map(([key, each]) => [key, deepCopyOf(each)])) : given
}
