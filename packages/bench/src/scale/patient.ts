export const TENANT = 'clinic-7'
export const FIELDS = ['email', 'ssn', 'note'] as const

/** The encrypted fields of the n-th patient. */
export function patient(n: number): Readonly<Record<(typeof FIELDS)[number], string>> {
  return { email: `patient-${n}@example.org`, ssn: `123-45-${n}`, note: 'a short note about a visit' }
}
