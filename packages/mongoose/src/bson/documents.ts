/** A document or part of one, on its way to or from the driver. */
export type Doc = Record<string, unknown>

/** True for what BSON stores as a document with keys: plain objects, not values of BSON types, dates, buffers, arrays. */
export function isDoc(value: unknown): value is Doc {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !('_bsontype' in value) &&
    !(value instanceof Date) &&
    !(value instanceof RegExp) &&
    !(value instanceof Map) &&
    !ArrayBuffer.isView(value)
  )
}

/** The plain object that the driver would store of a Mongoose document; everything else as it is. */
export function plain(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('$__' in value)) return value
  const { toBSON } = value as { readonly toBSON?: () => unknown }
  return typeof toBSON === 'function' ? toBSON.call(value) : value
}

/** True for `{ $op: … }`. */
export function isOperators(value: unknown): value is Doc {
  return isDoc(value) && Object.keys(value).some((key) => key.startsWith('$'))
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

/** Removes a dotted path, and the objects that it leaves empty. */
export function removeAt(document: Doc, path: string): void {
  const [name = '', ...rest] = path.split('.')
  const child = document[name]
  if (rest.length === 0) Reflect.deleteProperty(document, name)
  else if (isDoc(child)) {
    removeAt(child, rest.join('.'))
    if (Object.keys(child).length === 0) Reflect.deleteProperty(document, name)
  }
}

/** Sets a key as data, `__proto__` too. */
export function setKey(target: Doc, key: string, value: unknown): void {
  if (key === '__proto__')
    Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true })
  else target[key] = value
}
