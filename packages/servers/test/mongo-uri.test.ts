import { describe, expect, it } from 'vitest'
import { hostOf, withDatabase, withHost } from '../src/mongo-uri.ts'

describe('a connection string', () => {
  it('gets another database, and keeps where its user is looked up', () => {
    expect(withDatabase('mongodb://127.0.0.1:27017', 'x')).toBe('mongodb://127.0.0.1:27017/x')
    expect(withDatabase('mongodb://a,b:1/old?replicaSet=rs', 'x')).toBe('mongodb://a,b:1/x?replicaSet=rs')
    expect(withDatabase('mongodb://u:p%40@a/', 'x')).toBe('mongodb://u:p%40@a/x?authSource=admin')
    expect(withDatabase('mongodb://u:p@a/old', 'x')).toBe('mongodb://u:p@a/x?authSource=old')
    expect(withDatabase('mongodb://u:p@a/old?authSource=y', 'x')).toBe('mongodb://u:p@a/x?authSource=y')
    expect(withDatabase('mongodb+srv://u:p@a.example/old', 'x')).toBe('mongodb+srv://u:p@a.example/x')
  })

  it('gets another host, and then asks that host only', () => {
    expect(withHost('mongodb://u:p@a:1/d?replicaSet=rs', 'b:2')).toBe('mongodb://u:p@b:2/d?directConnection=true')
  })

  it('names one host, at the usual port when it names none', () => {
    expect(hostOf('mongodb://u:p@a/d')).toBe('a:27017')
    expect(() => hostOf('mongodb://a,b/')).toThrow('must name one host')
    expect(() => hostOf('mongodb+srv://a/')).toThrow('must name one host')
  })

  it('is not quoted when it is none', () => {
    expect(() => withDatabase('mongo://u:secret@a', 'x')).toThrow('not a MongoDB connection string')
  })
})
