import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { debianMirror } from '../src/documentdb/debian-mirror.ts'

describe("a machine's Debian mirror", () => {
  let etc: string
  const write = (name: string, text: string) => writeFileSync(path.join(etc, name), text)
  beforeEach(() => {
    etc = mkdtempSync(path.join(tmpdir(), 'etc-'))
    mkdirSync(path.join(etc, 'apt/sources.list.d'), { recursive: true })
    write('os-release', 'NAME="Debian GNU/Linux"\nVERSION_CODENAME=bookworm\nID=debian\n')
  })
  afterEach(() => rmSync(etc, { recursive: true }))

  it('is read from a list, with or without options', () => {
    write('apt/sources.list', '# deb http://old.test/debian bookworm main\ndeb-src http://src.test/d bookworm main\n')
    expect(debianMirror(etc)).toBeUndefined()
    write('apt/sources.list.d/a.list', 'deb http://other.test/x stable main\n')
    write(
      'apt/sources.list.d/b.list',
      'deb [arch=amd64 signed-by=/k.gpg] http://a.test/debian/ bookworm main contrib\n',
    )
    expect(debianMirror(etc)).toBe('http://a.test/debian/')
  })

  it('is read from stanzas; that of security updates is another', () => {
    write(
      'apt/sources.list.d/debian.sources',
      `Types: deb
# a comment
URIs: http://security.test/debian-security
Suites: bookworm-security
Components: main

Types: deb deb-src
URIs: http://a.test/mirror http://b.test/mirror
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`,
    )
    expect(debianMirror(etc)).toBe('http://a.test/mirror')
  })

  it('is none where the source is switched off, or the system is another', () => {
    const stanza = 'Types: deb\nURIs: http://a.test/debian\nSuites: bookworm\nComponents: main\n'
    write('apt/sources.list.d/debian.sources', `Enabled: no\n${stanza}`)
    expect(debianMirror(etc)).toBeUndefined()
    write('apt/sources.list.d/debian.sources', stanza)
    expect(debianMirror(etc)).toBe('http://a.test/debian')
    write('os-release', 'ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=bookworm\n')
    expect(debianMirror(etc)).toBeUndefined()
  })
})
