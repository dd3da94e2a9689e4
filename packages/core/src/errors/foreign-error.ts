/** A member of anything that was thrown, also of what throws when it is asked. */
export function memberOf(value: unknown, name: string): unknown {
  try {
    return (typeof value === 'object' && value !== null) || typeof value === 'function'
      ? (value as Record<string, unknown>)[name] // anything may be asked for a member
      : undefined
  } catch {
    return undefined
  }
}

/** The same, where it is a string; otherwise `''`. */
export function textIn(value: unknown, name: string): string {
  const text = memberOf(value, name)
  return typeof text === 'string' ? text : ''
}
