/** A request or an answer as the vendor's protos describe it, in camel case. */
export type GcpAnswer = Readonly<Record<string, unknown>>

/** The resource that a request names. */
export function nameOf({ name }: GcpAnswer): string {
  return typeof name === 'string' ? name : ''
}
