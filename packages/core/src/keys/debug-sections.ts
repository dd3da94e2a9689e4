/**
 * Whether a variable such as NODE_DEBUG turns a section on, read as Node does: names with commas between, `*` for anything,
 * any case. For providers that refuse to run while the machine would print keys.
 */
export function turnsOnSection(sections: string | undefined, name: string): boolean {
  const pattern = (sections ?? '')
    .replace(/[|\\{}()[\]^$+?.]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll(',', '$|^')
  return new RegExp(`^${pattern}$`, 'i').test(name)
}
