/** A name as part of a field's id: `~` → `~0`, `.` → `~1`, a leading `$` → `~2`. */
export function escapedName(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('.', '~1').replace(/^\$/, '~2')
}
